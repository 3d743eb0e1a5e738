"""Which files of a folder are photographs, and what their results are called."""

import os
import unicodedata
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from blinddiff.errors import ImageError, OutputError
from blinddiff.imaging import FORMATS, OUTPUT_FORMATS, SIGNATURE_BYTES, has_image_name, has_raw_name, image_format

SAME = "same"
"""Instead of an extension: each file's own format, where that is written."""
_WRITTEN = {kind.name: kind.suffixes[0] for kind in FORMATS if kind.suffixes[0] in OUTPUT_FORMATS}
_SUFFIXES = {suffix for kind in FORMATS for suffix in kind.suffixes}


@dataclass(frozen=True)
class Job:
    """One photograph to restore.

    Attributes:
        name, output: where it is below the input folder, and its result below the output folder.
        source, target: the same as paths.
    """

    name: str
    output: str
    source: Path
    target: Path


@dataclass
class Plan:
    """What is to be done.

    Attributes:
        jobs: in the order of their names.
        failures: names below the input folder, with the reason why nothing can be done there.
        notes: lines to say beforehand: names that clashed, and files left alone.
    """

    jobs: list[Job] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def make_plan(source: Path, output: Path, suffix: str, kernel: Path | None = None) -> Plan:
    """Look through a folder.

    Photographs are the files with the extension or the first bytes of a format that is read. Hidden files and folders
    and cameras' raw files are left alone, and so is the output folder, should it be inside. Links to files are
    followed; links to folders too, once for each folder, after everything else: loops end.

    Args:
        source: the folder to look through.
        output: the folder for results, which need not exist.
        suffix: the results' extension, or `SAME`.
        kernel: file of the kernel, which no result may overwrite either.

    Raises:
        ImageError: there is no photograph.
        OutputError: the output folder is the input folder.
    """
    if _identity(output) == _identity(source) is not None:
        raise OutputError(f"{output}: is the input folder; choose another for the results")
    plan = Plan()
    found = _Search(source, output, plan).photographs()
    suffixes = {name: _own_suffix(source / name) if suffix == SAME else suffix for name in found}
    targets = result_names(found, lambda name: suffixes[name], plan.notes.append)
    inputs = {_identity(source / name): "a photograph" for name in found}
    if kernel is not None:
        inputs[_identity(kernel)] = "the kernel"
    inputs.pop(None, None)  # what is not there
    for name in found:
        target = output / targets[name]
        lost = inputs.get(_identity(target))
        if lost is not None:
            plan.failures.append((name, f"{source / name}: its result {target} would overwrite {lost}"))
        else:
            plan.jobs.append(Job(name, targets[name], source / name, target))
    if not found and not plan.failures:
        raise ImageError(f"{source}: is a folder without photographs")
    return plan


class _Search:
    def __init__(self, source: Path, output: Path, plan: Plan) -> None:
        self._source, self._plan = source, plan
        self._seen = {_identity(output)} - {None}
        self._links: deque[str] = deque()
        self._others = 0

    def photographs(self) -> list[str]:
        found = self._below("")
        while self._links:
            found += self._below(self._links.popleft())
        if self._others:
            files = "file is" if self._others == 1 else "files are"
            self._plan.notes.append(f"{self._others} other {files} left alone")
        return sorted(found)

    def _below(self, start: str) -> list[str]:
        found, folders = [], [start]
        while folders:
            folder = folders.pop()
            identity = _identity(self._source / folder)
            if identity in self._seen:
                continue
            self._seen.add(identity)
            try:
                with os.scandir(self._source / folder) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except OSError as error:
                reason = f"{self._source / folder}: cannot be listed: {error.strerror}"
                self._plan.failures.append((folder or ".", reason))
                continue
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = str(PurePosixPath(folder, entry.name))
                if _is_folder(entry):
                    (self._links if entry.is_symlink() else folders).append(name)
                elif _is_photograph(Path(entry.path)):
                    found.append(name)
                else:
                    self._others += 1
        return found


def result_names(names: Sequence[str], suffix_of: Callable[[str], str], say: Callable[[str], None]) -> dict[str, str]:
    """Return the result's name for each photograph's: the same, with another extension.

    Where that is the same for several (a.jpg and a.png), all of them keep their own extension too: a.jpg.png and
    a.png.png.
    Names that differ only in case, or in how Unicode writes them, count as the same: on many file systems they are.
    """
    wanted = {name: _without_extension(name) + suffix_of(name) for name in names}
    takers = defaultdict(list)
    for name in sorted(names):
        takers[_key(wanted[name])].append(name)
    folders = {_key(str(parent)) for name in names for parent in PurePosixPath(name).parents}
    taken = folders | set(takers)
    for key, group in takers.items():
        if len(group) == 1 and key not in folders:
            continue
        clashing = wanted[group[0]]
        for name in group:
            wanted[name] = _free(name, suffix_of(name), taken)
            taken.add(_key(wanted[name]))
        results = ", ".join(wanted[name] for name in group)
        say(f"{', '.join(group)}: {clashing} would not be clear; written as {results}")
    return wanted


def suffix_of_format(name: str | None) -> str:
    """The extension that stands for `SAME`: of a file format by name, of PNG where it is not written."""
    return _WRITTEN.get(name or "", ".png")


def _free(name: str, suffix: str, taken: set[str]) -> str:
    result, number = name + suffix, 1
    while _key(result) in taken:
        number += 1
        result = f"{name}-{number}{suffix}"
    return result


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _without_extension(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in _SUFFIXES else name


def _own_suffix(path: Path) -> str:
    return suffix_of_format(_format(path))


def _is_photograph(path: Path) -> bool:
    return has_image_name(path) or (not has_raw_name(path) and _format(path) is not None)


def _format(path: Path) -> str | None:
    """Name of a regular file's format; None if it is none, or cannot be opened."""
    try:
        if not path.is_file():
            return None
        with open(path, "rb") as file:
            kind = image_format(file.read(SIGNATURE_BYTES))
    except OSError:
        return None
    return None if kind is None else kind.name


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file or folder from every other, under whatever name; None if there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
