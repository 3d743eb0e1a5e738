"""Files are there whole or not at all, and what a kill leaves behind goes."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from blinddiff.errors import OutputError
from blinddiff.files import check_writable, lock, remove_leftovers, write_file


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that nobody can write to")
def test_folder_that_nobody_can_write_to():
    for attempt in (write_file, lambda path, _: check_writable(path)):
        with pytest.raises(OutputError, match=r"/proc/blinddiff\.png"):
            attempt("/proc/blinddiff.png", b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_device_is_refused():
    with pytest.raises(OutputError, match="not a regular file"):
        write_file("/dev/full", b"data")


def test_readers_see_old_or_new_never_half(tmp_path):
    path = tmp_path / "a.bin"
    contents = [bytes([value]) * 2_000_000 for value in (1, 2)]
    write_file(path, contents[0])
    done = threading.Event()

    def write():
        for turn in range(40):
            write_file(path, contents[turn % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    while not done.is_set():
        assert path.read_bytes() in contents
        seen += 1
    writer.join()
    assert seen > 0


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_writer_leaves_a_whole_file(tmp_path):
    path = tmp_path / "a.bin"
    write_file(path, b"0" * 500_000)
    code = (
        "import sys\nfrom blinddiff.atomic import write_file\nprint('ready', flush=True)\n"
        "for turn in range(10**9):\n    write_file(sys.argv[1], str(turn % 10).encode() * 500_000)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    writer.stdout.readline()
    for _ in range(20):
        time.sleep(0.01)
        data = path.read_bytes()
        assert len(data) == 500_000
        assert len(set(data)) == 1
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    data = path.read_bytes()
    assert len(data) == 500_000
    assert len(set(data)) == 1


def test_new_files_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_file(tmp_path / "a.bin", b"data")
    finally:
        os.umask(old)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o640


def test_link_is_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link.bin").symlink_to(tmp_path / "elsewhere" / "real.bin")
    write_file(tmp_path / "link.bin", b"data")
    assert (tmp_path / "link.bin").is_symlink()
    assert (tmp_path / "elsewhere" / "real.bin").read_bytes() == b"data"


def test_leftovers_go_and_what_is_being_written_stays(tmp_path):
    left, written, other = (tmp_path / name for name in (".blinddiff-0.tmp", ".blinddiff-1.tmp", "other.tmp"))
    for path in (left, written, other):
        path.write_bytes(b"half a file")
    with open(written, "rb") as file:
        lock(file.fileno())
        remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == [written, other]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="looks for open files in Linux's /proc")
def test_leftovers_are_closed_before_they_are_removed(tmp_path, monkeypatch):
    """Windows removes no file that is open."""
    (tmp_path / ".blinddiff-0.tmp").write_bytes(b"half a file")
    removed = []

    def unlink(path):
        opened = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
        removed.append((path.name, os.path.realpath(path) in opened))

    monkeypatch.setattr(Path, "unlink", unlink)
    remove_leftovers(tmp_path)
    assert removed == [(".blinddiff-0.tmp", False)]
