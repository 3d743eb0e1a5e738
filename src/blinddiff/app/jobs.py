"""Restorations: one after another in a thread, reported step by step, stopped when nobody waits for them."""

import asyncio
import contextlib
import ctypes
import gc
import shutil
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

import gradio as gr
from torch import Tensor, nn

from blinddiff.app import Limits
from blinddiff.app.request import Request, VisitorFiles, parse_region, read_photograph
from blinddiff.app.views import (
    Answer,
    display_jpeg,
    empty_answer,
    error_message,
    page_error,
    result_answer,
    status,
    step_answer,
)
from blinddiff.degradation import bicubic_upsample
from blinddiff.errors import ImageError, ParameterError
from blinddiff.imaging import check_format, visible_colours
from blinddiff.restoring.photograph import RestoreSettings, restore_photograph
from blinddiff.sampling.pipeline import BlindDiffPipeline

Event = TypeVar("Event")
Value = TypeVar("Value")
_HEARTBEAT = 1.0  # seconds


class Stopped(Exception):  # not an error: it was requested
    """The restoration was stopped."""


_current = threading.local()


@contextlib.contextmanager
def stoppable(stop: threading.Event) -> Iterator[None]:
    """Make `check_stop` raise in this thread, within this context, once ``stop`` is set."""
    _current.stop = stop
    try:
        yield
    finally:
        del _current.stop


def check_stop() -> None:
    """Raise `Stopped` if the work of this thread is to stop, see `stoppable`."""
    stop: threading.Event | None = getattr(_current, "stop", None)
    if stop is not None and stop.is_set():
        raise Stopped


def check_stop_in_layers(network: nn.Module) -> None:
    """Call `check_stop` before every layer: one step on a large photograph takes many seconds."""
    for layer in network.modules():
        layer.register_forward_pre_hook(lambda *_: check_stop())


async def run_in_thread(
    executor: Executor, work: Callable[[Callable[[Event], None]], None], heartbeat: float
) -> AsyncGenerator[Event | None, None]:
    """Run ``work`` in a thread; yield the events that it sends, and None after every ``heartbeat`` seconds without one.

    Close the generator (`contextlib.aclosing`) to stop the work at its next `check_stop`. Raises what the work raises.

    Args:
        executor: runs the work.
        work: is called with a function that sends an event.
        heartbeat: seconds.
    """
    events: asyncio.Queue[Event | Future[None]] = asyncio.Queue()
    loop, stop = asyncio.get_running_loop(), threading.Event()

    def send(event: Event | Future[None]) -> None:
        with contextlib.suppress(RuntimeError):  # the server has been shut down
            loop.call_soon_threadsafe(events.put_nowait, event)

    def run() -> None:
        with stoppable(stop):
            work(send)

    future = executor.submit(run)
    future.add_done_callback(send)  # the finished future is the last event
    next_event = asyncio.ensure_future(events.get())
    try:
        while True:
            # Not wait_for: before Python 3.12 it may swallow a cancellation that comes together with an event.
            await asyncio.wait({next_event}, timeout=heartbeat)
            if not next_event.done():
                yield None
                continue
            event = next_event.result()
            if isinstance(event, Future):
                event.result()  # raises what the work raised
                return
            next_event = asyncio.ensure_future(events.get())
            yield event
    finally:
        stop.set()
        future.cancel()
        next_event.cancel()


def release_memory() -> None:
    """Return free memory to the system; after a large photograph the C library may hold a gigabyte."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a C library other than GNU's
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def restore(
    pipeline: BlindDiffPipeline, request: Request, limits: Limits, folder: Path, send: Callable[[Answer], None]
) -> None:
    """Restore a photograph: send an answer after each step, then the whole one.

    Args:
        pipeline: holds the weights.
        request: what to do.
        limits: of the result's size.
        folder: where the files of the answers are written. A file that was sent is not written again: a browser may
            be reading it.
        send: is called with each answer.

    Raises:
        BlindDiffError: the request cannot be fulfilled.
        Stopped: see `stoppable`.
    """
    name, settings = request.photograph.name, request.settings
    photograph = read_photograph(request.photograph, limits.pixels)
    height, width = photograph.pixels.shape[-2:]
    limits.check(name, width, height, settings.scale, settings.samples)
    output = folder / f"{Path(name).stem}-x{settings.scale}.{request.file_format}"
    check_format(Path(output.name), photograph, (width * settings.scale, height * settings.scale))
    kernel = request.read_kernel()
    region = parse_region(request.region, width, height)
    check_stop()
    y = visible_colours(photograph)
    if region is not None:
        part = y[:, region.top : region.top + region.height, region.left : region.left + region.width]
        kernel = pipeline.estimate(part, settings.scale).kernel[0]
    before = folder / "before.jpg"
    before.write_bytes(display_jpeg(bicubic_upsample(y, settings.scale).clamp(0, 1), photograph))

    def on_step(number: int, x0_hat: Tensor) -> None:
        check_stop()
        image = x0_hat.detach().mean(0).clamp(0, 1).cpu()
        send(step_answer(number, max(settings.number_of_steps, number), image, photograph, before))

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
        "kernel_from": request.kernel_source,
        **result.facts(output),
        **({} if result.uncertainty is None else {"uncertainty": result.uncertainty}),
    }
    send(result_answer(result, facts, before, output))


class Restorer:
    """The event handler of the page's button and of the HTTP interface; requests run one after another.

    Args:
        pipeline: holds the weights.
        limits: of a request.
        files: where results are written.
    """

    def __init__(self, pipeline: BlindDiffPipeline, limits: Limits, files: VisitorFiles) -> None:
        self._pipeline = pipeline
        self._limits = limits
        self._files = files
        self._executor = ThreadPoolExecutor(1, "restoring")
        check_stop_in_layers(pipeline.network)

    async def restore(
        self,
        photograph: str | None,
        scale: int | None,
        mode: str | None,
        samples: float,
        seed: float | None,
        file_format: str,
        noise_level: float | None,
        steps: float | None,
        kernel_file: str | None,
        kernel_numbers: str | None,
        region: str | None,
        request: gr.Request,
    ) -> AsyncGenerator[Answer, None]:
        """Restore a photograph: an answer after each step, and at the end the whole one.

        Args:
            photograph: the uploaded file.
            scale: 1, 2, 3 or 4.
            mode: "fidelity", "fast", "perceptual" or "paper".
            samples: with more than one, the result is their mean, and there is an uncertainty map.
            seed: of the random noise; empty for 0.
            file_format: of the result: png, tif, jpg, webp or avif.
            noise_level: in grey levels, where it is known.
            steps: of the sampler; empty for the mode's own.
            kernel_file: the blur kernel where it is known: .csv, .txt, .json, .npy or .png.
            kernel_numbers: the same, typed: a row of numbers on each line.
            region: what the kernel is estimated from: left, top, width, height in pixels; empty for all.
        """
        folder = None
        try:
            if photograph is None:
                raise ImageError("no photograph yet: choose one first")
            settings = RestoreSettings(
                scale=int(_required("scale", scale)),
                mode=_required("mode", mode),
                samples=int(samples),
                seed=int(seed or 0),
                noise_level=noise_level,
                steps=None if steps is None else int(steps),
            )
            kernel_path = None if kernel_file is None else Path(kernel_file)
            restoration = Request(
                Path(photograph), settings, file_format, kernel_path, kernel_numbers or "", region or ""
            )
            yield empty_answer("Waiting for the machine")
            for upload in (restoration.photograph, restoration.kernel_file):
                if upload is not None:
                    self._files.keep_upload(str(request.session_hash), upload)
            folder = self._files.new_folder(str(request.session_hash))
            async with aclosing(self._answers(restoration, folder)) as answers:
                async for answer in answers:
                    yield answer
        except BaseException as error:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            if not isinstance(error, Exception):  # cancelled, or the visitor has left
                raise
            message = error_message(error)
            yield Answer(status(message, is_error=True))
            raise page_error(message) from None

    async def _answers(self, request: Request, folder: Path) -> AsyncGenerator[Answer, None]:
        def work(send: Callable[[Answer], None]) -> None:
            try:
                restore(self._pipeline, request, self._limits, folder, send)
            finally:
                release_memory()

        started = time.perf_counter()
        async with aclosing(run_in_thread(self._executor, work, _HEARTBEAT)) as answers:
            async for answer in answers:
                seconds = time.perf_counter() - started
                if seconds > self._limits.seconds:
                    raise ParameterError(
                        f"the restoration took more than {self._limits.seconds:g} seconds and was stopped: choose a "
                        "smaller scale, fewer samples or steps, or cut out a part of the photograph"
                    )
                # Gradio notices that a visitor has gone when it sends something.
                yield Answer(status(f"Working, {seconds:.0f} s")) if answer is None else answer


def _required(name: str, value: Value | None) -> Value:
    """A parameter that the page always sends, but other clients may not."""
    if value is None:
        raise ParameterError(f"{name}: is empty; a value is required")
    return value
