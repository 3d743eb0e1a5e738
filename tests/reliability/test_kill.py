"""Killed at any moment and run again: every result is right, none is half, none is done twice for nothing."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from corpus import colours
from figures import note
from PIL import Image

FILES, KILLS = 120, 20


def start(source, output, weights):
    command = [sys.executable, "-m", "blinddiff", "upscale", source, "-o", output, "--weights", weights]
    options = ["--device", "cpu", "--jobs", "2", "--scale", "4", "--steps", "4"]
    return subprocess.Popen(
        [*map(str, command), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def results(output):
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("[!.]*") if path.is_file()}


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_at_random_moments_and_resumed(tmp_path, tiny_weights):
    source, output = tmp_path / "in", tmp_path / "out"
    chance = random.Random(0)
    for number in range(FILES):
        path = source / f"{number % 7}" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(colours(), number, 1)).save(path)
    whole = start(source, tmp_path / "reference", tiny_weights)
    _, said = whole.communicate()
    assert whole.returncode == 0, said
    reference = results(tmp_path / "reference")
    assert len(reference) == FILES

    progress, left_behind, kills = [], 0, 0
    while kills < KILLS:
        before = len(results(output)) if output.exists() else 0
        running = start(source, output, tiny_weights)
        # Every third at any moment of the start, the others while files are being written.
        if kills % 3 == 0:
            time.sleep(chance.uniform(0, 6))
        else:
            while running.poll() is None and (not output.exists() or len(results(output)) <= before):
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.5))
        if running.poll() is None:
            # The leader alone, whose processes then finish their file; or all of them.
            (os.killpg if kills % 2 else os.kill)(running.pid, signal.SIGKILL)
            kills += 1
        _, said = running.communicate()
        assert running.returncode in (0, -signal.SIGKILL), said
        if output.exists():
            left_behind += len(list(output.rglob(".blinddiff-*.tmp")))
            made = results(output)
            assert all(reference[name] == data for name, data in made.items())
            progress.append(len(made))
        if running.returncode == 0:
            shutil.rmtree(output)  # a fast machine: all was done before the kill
    assert len(progress) > KILLS // 2

    last = start(source, output, tiny_weights)
    out, said = last.communicate()
    assert last.returncode == 0, said
    assert results(output) == reference
    assert list(output.rglob(".blinddiff-*.tmp")) == []
    note("kills", {"kills": KILLS, "files": FILES, "done_after_each": progress, "half_files_seen": left_behind})
    print(f"{KILLS} kills, files done after each: {progress}; half files seen by their hidden names: {left_behind}")
    print(out)
