"""Atomic writes, folder creation, locks, file hashes, and arrays on disk. Error messages have one line."""

import contextlib
import errno
import hashlib
import math
import mmap
import os
import secrets
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import DTypeLike, NDArray

from blinddiff.errors import ImageError, OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FilePath: TypeAlias = str | os.PathLike[str]
DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "default"
"""The bundled weights."""
_HIDDEN_NAME = ".blinddiff-{}.tmp"
_FOLDER_LOCK = _HIDDEN_NAME.format("run")  # matches the pattern, so that `remove_leftovers` removes a killed run's lock
_LARGE_FILES = "/var/tmp"  # unlike /tmp, never in memory
_arrays_on_disk: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}  # raised by file systems without locks


def write_file(path: FilePath, data: bytes) -> None:
    """Write `data` to `path` atomically: a reader sees either the old file or the whole new one.

    The bytes go to a hidden file in the same folder, which is flushed and then renamed; only a kill or a power cut may
    leave it there (see `remove_leftovers`). A symbolic link stays, and its target is replaced. Raises OutputError if
    the folder is missing or not writable, the disk is full, or `path` is not a regular file.
    """
    path = Path(path)
    with _one_line_errors(f"{str(path)!r}: cannot be written"):
        target = _target(path)
        hidden, descriptor = _open_hidden(target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                lock(descriptor)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(hidden, target)
        except BaseException:  # also for Ctrl-C
            hidden.unlink(missing_ok=True)
            raise
    # Flush the folder too, so that the renaming survives a power cut. Not all systems can open folders.
    with contextlib.suppress(OSError):
        descriptor = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_leftovers(folder: FilePath) -> None:
    """Remove the hidden files of killed writers from a folder. Those of running writers are locked and stay."""
    with contextlib.suppress(OSError):
        for hidden in Path(folder).glob(_HIDDEN_NAME.format("*")):
            with contextlib.suppress(OSError):
                with open(hidden, "rb") as file:
                    lock(file.fileno())
                hidden.unlink()  # after closing: Windows does not delete open files


def check_writable(path: FilePath) -> None:
    """Raise the OutputError that `write_file` would raise, before the data are computed."""
    path = Path(path)
    with _one_line_errors(f"{str(path)!r}: cannot be written"):
        # Permission bits do not show read-only mounts, quotas or the rights of root, so create a file.
        hidden, descriptor = _open_hidden(_target(path).parent)
        os.close(descriptor)
        hidden.unlink()


def make_folder(path: FilePath) -> None:
    """Create a folder and its parents; an existing folder is kept. Raises OutputError if that fails."""
    with _one_line_errors(f"{path}: cannot be made"):
        Path(path).mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def lock_folder(folder: FilePath) -> Iterator[None]:
    """Create a folder if it is missing, and lock it against other runs until the block ends or the process dies.

    The lock is a hidden file, removed afterwards; a killed run leaves the file, but not the lock. File systems without
    locks are not locked. Raises OutputError if another run holds the lock, or the folder cannot be created or written.
    """
    make_folder(folder)
    path = Path(folder) / _FOLDER_LOCK
    folder_lock = FileLock(path, timeout=0, thread_local=False)
    try:
        folder_lock.acquire()
    except Timeout as error:
        raise OutputError(f"{folder}: another run is writing there") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise OutputError(f"{folder}: cannot be written: {error_reason(error)}") from error
    try:
        yield
    finally:
        # Removed while still locked: another run that has already opened the file cannot lock it, for filelock refuses
        # removed files.
        with contextlib.suppress(OSError):  # Windows does not delete open files; there filelock removes it on release
            path.unlink()
        folder_lock.release()


def file_hash(path: FilePath) -> str:
    """Return the SHA-256 of a file's contents, in hexadecimal. Raises OSError if it cannot be read."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def files_hash(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of the sorted lines ``NAME HASH`` of distinct files; HASH may be ``unreadable``."""
    lines = []
    for path in set(paths):
        try:
            lines.append(f"{path.name} {file_hash(path)}")
        except OSError:
            lines.append(f"{path.name} unreadable")
    return hash_of("\n".join(sorted(lines)).encode())


def hash_of(data: bytes) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _target(path: Path) -> Path:
    """Return `path` with links resolved. Raises OutputError if its folder is missing or it is not a regular file."""
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}")
    try:
        kind = os.stat(target).st_mode
    except FileNotFoundError:
        return target
    if stat.S_ISDIR(kind):
        raise OutputError(f"{path}: is a folder, not a file name")
    if not stat.S_ISREG(kind):
        raise OutputError(f"{path}: is not a regular file")
    return target


def _open_hidden(folder: Path) -> tuple[Path, int]:
    # With 0o666 the umask applies; files from tempfile are private. The hidden name does not contain the final name,
    # which may have the maximum length already.
    hidden = folder / _HIDDEN_NAME.format(secrets.token_hex(8))
    return hidden, os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def lock(descriptor: int) -> None:
    """Lock an open file until it is closed or its process dies. Raises BlockingIOError if another holds the lock."""
    if fcntl is not None:  # filelock takes no descriptor, and on Windows a locked file could not be written or renamed
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # BlockingIOError: another process holds the lock; others: file systems without locks
            if isinstance(error, BlockingIOError):
                raise


@contextlib.contextmanager
def _one_line_errors(failure: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise OutputError(f"{failure}: {error_reason(error)}") from error


def error_reason(error: OSError | ValueError) -> str:
    """Return an error's message without the file name."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def replace_folder(new: Path, old: Path) -> None:
    """Replace folder `old` by `new`. If the process is killed between the two renames, see `recover_folder`."""
    backup = old.with_name(old.name + ".old")
    shutil.rmtree(backup, ignore_errors=True)
    if old.exists():
        old.rename(backup)
    new.rename(old)
    shutil.rmtree(backup, ignore_errors=True)


def recover_folder(folder: Path) -> bool:
    """Return whether `folder` exists, after restoring it if `replace_folder` was killed between its two renames."""
    backup = folder.with_name(folder.name + ".old")
    if os.path.exists(backup) and not folder.exists():
        with contextlib.suppress(FileNotFoundError):  # another process has restored it
            backup.rename(folder)
    return os.path.isdir(folder)  # Path.is_dir raises for names that are too long


def zeros_on_disk(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """A new array in a file without a name, which the system removes with the last reference, or with the process.

    It lies in TMPDIR, or else in /var/tmp if there is one. Its pages come into memory when they are used, and stay
    until `release_pages`, or until the system needs the room. Raises ImageError if the disk has no room for it.
    """
    given = _LARGE_FILES if "TMPDIR" not in os.environ and os.path.isdir(_LARGE_FILES) else None
    folder, size = given or tempfile.gettempdir(), np.dtype(dtype).itemsize * math.prod(shape)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # else a full disk would end the process at the first write
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            memory = mmap.mmap(file.fileno(), size)
    except OSError as error:
        needed = f"{size / 1e9:.1f} GB for an image beyond the memory"
        raise ImageError(f"{folder}: {needed}: {error_reason(error)}; TMPDIR names another folder") from error
    _arrays_on_disk.add(memory)
    return np.frombuffer(memory, dtype).reshape(shape)


def release_pages() -> None:
    """Give back the memory of all arrays on disk. Their contents stay."""
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows, which takes pages back by itself
        for memory in list(_arrays_on_disk):
            memory.madvise(mmap.MADV_DONTNEED)
