"""Files that are there whole or not at all. Stands below every room, as the errors do."""

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blinddiff.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_HIDDEN_NAME = ".blinddiff-{}.tmp"
_HIDDEN_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old file or the whole new one, whatever happens meanwhile.

    The bytes go to a hidden file in the same folder, are flushed to the disk and then take the name. A link is
    followed: its target is replaced, the link stays. On an error nothing is left behind; after a kill or a power cut
    the hidden file may be (`remove_leftovers`).

    Raises:
        OutputError: the folder is missing or not writable, the disk is full, or `path` is not a regular file.
    """
    path = Path(path)
    with _one_line_errors(path):
        target = _target(path)
        hidden, descriptor = _open_hidden(target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                lock(descriptor)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(hidden, target)
        except BaseException:  # Ctrl-C too leaves nothing behind
            hidden.unlink(missing_ok=True)
            raise
    _flush_folder(target.parent)


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove what writers that were killed left in a folder; what another is writing just now stays."""
    with contextlib.suppress(OSError):
        for hidden in Path(folder).glob(_HIDDEN_NAME.format("*")):
            with contextlib.suppress(OSError):
                with open(hidden, "rb") as file:
                    lock(file.fileno())
                hidden.unlink()  # closed before: Windows removes no file that is open, here or at its writer's


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise now what `write_file` would raise after the work is done.

    Raises:
        OutputError: the folder is missing or not writable, or `path` is not a regular file.
    """
    path = Path(path)
    with _one_line_errors(path):
        # Permission bits do not tell (read-only mounts, quotas, root): making a file does.
        hidden, descriptor = _open_hidden(_target(path).parent)
        os.close(descriptor)
        hidden.unlink()


def _target(path: Path) -> Path:
    """Return the real place of `path`, links followed; refuse folders and devices."""
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
    # os.open with 0o666 follows the user's umask, which tempfile's private files do not. The short name of its own
    # leaves room: the final name may already be as long as the file system allows.
    hidden = folder / _HIDDEN_NAME.format(secrets.token_hex(8))
    return hidden, os.open(hidden, _HIDDEN_FILE_FLAGS, 0o666)


def lock(descriptor: int) -> None:
    """Lock an open file for as long as its process lives; raises BlockingIOError where another has.

    File systems that know no locks are left without, and so is Windows: there nothing tells two runs apart.
    """
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass


def _flush_folder(folder: Path) -> None:
    """Make the new name survive a power cut, where the system can open a folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems cannot: the file itself is safe
        pass
    finally:
        os.close(descriptor)


@contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = error.strerror if isinstance(error, OSError) else None
        raise OutputError(f"{str(path)!r}: cannot be written: {reason or error}") from error


def replace_folder(new: Path, old: Path) -> None:
    """Give folder `new` the name `old`, whose content is removed. A kill on the way is mended by `restore_folder`."""
    before = old.with_name(old.name + ".old")
    shutil.rmtree(before, ignore_errors=True)
    if old.exists():
        old.rename(before)
    new.rename(old)
    shutil.rmtree(before, ignore_errors=True)


def restore_folder(folder: Path) -> bool:
    """Whether `folder` exists. Brings it back where `replace_folder` was killed between its two renames."""
    before = folder.with_name(folder.name + ".old")
    if os.path.exists(before) and not folder.exists():
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            before.rename(folder)
    return os.path.isdir(folder)  # Path.is_dir raises for names that are too long
