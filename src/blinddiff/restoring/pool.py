"""Worker processes with one task at a time. If a process dies, only its task fails, and a new process replaces it.

Several tasks run at once, because a small image does not use many cores. They run in processes, not threads: a hostile
file or a lack of memory then ends only one process. `concurrent.futures` and `pebble` (5.2) were rejected. The first
abandons all tasks when a process dies. The second does so when an idle or a starting process dies, and it hides the
error of a worker that cannot start.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from tqdm import tqdm

from blinddiff import openmp_settings
from blinddiff.errors import BlindDiffError

_SPAWN = multiprocessing.get_context("spawn")  # torch and its threads do not survive a fork
Task = TypeVar("Task")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Died:
    """The process of a task died; ``how`` completes the sentence "the process ..."."""

    how: str


@dataclass(frozen=True)
class _Raised:
    error: Exception
    traceback: str


@dataclass(eq=False)
class _Process(Generic[Task]):
    process: BaseProcess
    connection: "Connection[Any, Any]"
    ready: bool = False
    task: Task | None = None


def set_threads(number: int) -> None:
    """Set the number of threads of this process and its worker processes: of torch, and of ONNX Runtime."""
    os.environ["OMP_NUM_THREADS"] = str(number)
    if (torch := sys.modules.get("torch")) is not None:  # otherwise it will read the variable
        torch.set_num_threads(number)


def number_of_threads() -> int:
    """The number of threads that an engine uses in this process."""
    if (torch := sys.modules.get("torch")) is not None:
        return int(torch.get_num_threads())
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) else os.cpu_count() or 1


def run_tasks(
    tasks: Sequence[Task], make_worker: Callable[[], Callable[[Task], Outcome]], processes: int, threads: int
) -> Generator[tuple[Task, Outcome | Died]]:
    """Run tasks in parallel; yield each with its outcome, in the order in which they finish.

    Exceptions of a worker are raised here. All processes end with the generator: close it to stop early.

    Args:
        tasks: picklable and not None.
        make_worker: picklable; called once in every process, for instance to load weights.
        processes: maximum number of processes.
        threads: number of threads in each process, see `set_threads`.

    Raises BlindDiffError if a process dies before its worker is created.
    """
    waiting = deque(tasks)
    running: list[_Process[Task]] = []
    try:
        while waiting or any(process.task is not None for process in running):
            free = [process for process in running if process.task is None]
            while len(running) < processes and len(free) < len(waiting):
                free.append(_start(make_worker, threads))
                running.append(free[-1])
            for process in free:
                if process.ready and waiting:
                    process.task = waiting.popleft()
                    with contextlib.suppress(OSError):  # the process has died; `_receive` reports it below
                        process.connection.send(process.task)
            with_messages = wait([process.connection for process in running])
            for process in [process for process in running if process.connection in with_messages]:
                message = _receive(process)
                if isinstance(message, _Raised):
                    raise message.error from RuntimeError(message.traceback)
                if isinstance(message, Died):
                    running.remove(process)
                    if not process.ready:
                        raise BlindDiffError(f"a worker process {message.how} before its first task")
                task, process.task, process.ready = process.task, None, True
                if task is not None:
                    yield task, message
    finally:
        with delayed_interrupt():
            for process in running:
                process.process.kill()
                process.process.join()


def _start(make_worker: Callable[[], Callable[[Task], Outcome]], threads: int) -> _Process[Task]:
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_work, args=(theirs, make_worker, threads), daemon=True)
    with delayed_interrupt(), contextlib.ExitStack() as stack:
        for name, value in openmp_settings().items():  # for the new process only
            os.environ[name] = value
            stack.callback(os.environ.pop, name, None)
        if os.name == "posix":
            # Block SIGINT here, so that the new process inherits the block: only this process handles Ctrl-C, and ends
            # the others. Start Python's own helper process first, because starting it unblocks SIGINT.
            resource_tracker.ensure_running()
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            stack.callback(signal.pthread_sigmask, signal.SIG_SETMASK, before)
        process.start()
    theirs.close()
    return _Process(process, ours)


@contextlib.contextmanager
def delayed_interrupt() -> Iterator[None]:
    """Handle a Ctrl-C during this block only at the end of the block.

    This uses a handler: if the signal were blocked in this thread, another thread would receive it.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread handles signals
        yield
        return
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if received and callable(before):
            before(signal.SIGINT, None)


def _receive(process: _Process[Task]) -> Any:
    """The next message of a process; `Died` if it has ended."""
    try:
        return process.connection.recv()
    except (EOFError, OSError):
        process.process.join()
    code = process.process.exitcode or 0
    if code >= 0:
        return Died(f"ended with exit code {code}")
    name = signal.Signals(-code).name
    return Died(f"was ended by {name}" + (": perhaps for lack of memory" if name == "SIGKILL" else ""))


def _work(
    connection: "Connection[Any, Any]", make_worker: Callable[[], Callable[[Task], Outcome]], threads: int
) -> None:
    """Main function of a process: create the worker, then run tasks until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_threads(threads)
    tqdm.set_lock(threading.RLock())  # the default is a named semaphore, which a killed process would leave behind
    try:
        worker = make_worker()
        connection.send(None)  # ready
        while True:
            connection.send(worker(connection.recv()))
    except Exception as error:  # noqa: BLE001 - raised again in the main process
        with contextlib.suppress(OSError):  # the main process has ended
            connection.send(_Raised(error, traceback.format_exc()))
