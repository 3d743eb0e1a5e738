"""Runs restorations in a thread, one at a time. Reports the progress; stops when the visitor cancels or leaves."""

import asyncio
import contextlib
import ctypes
import gc
import json
import math
import shutil
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import Context, ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from blinddiff.app import Limits
from blinddiff.app.pictures import result_pictures, write_preview
from blinddiff.app.request import Request, cropped, parse_crop, parse_region, read_photograph
from blinddiff.app.visitor_files import VisitorFiles
from blinddiff.errors import ImageError, ParameterError
from blinddiff.imaging import check_format, encode_image, resample, visible_colours
from blinddiff.restoring.photograph import RestoreSettings, restore_photograph
from blinddiff.restoring.plan import Plan, plan_restoration
from blinddiff.sampling.pipeline import BlindDiffPipeline

Event = TypeVar("Event")
_REPORT_SECONDS = 0.25  # between reports of progress within a step


class Stopped(Exception):  # not an error: it was requested
    """The restoration was stopped on request."""


stop_requested: ContextVar[threading.Event | None] = ContextVar("stop_requested", default=None)


def check_stop() -> None:
    """Raise `Stopped` if the event `stop_requested` of the current context is set."""
    stop = stop_requested.get()
    if stop is not None and stop.is_set():
        raise Stopped


def check_stop_in_layers(network: nn.Module) -> None:
    """Make every layer call `check_stop` first: one step on a large photograph takes many seconds."""
    for layer in network.modules():
        layer.register_forward_pre_hook(lambda *_: check_stop())


async def run_in_thread(
    executor: Executor, work: Callable[[Callable[[Event], None]], None], heartbeat: float
) -> AsyncGenerator[Event | None, None]:
    """Run ``work(send)`` in a thread; yield what it sends, and None after each ``heartbeat`` seconds without an event.

    Close the generator (`contextlib.aclosing`) to stop the work at its next `check_stop`. An exception in the work is
    raised here.
    """
    events: asyncio.Queue[Event | Future[None] | None] = asyncio.Queue()
    loop, stop = asyncio.get_running_loop(), threading.Event()

    def send(event: Event | Future[None]) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed: the server has been shut down
            loop.call_soon_threadsafe(events.put_nowait, event)

    context = Context()
    context.run(stop_requested.set, stop)
    future = executor.submit(context.run, work, send)
    future.add_done_callback(send)  # the finished future is the last event
    try:
        while True:
            # asyncio.wait_for is not used: before Python 3.12, it may lose a cancellation that coincides with an event.
            timer = loop.call_later(heartbeat, events.put_nowait, None)
            event = await events.get()
            timer.cancel()
            if isinstance(event, Future):
                event.result()  # raises the exception of the work
                return
            yield event
    finally:
        stop.set()
        future.cancel()


@contextlib.contextmanager
def releasing_memory() -> Iterator[None]:
    """At the end, return unused memory to the system: the C library may keep a gigabyte after a large photograph."""
    try:
        yield
    finally:
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):  # other C libraries lack malloc_trim
            ctypes.CDLL("libc.so.6").malloc_trim(0)


@dataclass(frozen=True)
class Progress:
    """A report: what is done, its share of the work, and after a step files of the photograph and the estimate."""

    text: str
    share: float = 0.0
    pictures: tuple[str, str] | None = None


@dataclass(frozen=True)
class Restored:
    """A finished restoration: its measurements, see docs/guides/http.md, and its files; ``estimate`` has the facts.

    ``pictures`` are before, after, full_before, full_after, kernel, residual, and for several samples uncertainty;
    ``extents`` the grey levels of the lightest colour in the pictures of residual and uncertainty.
    """

    facts: dict[str, Any]
    result: Path
    estimate: Path
    pictures: dict[str, Path]
    extents: dict[str, float]


@releasing_memory()
def restore(
    pipeline: BlindDiffPipeline, request: Request, limits: Limits, folder: Path, send: Callable[[Progress], None]
) -> Restored:
    """Restore the photograph of a request, and ``send`` the progress.

    All files are written to ``folder``. Raises BlindDiffError if the request cannot be fulfilled, or `Stopped`.
    """
    name, settings = request.photograph.name, request.settings
    pipeline.check_mode(settings.mode)
    photograph = read_photograph(request.photograph, limits, request.page)
    height, width = photograph.pixels.shape[-2:]
    region, crop = parse_region(request.region, width, height), parse_crop(request.crop, width, height)
    y = visible_colours(photograph)
    part = None if region is None else y[:, region.rows, region.columns]
    if crop is not None:
        photograph, (height, width) = cropped(photograph, crop), (crop.height, crop.width)
        y = visible_colours(photograph)
    passes = settings.passes(height, width, pipeline)
    limits.check(name, width, height, math.prod(passes), settings.samples)
    size = settings.result_size(height, width)
    output = folder / f"{Path(name).stem}-{settings.size_label(height, width)}.{request.file_format}"
    check_format(Path(output.name), photograph, (size[1], size[0]))
    kernel = request.read_kernel()
    kernel_from = "photograph" if kernel is None else "given"
    check_stop()
    if part is not None:
        kernel = pipeline.estimate(part, passes[0], photograph.jpeg_step).kernel[0]
        kernel_from = f"region {region}"
    send(Progress("Estimating blur and noise"))
    before = write_preview(folder / "before.jpg", resample(y, size), photograph)
    steps, done, share, reported = settings.number_of_steps * len(passes), 0, 0.0, 0.0

    def on_progress(now: float) -> None:
        nonlocal share, reported
        check_stop()
        share = now
        if time.monotonic() - reported > _REPORT_SECONDS:
            reported = time.monotonic()
            send(Progress(f"Step {min(done + 1, steps)} of {steps}", share))

    def on_step(number: int, x0_hat: Tensor) -> None:
        nonlocal done
        check_stop()
        done = number
        # a new name for each step, because browsers cache pictures by name
        estimate = x0_hat.detach().mean(0).clamp(0, 1).cpu()
        after = write_preview(folder / f"step-{number}.jpg", estimate, photograph)
        send(Progress(f"Step {number} of {max(steps, number)}", share, (str(before), str(after))))

    try:
        result = restore_photograph(pipeline, photograph, settings, kernel, on_step, on_progress)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    check_stop()
    facts = {
        "photograph": name,
        "scale": settings.scale if settings.is_scaled else settings.factor(height, width),
        "restoration_mode": settings.mode,
        "steps": settings.number_of_steps,
        "samples": settings.samples,
        "seed": settings.seed,
        "kernel_from": kernel_from,
        **({} if request.page is None else {"page": request.page}),
        **({} if crop is None else {"crop": list(crop)}),
        **result.facts(output),
    }
    output.write_bytes(encode_image(output, result.pixels, result.photograph, result.alpha))
    estimate = output.with_suffix(".json")
    estimate.write_text(json.dumps(facts), encoding="utf-8")
    pictures, extents = result_pictures(result, resample(y, size), before, folder)
    return Restored(facts, output, estimate, pictures, extents)


class Restorer:
    """Handles requests from the page and over HTTP, one at a time."""

    def __init__(self, pipeline: BlindDiffPipeline, limits: Limits, files: VisitorFiles) -> None:
        self.pipeline, self.limits, self.files = pipeline, limits, files
        self._executor = ThreadPoolExecutor(1, "restoring")
        check_stop_in_layers(pipeline.network)

    async def restore(self, job: Request, visitor: str) -> AsyncGenerator[Progress | Restored, None]:
        """Restore a photograph: yield the progress, also every second without any, and then the result.

        Raises BlindDiffError if the request cannot be fulfilled.
        """
        for upload in filter(None, (job.photograph, job.kernel_file)):
            self.files.keep_upload(visitor, upload)
        folder = self.files.new_folder(visitor)
        started, last = time.perf_counter(), Progress("Waiting for the machine")

        def work(send: Callable[[Progress | Restored], None]) -> None:
            # `restore` returns the result after releasing memory. If it sent the result before, a heartbeat during the
            # release would follow it.
            send(restore(self.pipeline, job, self.limits, folder, send))

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
                    # Send at each heartbeat too: Gradio notices only while sending that a visitor has left.
                    yield Progress(f"{last.text}, {seconds:.0f} s", last.share) if event is None else event
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    async def plan(self, height: int, width: int, settings: RestoreSettings) -> Plan:
        """The plan for a photograph. Waits for restorations that run, because it may measure the speed."""
        plan = self._executor.submit(plan_restoration, height, width, settings, self.pipeline)
        return await asyncio.wrap_future(plan)
