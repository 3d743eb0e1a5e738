"""Work in a thread that reports to the event loop and can be stopped, and the memory that it leaves."""

import asyncio
import contextlib
import ctypes
import gc
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Executor, Future
from contextvars import Context, ContextVar
from typing import TypeVar

from torch import nn

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
