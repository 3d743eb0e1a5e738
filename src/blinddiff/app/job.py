"""Work in a thread, awaited event by event, and stopped when nobody awaits it any longer."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from typing import TypeVar

from blinddiff.app.stopping import stoppable

Event = TypeVar("Event")


async def events_of(
    worker: Executor, work: Callable[[Callable[[Event], None]], None], tick: float
) -> AsyncGenerator[Event | None, None]:
    """What ``work`` tells while it runs in ``worker``, and None after every ``tick`` seconds without news.

    Close it (see `contextlib.aclosing`) to stop the work, at its next `check_stop`. What work raises is raised here.

    Args:
        worker: runs it, when its turn comes.
        work: is given a function to tell events with.
        tick: seconds.
    """
    news: asyncio.Queue[tuple[bool, Event | BaseException | None]] = asyncio.Queue()
    loop, stop = asyncio.get_running_loop(), threading.Event()

    def tell(is_end: bool, event: Event | BaseException | None) -> None:
        with contextlib.suppress(RuntimeError):  # the server has been shut down
            loop.call_soon_threadsafe(news.put_nowait, (is_end, event))

    def whole() -> None:
        error: BaseException | None = None
        try:
            with stoppable(stop):
                work(lambda event: tell(False, event))
        except BaseException as caught:  # noqa: BLE001  # raised again where it is awaited
            error = caught
        tell(True, error)

    running = worker.submit(whole)
    told = asyncio.ensure_future(news.get())
    try:
        while True:
            # not wait_for, which before Python 3.12 may swallow a cancellation that comes with the news
            await asyncio.wait({told}, timeout=tick)
            if not told.done():
                yield None
                continue
            is_end, event = told.result()
            told = asyncio.ensure_future(news.get())
            if not is_end:
                yield event  # type: ignore[misc]  # no exception: those end the work
                continue
            if event is not None:
                raise event  # type: ignore[misc]
            return
    finally:
        stop.set()
        running.cancel()
        told.cancel()
