"""What an evaluation writes down: one line for each image as it is finished, and a record of the whole run."""

import json
import math
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

from blinddiff.errors import OutputError
from blinddiff.evaluation.cases import Place
from blinddiff.files import lock, write_file

FORMAT = 3
LINES = "images.jsonl"
RECORD = "record.json"
LOCK = ".blinddiff-evaluate.tmp"
PACKAGES = ("blinddiff", "torch", "numpy", "scipy", "pillow", "diffusers")
OPTIONAL_PACKAGES = ("lpips", "DISTS_pytorch")


@dataclass(frozen=True)
class ImageResult:
    """One method on one case: its metrics, or why there are none.

    Attributes:
        metrics: name -> value, only those that apply.
        y_checksum: SHA-256 of the LR image's pixels.
        error: one line if the method could not be evaluated on this case, else None.
    """

    method: str
    set: str
    name: str
    index: int
    metrics: dict[str, float] = field(default_factory=dict)
    y_checksum: str = ""
    error: str | None = None

    @property
    def key(self) -> tuple[str, str, str, int]:
        """(method, set, image, parameter index)."""
        return self.method, *self.place

    @property
    def place(self) -> Place:
        """The case."""
        return Place(self.set, self.name, self.index)


class ResultLog:
    """The lines of a run in its folder: read on start, appended to as results come, so that a killed run goes on.

    The first line is a fingerprint of all that the numbers depend on, and of what each method's depend on beside that;
    another run's lines are refused. It holds checksums of the images' files, too: images may be added to a run, as
    methods may, and what has changed is done again. While a log is open, no other run can write to its folder.
    """

    def __init__(
        self, folder: Path, fingerprint: dict[str, Any], methods: Mapping[str, str | None], images: Mapping[str, str]
    ) -> None:
        """methods: name -> fingerprint, None to drop the lines there are. images: ``Set14/comic`` -> checksum.

        Raises OutputError if the folder cannot be written, holds the lines of another run, or another is writing there.
        """
        self.path = folder / LINES
        self.fingerprint = json.loads(json.dumps(fingerprint))
        self.methods = dict(methods)
        self.images = dict(images)
        self.results: dict[tuple[str, str, str, int], ImageResult] = {}
        with self._written():
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(folder / LOCK, "ab")  # noqa: SIM115 - closed by `close`
        try:
            with self._written():
                lock(self._lock.fileno())
                if self.path.exists():
                    self._read()
                self._rewrite()
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        data = self.path.read_bytes()
        if not data:
            return
        try:
            lines = data.decode("utf-8").splitlines()
            head = json.loads(lines[0])
            first, methods = dict(head["fingerprint"]), dict(head["methods"])
            images = dict(head.get("images", {}))  # logs from before it was written down go on
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{self.path}: is not a log of blinddiff evaluate; choose another --out") from error
        now_is = self.fingerprint
        changed = sorted(k for k in {*first, *now_is} if first.get(k) != now_is.get(k))
        changed += [
            f"weights of {name}" for name in sorted(methods) if methods[name] != self.methods.get(name, methods[name])
        ]
        if changed:
            raise OutputError(
                f"{self.path}: holds another run (differs in: {', '.join(changed)}); choose another --out"
            )
        self.methods = {**methods, **self.methods}
        stale = {name for name in images if images[name] != self.images.get(name, images[name])}
        self.images = {**images, **self.images}
        for line in lines[1:]:
            try:
                result = ImageResult(**json.loads(line))
            except (ValueError, TypeError):
                continue  # the line that was being written when the run was killed
            # What failed is tried again, and so is what has changed or may have.
            known = self.methods.get(result.method) is not None and f"{result.set}/{result.name}" not in stale
            if result.error is None and known:
                self.results[result.key] = result

    def _rewrite(self) -> None:
        head = json.dumps(
            {"fingerprint": self.fingerprint, "methods": self.methods, "images": self.images}, sort_keys=True
        )
        results = [self.results[key] for key in sorted(self.results)]
        write_text(self.path, "\n".join([head, *map(_line, results)]) + "\n")

    def append(self, results: Iterable[ImageResult]) -> None:
        """Add results, on disk before this returns. Raises OutputError."""
        with self._written(), self.path.open("a", encoding="utf-8") as file:
            for result in results:
                self.results[result.key] = result
                file.write(_line(result) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> None:
        """Sort the lines, so that runs that came to the same end in another order have the same file."""
        self._rewrite()

    def close(self) -> None:
        """Let other runs in."""
        self._lock.close()

    def __enter__(self) -> "ResultLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _written(self) -> Iterator[None]:
        """The system's errors in one line."""
        try:
            yield
        except BlockingIOError as error:
            raise OutputError(f"{self.path.parent}: another run is writing there") from error
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror or error})") from error


def _line(result: ImageResult) -> str:
    return json.dumps(asdict(result), sort_keys=True, allow_nan=False)


def finite(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics that JSON can hold: an external result has no time, for example."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all. Raises OutputError if that is not possible."""
    write_file(path, text.encode())


def versions() -> dict[str, str]:
    """Versions of Python, the platform and the packages that numbers may depend on."""
    found = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed as a package"
    for package in OPTIONAL_PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def write_json(path: Path, content: Any) -> None:
    """Write JSON that a person and `git diff` can read. Raises OutputError."""
    write_text(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")
