"""Atomic writes, what killed processes leave behind, locks, folders and hashes."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from blinddiff.errors import OutputError
from blinddiff.files import (
    check_writable,
    file_hash,
    files_hash,
    hash_of,
    lock,
    lock_folder,
    make_folder,
    remove_leftovers,
    write_file,
)


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
        "import sys\nfrom blinddiff.files import write_file\nprint('ready', flush=True)\n"
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


@pytest.mark.parametrize(
    ("name", "reason"), [("file", "File exists"), ("file/sub", "Not a directory"), ("a\0b", "null")]
)
def test_folder_that_cannot_be_made(name, reason, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=rf"cannot be made: .*{reason}"):
        make_folder(tmp_path / name)


def test_make_folder(tmp_path):
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_one_run_at_a_time_in_a_folder(tmp_path):
    for _ in range(2):
        with lock_folder(tmp_path):
            with pytest.raises(OutputError, match="another run is writing there"), lock_folder(tmp_path):
                pass
            remove_leftovers(tmp_path)
            assert len(list(tmp_path.iterdir())) == 1
        assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_locked(tmp_path):
    (tmp_path / ".blinddiff-run.tmp").mkdir()
    with pytest.raises(OutputError, match="cannot be written: "), lock_folder(tmp_path):
        pass


def test_errors_inside_the_lock_pass_and_release_it(tmp_path):
    with pytest.raises(KeyboardInterrupt), lock_folder(tmp_path):
        raise KeyboardInterrupt
    with lock_folder(tmp_path):
        pass


@pytest.mark.skipif(os.name != "posix", reason="needs a file system that refuses locks")
def test_file_system_without_locks_is_used_without(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with lock_folder(tmp_path):
        write_file(tmp_path / "a.bin", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_run_leaves_no_lock(tmp_path):
    code = (
        "import sys, time\nfrom blinddiff.files import lock_folder\n"
        "with lock_folder(sys.argv[1]):\n    print('locked', flush=True)\n    time.sleep(600)"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert run.stdout.readline() == b"locked\n"
    with pytest.raises(OutputError, match="another run"), lock_folder(tmp_path):
        pass
    run.send_signal(signal.SIGKILL)
    run.wait()
    with lock_folder(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_hashes(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("a", "b/c"):
        (tmp_path / name).write_bytes(name.encode())
    assert file_hash(tmp_path / "a") == hash_of(b"a") == hashlib.sha256(b"a").hexdigest()
    paths = [tmp_path / "b" / "c", tmp_path / "a", tmp_path / "a", tmp_path / "missing"]
    lines = f"a {hash_of(b'a')}\nc {hash_of(b'b/c')}\nmissing unreadable"
    assert files_hash(paths) == hash_of(lines.encode())
