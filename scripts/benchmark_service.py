"""Measure `blinddiff serve` under the load of many clients at once.

python scripts/benchmark_service.py [--clients 20] [--photographs 3] [--side 48] [--scale 2] [--queue 16] [--threads N]
    [--out results/performance/service.json]

Run it on an idle machine. Starts a server, and lets each client send a few photographs, one after another. A client
that is refused with 429 waits as `Retry-After` says, and sends the photograph again. The request latency is that of
the requests with a result; the completion time begins with the first attempt.
"""

import argparse
import io
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from benchmark_record import load_average, write_record
from PIL import Image

TIMEOUT = 900


@dataclass
class Outcome:
    """What one client saw: seconds of requests with a result and of completions, refusals, and other answers."""

    latencies: list[float] = field(default_factory=list)
    completions: list[float] = field(default_factory=list)
    refused: int = 0
    errors: int = 0


@contextmanager
def running_server(queue: int, threads: int | None) -> Iterator[str]:
    """Run a server; yields its address when it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "blinddiff", "serve", "--port", str(port), "--queue", str(queue)]
    command += [] if threads is None else ["--threads", str(threads)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if not process.stdout.readline().startswith("http"):
            raise SystemExit("the server did not start")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def photograph(side: int, seed: int) -> bytes:
    """A PNG file of side x side pixels of smooth noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "png")
    return buffer.getvalue()


def send(address: str, image: bytes, scale: int, photographs: int) -> Outcome:
    """Send a photograph some times, one after another."""
    outcome = Outcome()
    with httpx.Client(base_url=address, timeout=TIMEOUT) as http:
        for _ in range(photographs):
            started = time.perf_counter()
            while True:
                sent = time.perf_counter()
                try:
                    answer = http.post("/restore", files={"photograph": ("photo.png", image)}, data={"scale": scale})
                except httpx.HTTPError:
                    outcome.errors += 1
                    break
                if answer.status_code == 429:
                    outcome.refused += 1
                    time.sleep(float(answer.headers["retry-after"]))
                    continue
                if answer.status_code == 200:
                    outcome.latencies.append(time.perf_counter() - sent)
                    outcome.completions.append(time.perf_counter() - started)
                else:
                    outcome.errors += 1
                break
    return outcome


def percentiles(seconds: list[float]) -> dict[str, float]:
    """The median and the 95th percentile."""
    return {name: round(float(np.quantile(seconds, q)), 3) for name, q in (("p50", 0.5), ("p95", 0.95))}


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--photographs", type=int, default=3, help="of each client")
    parser.add_argument("--side", type=int, default=48, help="of a photograph, in pixels")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--queue", type=int, default=16)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("results/performance/service.json"))
    args = parser.parse_args()
    load = load_average()
    with running_server(args.queue, args.threads) as address:
        alone = [
            send(address, photograph(args.side, 0), args.scale, 1).latencies for _ in range(3)
        ]  # the first is slower
        started = time.perf_counter()
        with ThreadPoolExecutor(args.clients) as clients:
            jobs = [
                clients.submit(send, address, photograph(args.side, seed), args.scale, args.photographs)
                for seed in range(args.clients)
            ]
            outcomes = [job.result() for job in jobs]
        seconds = time.perf_counter() - started
    latencies = [value for outcome in outcomes for value in outcome.latencies]
    if not latencies or not alone[-1]:
        raise SystemExit("no request had a result")
    options = f"--clients {args.clients} --photographs {args.photographs} --side {args.side} --scale {args.scale}"
    record: dict[str, Any] = {
        "command": f"python scripts/benchmark_service.py {options} --queue {args.queue}"
        + ("" if args.threads is None else f" --threads {args.threads}"),
        "images_per_second": round(len(latencies) / seconds, 3),
        "request_latency": percentiles(latencies),
        "completion": percentiles([value for outcome in outcomes for value in outcome.completions]),
        "alone": round(statistics.median(value for run in alone[1:] for value in run), 3),
        "images": len(latencies),
        "refused": sum(outcome.refused for outcome in outcomes),
        "errors": sum(outcome.errors for outcome in outcomes),
        "cores": os.cpu_count(),
        "load_before": load,
    }
    write_record(args.out, record)


if __name__ == "__main__":
    main()
