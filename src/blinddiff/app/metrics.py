"""What `/metrics` reports, in the text format of Prometheus."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)


class Metrics:
    """Counters of one server, in a registry of its own.

    Attributes:
        requests: finished requests of programs, by route and HTTP status.
        latency: their duration in seconds, waiting included, by route.
        admitted: requests of programs that wait or are worked on.
        work: duration in seconds of restorations and estimates, from the page too, without waiting, by outcome:
            ``done``, ``refused`` for bad input, ``stopped`` after a cancellation or the deadline, or ``failed``.
        pixels: pixels of all results.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels: dict[str, Any] = {"registry": self.registry, "namespace": "blinddiff"}
        text = "Finished requests of programs"
        self.requests = Counter("requests", text, ["route", "status"], **labels)
        text = "Duration of requests of programs, waiting included"
        self.latency = Histogram("request_seconds", text, ["route"], buckets=_SECONDS, **labels)
        self.admitted = Gauge("requests_admitted", "Requests of programs that wait or are worked on", **labels)
        text = "Duration of the work on restorations and estimates"
        self.work = Histogram("work_seconds", text, ["outcome"], buckets=_SECONDS, **labels)
        self.pixels = Counter("result_pixels", "Pixels of all results", **labels)
        ProcessCollector(registry=self.registry)

    def text(self) -> bytes:
        """All metrics in the text format."""
        return generate_latest(self.registry)
