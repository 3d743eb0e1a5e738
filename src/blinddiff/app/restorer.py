"""Runs the work of all requests in one thread, one after another. Reports progress; stops what nobody waits for."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from blinddiff.app import Limits
from blinddiff.app.jobs import Progress, Restored, estimate_kernel, restore
from blinddiff.app.metrics import Metrics
from blinddiff.app.request import Request
from blinddiff.app.threads import Stopped, check_stop_in_layers, run_in_thread
from blinddiff.app.visitor_files import VisitorFiles
from blinddiff.errors import BlindDiffError, ParameterError
from blinddiff.restoring.photograph import RestoreSettings
from blinddiff.restoring.plan import Plan, plan_restoration
from blinddiff.sampling.pipeline import BlindDiffPipeline

Value = TypeVar("Value")
_LATEST = 0.3  # weight of the latest work in the mean duration


class Restorer:
    """Handles requests from the page and over HTTP, one at a time.

    Attributes:
        metrics: counters of the work, see `Metrics`.
        mean_seconds: mean duration of the latest restorations and estimates.
    """

    def __init__(self, pipeline: BlindDiffPipeline, limits: Limits, files: VisitorFiles) -> None:
        self.pipeline, self.limits, self.files, self.metrics = pipeline, limits, files, Metrics()
        self.mean_seconds = 1.0
        self._executor = ThreadPoolExecutor(1, "restoring")
        check_stop_in_layers(pipeline.network)

    async def restore(self, job: Request, visitor: str) -> AsyncGenerator[Progress | Restored, None]:
        """Restore a photograph: yield the progress, also every second without any, and then the result.

        Raises BlindDiffError if the request cannot be fulfilled.
        """
        for upload in filter(None, (job.photograph, job.kernel_file, job.mask_file)):
            self.files.keep_upload(visitor, upload)
        folder = self.files.new_folder(visitor)
        started, last = time.perf_counter(), Progress("Waiting for the machine")

        def work(send: Callable[[Progress | Restored], None]) -> None:
            # `restore` returns the result after releasing memory. If it sent the result before, a heartbeat during the
            # release would follow it.
            send(self._timed(lambda: restore(self.pipeline, job, self.limits, folder, send)))

        try:
            yield last
            async with contextlib.aclosing(run_in_thread(self._executor, work, heartbeat=1.0)) as events:
                async for event in events:
                    seconds = time.perf_counter() - started
                    if seconds > self.limits.seconds:
                        raise ParameterError(
                            f"the restoration took more than {self.limits.seconds:g} seconds and was stopped: choose "
                            "a smaller scale, fewer samples or steps, or crop the photograph"
                        )
                    if isinstance(event, Progress):
                        last = event
                    elif event is not None:
                        self.metrics.pixels.inc(event.facts["width"] * event.facts["height"])
                    # Send at each heartbeat too: Gradio notices only while sending that a visitor has left.
                    yield Progress(f"{last.text}, {seconds:.0f} s", last.share) if event is None else event
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    async def estimate(self, job: Request) -> dict[str, Any]:
        """The measurements of `estimate_kernel`. Raises BlindDiffError if the request cannot be fulfilled."""

        def work(send: Callable[[dict[str, Any]], None]) -> None:
            send(self._timed(lambda: estimate_kernel(self.pipeline, job, self.limits)))

        async with contextlib.aclosing(run_in_thread(self._executor, work, heartbeat=1.0)) as events:
            [facts] = [event async for event in events if event is not None]
        return facts

    async def plan(self, height: int, width: int, settings: RestoreSettings) -> Plan:
        """The plan for a photograph. Waits for restorations that run, because it may measure the speed."""
        plan = self._executor.submit(plan_restoration, height, width, settings, self.pipeline)
        return await asyncio.wrap_future(plan)

    def _timed(self, work: Callable[[], Value]) -> Value:
        """The value of the work, whose duration and outcome are counted."""
        started, outcome = time.perf_counter(), "failed"
        try:
            value = work()
            outcome = "done"
            return value
        except BlindDiffError:
            outcome = "refused"
            raise
        except Stopped:
            outcome = "stopped"
            raise
        finally:
            seconds = time.perf_counter() - started
            self.metrics.work.labels(outcome).observe(seconds)
            if outcome == "done":
                self.mean_seconds += _LATEST * (seconds - self.mean_seconds)
