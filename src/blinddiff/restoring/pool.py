"""Several processes, one file each at a time.

Processes, not threads: what a hostile file or a lack of memory does to a decoder, it does to one process and one file;
and small photographs do not fill many cores.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from blinddiff.errors import BlindDiffError
from blinddiff.restoring.photograph import Done, RestoreSettings
from blinddiff.restoring.plan import Job

_SPAWN = multiprocessing.get_context("spawn")  # torch and its threads do not survive a fork


@dataclass(frozen=True)
class Failed:
    """Why a file could not be done."""

    reason: str


@dataclass(frozen=True)
class _Ready:
    """Says that the weights are loaded."""


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    connection: "Connection[Any, Any]"
    ready: bool = False
    job: Job | None = None


def run_jobs(
    jobs: Sequence[Job], settings: RestoreSettings, processes: int, threads: int
) -> Generator[tuple[Job, Done | Failed]]:
    """Do jobs side by side; give each with its outcome, in the order in which they end.

    A process that dies takes one file with it, and another takes its place. When the caller stops listening, as at
    Ctrl-C, all end at once.

    Args:
        jobs: files to do.
        settings: the same for all.
        processes: how many there are at most.
        threads: of each.

    Raises:
        BlindDiffError: the weights, the kernel or the device cannot be used.
    """
    waiting = deque(jobs)
    workers: list[_Worker] = []
    try:
        while waiting or any(worker.job for worker in workers):
            free = [worker for worker in workers if worker.job is None]
            while len(workers) < processes and len(free) < len(waiting):
                free.append(_start(settings, threads))
                workers.append(free[-1])
            for worker in free:
                if worker.ready and waiting:
                    worker.job = waiting.popleft()
                    with contextlib.suppress(OSError):  # it has died: heard of below
                        worker.connection.send(worker.job)
            for worker in _those_that_speak(workers):
                message = _message(worker)
                if isinstance(message, BlindDiffError):
                    raise message
                if message is None:
                    workers.remove(worker)
                    if not worker.ready:
                        raise BlindDiffError(f"a process for the restoration {_end(worker)} before it had begun")
                    message = Failed(f"{worker.job.source if worker.job else ''}: its process {_end(worker)}")
                job, worker.job, worker.ready = worker.job, None, True
                if job is not None and isinstance(message, Done | Failed):
                    yield job, message
    finally:
        with without_interruption():
            for worker in workers:
                worker.process.kill()
                worker.process.join()


def _start(settings: RestoreSettings, threads: int) -> _Worker:
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_work, args=(theirs, settings, threads), daemon=True)
    if os.name == "posix":
        # Python's own helper process: to start it unblocks Ctrl-C, so that must not happen below.
        resource_tracker.ensure_running()
    with without_interruption(), _deaf_children():
        process.start()
    theirs.close()
    return _Worker(process, ours)


@contextlib.contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes started meanwhile do not hear Ctrl-C: the one that started them does, and ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def without_interruption() -> Iterator[None]:
    """Ctrl-C waits until the end of this.

    By its handler: the signal itself, were it blocked here, would come by another thread.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone hears it
        yield
        return
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if heard and callable(before):
            before(signal.SIGINT, None)


def _those_that_speak(workers: list[_Worker]) -> list[_Worker]:
    heard = wait([worker.connection for worker in workers])
    return [worker for worker in workers if worker.connection in heard]


def _message(worker: _Worker) -> object:
    """What a process says; None if it has died."""
    try:
        return worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join()
        return None


def _end(worker: _Worker) -> str:
    code = worker.process.exitcode or 0
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"was ended by {name}" + (": perhaps for want of memory" if name == "SIGKILL" else "")


def _work(connection: "Connection[Any, Any]", settings: RestoreSettings, threads: int) -> None:
    """What a process does: load, then job after job until nobody sends more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Only here: the process that leads the others needs no network.
    import torch

    from blinddiff.restoring.file import FileRestorer

    torch.set_num_threads(threads)
    try:
        upscaler = FileRestorer(settings)
    except BlindDiffError as error:
        connection.send(error)
        return
    connection.send(_Ready())
    with contextlib.suppress(EOFError, OSError):  # the one who sent the jobs has gone
        while True:
            connection.send(_outcome(upscaler, connection.recv()))


def _outcome(upscale: Callable[[Job], Done], job: Job) -> Done | Failed:
    try:
        return upscale(job)
    except BlindDiffError as error:
        return Failed(str(error))
    except Exception as error:  # noqa: BLE001 - a fault of ours in one file must not cost the others
        return Failed(f"{job.source}: {type(error).__name__}: {error}")
