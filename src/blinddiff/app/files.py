"""The page's files: a folder of its own, out of which each visitor's disappear."""

import contextlib
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

KEPT = 3600.0
"""Seconds after which an unused file is removed, of visitors who have not left."""
GRACE = 1200.0
"""Seconds for which the files of a visitor who has left stay: a connection that breaks off looks the same, and more
than a restoration may take."""
_SWEPT_EVERY = 60.0


class Files:
    """Uploads and results of all visitors.

    Args:
        folder: that nobody else can read.
        kept, grace: seconds.
    """

    def __init__(self, folder: Path, kept: float = KEPT, grace: float = GRACE) -> None:
        self.folder = folder
        self._kept, self._grace = kept, grace
        self._left: dict[str, float] = {}  # since when, on the monotonic clock
        self._results: dict[str, set[Path]] = defaultdict(set)
        self._uploads: dict[str, set[Path]] = defaultdict(set)
        self._lock = threading.Lock()

    def new_folder(self, visitor: str) -> Path:
        """A folder for one result; nobody can guess its name."""
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        with self._lock:
            self._results[visitor].add(folder)
            self._left.pop(visitor, None)
        return folder

    def uses(self, visitor: str, upload: Path) -> None:
        """Keep an uploaded file as long as this visitor is here. Equal files of several visitors are one."""
        with self._lock, contextlib.suppress(OSError):
            self._uploads[visitor].add(upload)
            self._left.pop(visitor, None)
            os.utime(upload.parent)

    def uploaded(self) -> int:
        """Bytes of all uploads that are there."""
        with self._lock:
            results = set().union(*self._results.values())
        total = 0
        for path in self.folder.rglob("*"):
            if path.parent not in results:
                with contextlib.suppress(OSError):  # removed meanwhile
                    total += path.stat().st_size if path.is_file() else 0
        return total

    def remove(self, folder: Path) -> None:
        """Remove a folder of results now."""
        shutil.rmtree(folder, ignore_errors=True)

    def leave(self, visitor: str) -> None:
        """Remove what belongs to a visitor in a while, unless he is back and does something until then."""
        with self._lock:
            self._left[visitor] = time.monotonic()

    def sweep(self) -> None:
        """Remove what belongs to visitors who have left, and what has not been used for long."""
        for folder in self._forget():
            self.remove(folder)
        oldest = time.time() - self._kept
        for entry in list(self.folder.iterdir()):
            with contextlib.suppress(OSError):
                if entry.stat().st_mtime < oldest:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        with self._lock:
            for kept in (self._results, self._uploads):
                for visitor in list(kept):
                    kept[visitor] = {path for path in kept[visitor] if path.exists()}
                    if not kept[visitor]:
                        del kept[visitor]

    def _forget(self) -> list[Path]:
        """The folders that belong to nobody but visitors who have left; they are no longer known of."""
        with self._lock:
            gone = [visitor for visitor, since in self._left.items() if time.monotonic() - since >= self._grace]
            folders, uploads = set[Path](), set[Path]()
            for visitor in gone:
                del self._left[visitor]
                folders |= self._results.pop(visitor, set())
                uploads |= self._uploads.pop(visitor, set())
            uploads -= set().union(*self._uploads.values())
        # An upload lies in a folder of its own.
        return [folder for folder in (*folders, *(upload.parent for upload in uploads)) if folder.parent == self.folder]


@contextlib.contextmanager
def private_files() -> Iterator[Files]:
    """A folder that only this user can read, swept while it is in use and removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="blinddiff-")).resolve()  # mode 0700
    files, closed = Files(folder), threading.Event()

    def keep_sweeping() -> None:
        while not closed.wait(_SWEPT_EVERY):
            files.sweep()

    threading.Thread(target=keep_sweeping, name="sweeping", daemon=True).start()
    try:
        yield files
    finally:
        closed.set()
        shutil.rmtree(folder, ignore_errors=True)
