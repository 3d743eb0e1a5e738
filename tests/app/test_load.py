"""The page as a process: many requests at once, memory, shutdown."""

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from blinddiff.imaging import read_image

START = "import sys; from blinddiff.cli.main import main; sys.exit(main(['app', *sys.argv[1:]]))"
QUEUE = 12

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="memory and time are read from /proc")


class Page:
    """A running page, and requests to it."""

    def __init__(self, *options, folder):
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, "--queue", str(QUEUE), *map(str, options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "TMPDIR": str(folder)},
        )
        self.address = self.process.stdout.readline().split(";")[0]

    def restore(self, photograph, scale):
        """HTTP status, and the text of the answer or of its last event."""
        with httpx.Client(base_url=self.address, timeout=600) as http:
            [path] = http.post("/gradio_api/upload", files={"files": (photograph.name, photograph.read_bytes())}).json()
            file = {"path": path, "meta": {"_type": "gradio.FileData"}}
            event = http.post("/gradio_api/call/v2/restore", json={"photograph": file, "scale": scale})
            if event.status_code != 200:
                return event.status_code, event.text
            answer = http.get(f"/gradio_api/call/restore/{event.json()['event_id']}").text
            return 200, answer[answer.rindex("event: ") :]

    def fetch(self, event):
        name = re.search(r'"path":\s*"(files/\w+/[^"]*-x\d\.png)"', event)[1]
        return httpx.get(f"{self.address}gradio_api/file={name}").content

    def memory(self):
        """Resident bytes."""
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) * 1024

    def processor_seconds(self):
        """CPU time so far, of all cores; unlike wall time, other load does not change it."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def open_page(tmp_path):
    pages = []

    def open_page(*options):
        (tmp_path / "tmp").mkdir()
        pages.append(Page(*options, folder=tmp_path / "tmp"))
        return pages[-1]

    yield open_page
    for page in pages:
        page.process.kill()
        page.process.wait()


def write_photograph(path, width, height):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).save(path)
    return path


@pytest.mark.long
def test_twenty_at_once(open_page, tiny_weights, tmp_path):
    photograph = write_photograph(tmp_path / "photo.png", 128, 96)
    page = open_page("--weights", tiny_weights)
    # memory that libraries allocate once, on first use
    for _ in range(3):
        assert page.restore(photograph, 4)[0] == 200
    time.sleep(2)
    before = page.memory()
    with ThreadPoolExecutor(20) as visitors:
        answers = list(visitors.map(lambda _: page.restore(photograph, 4), range(20)))
    done = [text for status, text in answers if status == 200]
    refused = [text for status, text in answers if status == 503]
    assert len(done) + len(refused) == 20
    assert all(text.startswith("event: complete") and "Done in" in text for text in done)
    assert all("Queue is full" in text for text in refused)
    assert len(done) >= QUEUE
    assert page.process.poll() is None
    time.sleep(5)
    after = page.memory()
    print(f"20 at once: {len(done)} answered, {len(refused)} refused; {before / 2**20:.0f} -> {after / 2**20:.0f} MiB")
    assert after < 1.1 * before
    # ended by a signal, it removes its files
    assert len(list((tmp_path / "tmp").glob("blinddiff-*/*"))) > 20
    page.process.send_signal(signal.SIGTERM)
    assert page.process.wait(30) == 0
    assert list((tmp_path / "tmp").glob("blinddiff-*")) == []


@pytest.fixture
def default_sighup():
    """Processes started meanwhile do not ignore SIGHUP, even if the tests themselves do (nohup)."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("default_sighup")
def test_files_are_removed_when_the_terminal_closes(open_page, tiny_weights, tmp_path):
    page = open_page("--weights", tiny_weights)
    assert page.restore(write_photograph(tmp_path / "photo.png", 32, 32), 1)[0] == 200
    assert list((tmp_path / "tmp").glob("blinddiff-*/*")) != []
    page.process.send_signal(signal.SIGHUP)
    assert page.process.wait(30) == 0
    assert list((tmp_path / "tmp").glob("blinddiff-*")) == []


@pytest.mark.long
def test_seconds_for_a_photograph(open_page, tmp_path):
    """320x240 at x4 with the package's weights takes under 10 s on two free cores; only the result is asserted."""
    photograph = write_photograph(tmp_path / "photo.png", 320, 240)
    page = open_page()
    page.restore(write_photograph(tmp_path / "first.png", 32, 32), 1)
    started, spent = time.perf_counter(), page.processor_seconds()
    status, event = page.restore(photograph, 4)
    seconds = time.perf_counter() - started
    print(f"320x240 at x4 over HTTP: {seconds:.1f} s, {page.processor_seconds() - spent:.1f} s of one processor")
    assert status == 200
    assert read_image(page.fetch(event)).pixels.shape == (3, 960, 1280)
