"""Worker processes: restored files, dead processes, errors and signals."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from blinddiff.errors import WeightsError
from blinddiff.restoring.folder import FileRestorer, make_plan
from blinddiff.restoring.journal import Done
from blinddiff.restoring.pool import Died, run_tasks


def gone(processes, seconds=20.0):
    """Whether processes end in time."""
    ends = time.monotonic() + seconds
    while any(process.is_alive() for process in processes) and time.monotonic() < ends:
        time.sleep(0.05)
    return not any(process.is_alive() for process in processes)


def test_a_process_that_dies_takes_one_file_with_it(tmp_path, settings, photograph):
    """It is killed while it does the large photograph, as the system does when memory is short."""
    source = tmp_path / "in"
    for name in ("0.png", "2.png", "3.png"):
        photograph(source / name)
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    Image.fromarray(noise).save(source / "1-large.png")
    (source / "3.png").write_text("words")
    jobs = make_plan(source, tmp_path / "out", ".png").jobs
    outcomes = {}
    for job, outcome in run_tasks(jobs, partial(FileRestorer, replace(settings, scale=4)), 1, 1):
        if not outcomes:
            (first,) = multiprocessing.active_children()
            threading.Timer(0.3, first.kill).start()
        outcomes[job.name] = outcome
    assert list(outcomes) == [job.name for job in jobs]
    assert outcomes["1-large.png"] == Died("was ended by SIGKILL: perhaps for lack of memory")
    assert isinstance(outcomes["2.png"], Done)
    assert (tmp_path / "out" / "2.png").exists()
    assert "3.png: is not an image" in outcomes["3.png"].reason
    assert gone([first, *multiprocessing.active_children()])


def test_bad_weights_are_said_once(tmp_path, settings, photograph):
    photograph(tmp_path / "in" / "a.png")
    jobs = make_plan(tmp_path / "in", tmp_path / "out", ".png").jobs
    with pytest.raises(WeightsError, match="nowhere: no such folder of weights"):
        list(run_tasks(jobs, partial(FileRestorer, replace(settings, weights="nowhere")), 1, 1))
    assert gone(multiprocessing.active_children())


@pytest.mark.skipif(sys.platform != "linux", reason="the signals that a process does not hear are read from /proc")
def test_the_first_process_does_not_hear_ctrl_c():
    """In a program of its own, where Python's helper process, whose start lets Ctrl-C in again, is not there yet."""
    program = """
import signal
from blinddiff.restoring import pool

worker = pool._start(list, 1)
with open(f"/proc/{worker.process.pid}/status") as status:
    (line,) = (line for line in status if line.startswith("SigBlk"))
worker.process.kill()
print(int(line.split()[1], 16) >> (signal.SIGINT - 1) & 1)
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "1\n"


def refuse(task):
    raise LookupError(f"no {task}")


def test_what_a_worker_raises_is_raised_with_its_traceback():
    with pytest.raises(LookupError, match="no 7") as caught:
        list(run_tasks([7], partial(partial, refuse), 1, 1))
    assert "in refuse" in str(caught.value.__cause__)
    assert gone(multiprocessing.active_children())


def make_reporter():
    return os.environ.get


def test_idle_threads_of_workers_sleep(monkeypatch):
    """And the settings of the program itself do not change."""
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    found = dict(run_tasks(["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"], make_reporter, 1, 1))
    assert found == {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    assert not found.keys() & os.environ.keys()
