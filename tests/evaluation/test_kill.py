"""A run that is killed leaves no process behind, and goes on to the end it would have come to."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blinddiff.evaluation.run import Settings, evaluate

METHODS = ("bicubic", "lanczos", "closed-form-oracle")


def settings(data: Path, out: Path) -> Settings:
    return Settings("gaussian8", 4, ("Set5",), METHODS, data, out, costs=False, pictures=False)


def lines(out: Path) -> list[dict[str, object]]:
    found = [json.loads(line) for line in (out / "images.jsonl").read_text().splitlines()[1:]]
    for line in found:
        line["metrics"].pop("seconds")
    return found


def until(condition, seconds: float) -> bool:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path(f"/proc/{os.getpid()}/task").exists(), reason="looks for processes in Linux's /proc")
def test_sigkill(data: Path, tmp_path: Path) -> None:
    killed, log = tmp_path / "killed", tmp_path / "killed" / "images.jsonl"
    arguments = ["--protocol", "gaussian8", "--sets", "Set5", "--data", data, "--out", killed, "--workers", "2"]
    command = [sys.executable, "-m", "blinddiff", "evaluate", *map(str, arguments), "--methods", *METHODS]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert until(lambda: log.exists() and log.read_text().count("\n") > 1, 120)
        workers = children(process.pid)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert process.stderr is not None
        assert process.stderr.read() == "", "no bar in a log"
    assert len(workers) >= 2
    assert until(lambda: not any(running(pid) for pid in workers), 30)
    assert 1 <= log.read_text().count("\n") - 1 < 72
    evaluate(settings(data, killed))
    evaluate(settings(data, tmp_path / "whole"))
    assert lines(killed) == lines(tmp_path / "whole")
