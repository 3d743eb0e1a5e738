"""The uploads and results of all visitors: private to the server's account, and removed when no longer needed."""

import contextlib
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

PUBLIC = "files"
"""Stands for the folder of all files in what the page sends and receives, see `PrivatePaths`."""


class VisitorFiles:
    """Uploads and results of all visitors, in one folder.

    Removes files unused for ``max_age`` seconds, and a visitor's files ``grace_period`` seconds after the visitor has
    left. A lost connection counts as leaving, although a restoration may still be running and need the files. So the
    grace period must exceed any restoration time.
    """

    def __init__(self, folder: Path, max_age: float = 3600, grace_period: float = 1200) -> None:
        self.folder = folder
        self._max_age, self._grace_period = max_age, grace_period
        self._left_at: dict[str, float] = {}  # time of leaving by visitor, on the monotonic clock
        self._visitors_of: dict[Path, set[str]] = {}  # the visitors who use each folder
        self._results: set[Path] = set()  # folders of results, not uploads
        self._lock = threading.Lock()

    def new_folder(self, visitor: str) -> Path:
        """Make a folder with a random name for a result of a visitor."""
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        with self._lock:
            self._results.add(folder)
            self._visitors_of[folder] = {visitor}
            self._left_at.pop(visitor, None)
        return folder

    def keep_upload(self, visitor: str, upload: Path) -> None:
        """Keep an uploaded file until this visitor leaves. Visitors who upload equal files share one copy."""
        if upload.parent.parent == self.folder:
            with self._lock, contextlib.suppress(OSError):
                self._visitors_of.setdefault(upload.parent, set()).add(visitor)
                self._left_at.pop(visitor, None)
                os.utime(upload.parent)

    def url(self, path: Path) -> str:
        """The address of one of these files, relative to the page's."""
        return quote(f"gradio_api/file={PUBLIC}/{path.relative_to(self.folder).as_posix()}", safe="/=")

    def uploaded_bytes(self) -> int:
        """Total size of the stored uploads."""
        total = 0
        for path in self.folder.rglob("*"):
            with contextlib.suppress(OSError):  # removed meanwhile
                if path.parent not in self._results and path.is_file():
                    total += path.stat().st_size
        return total

    def leave(self, visitor: str) -> None:
        """Mark a visitor as gone, until the visitor uses the page again."""
        with self._lock:
            self._left_at[visitor] = time.monotonic()

    def sweep(self) -> None:
        """Remove the files of visitors who have left, and files unused for `max_age`."""
        left_before, changed_before = time.monotonic() - self._grace_period, time.time() - self._max_age
        with self._lock:
            gone = {visitor for visitor, left_at in self._left_at.items() if left_at <= left_before}
            self._left_at = {visitor: left_at for visitor, left_at in self._left_at.items() if visitor not in gone}
            for visitors in self._visitors_of.values():
                visitors -= gone
            for entry in self.folder.iterdir():
                with contextlib.suppress(OSError):
                    if self._visitors_of.get(entry) == set() or entry.stat().st_mtime < changed_before:
                        shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink()
            self._visitors_of = {folder: kept for folder, kept in self._visitors_of.items() if folder.exists()}
            self._results &= self._visitors_of.keys()


@contextlib.contextmanager
def private_files() -> Iterator[VisitorFiles]:
    """Visitors' files in a folder that only the server's account can read: swept every minute, removed at the end."""
    closed = threading.Event()
    with tempfile.TemporaryDirectory(prefix="blinddiff-", ignore_cleanup_errors=True) as folder:  # mode 0700
        files = VisitorFiles(Path(folder).resolve())

        def sweep_until_closed() -> None:
            while not closed.wait(60):
                files.sweep()

        threading.Thread(target=sweep_until_closed, name="sweeping", daemon=True).start()
        try:
            yield files
        finally:
            closed.set()
