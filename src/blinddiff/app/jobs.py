"""Runs restorations in a thread, one at a time. Reports each step; stops when the visitor cancels or leaves."""

import asyncio
import contextlib
import ctypes
import gc
import shutil
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import Context, ContextVar
from pathlib import Path
from typing import TypeVar

import gradio as gr
from torch import Tensor, nn

from blinddiff.app import Limits
from blinddiff.app.request import Request, VisitorFiles, parse_region, read_photograph
from blinddiff.app.views import Answer, display_jpeg, page_error, result_answer, status
from blinddiff.degradation import bicubic_upsample
from blinddiff.errors import ImageError, ParameterError
from blinddiff.imaging import check_format, visible_colours
from blinddiff.restoring.photograph import RestoreSettings, restore_photograph
from blinddiff.sampling.pipeline import BlindDiffPipeline

Event = TypeVar("Event")


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


@releasing_memory()
def restore(
    pipeline: BlindDiffPipeline, request: Request, limits: Limits, folder: Path, send: Callable[[Answer], None]
) -> Answer:
    """Restore the photograph of a request: ``send`` an `Answer` after each step, and return the final one.

    All files are written to ``folder``. Raises BlindDiffError if the request cannot be fulfilled, or `Stopped`.
    """
    name, settings = request.photograph.name, request.settings
    scale = int(settings.scale)  # the page offers no others
    photograph = read_photograph(request.photograph, limits)
    height, width = photograph.pixels.shape[-2:]
    limits.check(name, width, height, scale, settings.samples)
    output = folder / f"{Path(name).stem}-x{scale}.{request.file_format}"
    check_format(Path(output.name), photograph, (width * scale, height * scale))
    kernel = request.read_kernel()
    kernel_from = "photograph" if kernel is None else "given"
    region = parse_region(request.region, width, height)
    check_stop()
    y = visible_colours(photograph)
    if region is not None:
        part = y[:, region.top :, region.left :][:, : region.height, : region.width]
        kernel = pipeline.estimate(part, scale).kernel[0]
        kernel_from = f"region {request.region.strip()}"
    before = folder / "before.jpg"
    before.write_bytes(display_jpeg(bicubic_upsample(y, scale).clamp(0, 1), photograph))

    def on_step(number: int, x0_hat: Tensor) -> None:
        check_stop()
        after = folder / f"step-{number}.jpg"  # a new name for each step, because browsers cache pictures by name
        after.write_bytes(display_jpeg(x0_hat.detach().mean(0).clamp(0, 1).cpu(), photograph))
        steps = max(settings.number_of_steps, number)
        send(Answer(status(f"Step {number} of {steps}", number / steps), (str(before), str(after))))

    try:
        result = restore_photograph(pipeline, photograph, settings, kernel, on_step)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    check_stop()
    facts = {
        "photograph": name,
        "scale": settings.scale,
        "restoration_mode": settings.mode,
        "steps": settings.number_of_steps,
        "samples": settings.samples,
        "seed": settings.seed,
        "kernel_from": kernel_from,
        **result.facts(output),
    }
    if result.uncertainty is not None:
        facts["uncertainty"] = result.uncertainty
    return result_answer(result, facts, before, output)


class Restorer:
    """Handles requests from the page and over HTTP, one at a time."""

    def __init__(self, pipeline: BlindDiffPipeline, limits: Limits, files: VisitorFiles) -> None:
        self._pipeline, self._limits, self._files = pipeline, limits, files
        self._executor = ThreadPoolExecutor(1, "restoring")
        check_stop_in_layers(pipeline.network)

    async def restore(
        self,
        photograph: str | None,
        scale: int | None,
        mode: str | None,
        samples: float,
        seed: int | None,
        file_format: str,
        noise_level: float | None,
        steps: int | None,
        kernel_file: str | None,
        kernel_numbers: str | None,
        region: str | None,
        request: gr.Request,
    ) -> AsyncGenerator[Answer, None]:
        """Restore a photograph: yield an `Answer` after each step, and the final one.

        The arguments are described in docs/guides/http.md. Files are given as paths, empty numbers as None.
        """
        folder = None
        try:
            if photograph is None:
                raise ImageError("no photograph yet: choose one first")
            if scale is None or mode is None:  # possible over HTTP only
                raise ParameterError(f"{'scale' if scale is None else 'mode'}: is empty; a value is required")
            settings = RestoreSettings(
                scale=int(scale), mode=mode, samples=int(samples), seed=seed or 0, noise_level=noise_level, steps=steps
            )
            kernel_path = None if kernel_file is None else Path(kernel_file)
            job = Request(Path(photograph), settings, file_format, kernel_path, kernel_numbers or "", region or "")
            # The other fields are given too, to clear the previous restoration's outputs; omitted fields would stay.
            yield Answer(status("Waiting for the machine"), None, "", *[None] * 6)
            visitor = str(request.session_hash)
            for upload in filter(None, (job.photograph, job.kernel_file)):
                self._files.keep_upload(visitor, upload)
            folder = result_folder = self._files.new_folder(visitor)
            started = time.perf_counter()

            def work(send: Callable[[Answer], None]) -> None:
                # `restore` returns the final answer after releasing memory. If it sent the answer before, a heartbeat
                # during the release would replace its status.
                send(restore(self._pipeline, job, self._limits, result_folder, send))

            async with contextlib.aclosing(run_in_thread(self._executor, work, heartbeat=1.0)) as answers:
                async for answer in answers:
                    seconds = time.perf_counter() - started
                    if seconds > self._limits.seconds:
                        raise ParameterError(
                            f"the restoration took more than {self._limits.seconds:g} seconds and was stopped: choose "
                            "a smaller scale, fewer samples or steps, or crop the photograph"
                        )
                    # Send at each heartbeat too: Gradio notices only while sending that a visitor has left.
                    yield Answer(status(f"Working, {seconds:.0f} s")) if answer is None else answer
        except BaseException as error:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            if not isinstance(error, Exception):  # cancelled, or the visitor has left
                raise
            reported = page_error(error)
            yield Answer(status(reported.message, is_error=True))
            raise reported from None
