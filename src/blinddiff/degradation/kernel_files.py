"""Reads and writes blur kernels: NumPy, MATLAB, text, JSON and grey PNG files."""

import importlib
import io
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from blinddiff.degradation.kernel_measures import check_kernel, drop_slight_negatives, normalise
from blinddiff.errors import KernelError, OutputError, need
from blinddiff.files import write_file

Array: TypeAlias = npt.NDArray[Any]
Format: TypeAlias = Callable[..., Any]

MAT_KEY = "Kernel"  # as in the kernel files of DIV2KRK
MAX_UNDERSHOOT = 2e-3
"""Largest negative share of the mass accepted as interpolation undershoot; DIV2KRK has up to 9e-4."""


def read_kernel(path: str | os.PathLike[str]) -> npt.NDArray[np.float32]:
    """Read a (kh, kw) float32 kernel from a file, normalised to sum 1.

    By suffix: .npy; .mat (variable `Kernel`, or its only matrix; not version 7.3); .csv and .txt (rows of numbers
    separated by commas, semicolons or white space); .json (a list of rows, or one under "kernel"); .png (grey).
    A PNG may have any sum; the others must sum to 1 within 1e-3. Slightly negative entries, up to
    `MAX_UNDERSHOOT`, are set to zero. Raises KernelError naming the file and what is wrong with it.
    """
    file = Path(path)
    read = _format_of(file, _READERS, KernelError)
    try:
        array = np.asarray(read(file))
        if array.dtype.kind not in "buif":
            raise KernelError("does not hold plain numbers")
        kernel = array.astype(np.float64)
        if file.suffix.lower() == ".png":
            if not kernel.any():
                raise KernelError("picture is black, so there is no kernel in it")
            kernel = normalise(kernel)
        if kernel.ndim == 2:
            kernel = drop_slight_negatives(kernel, MAX_UNDERSHOOT)  # keeps the sum, which is checked next
        return np.asarray(normalise(check_kernel(kernel)), np.float32)
    except FileNotFoundError:
        raise KernelError(f"{file}: no such kernel file") from None
    except KernelError as error:
        raise KernelError(f"{file}: {error}") from None
    except Exception as error:  # readers raise errors of many kinds on damaged files
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise KernelError(f"{file}: cannot be read as a kernel ({reason})") from error


def write_kernel(path: str | os.PathLike[str], kernel: npt.ArrayLike) -> None:
    """Write a (kh, kw) kernel in the format of the suffix; see `read_kernel` for the formats.

    Numbers keep float32 precision, except in a .png, which has 16 bits with the peak at white. The file is written
    atomically. Raises KernelError for an invalid kernel, OutputError for an unknown suffix or a path that cannot be
    written to.
    """
    file, buffer = Path(path), io.BytesIO()
    write = _format_of(file, _WRITERS, OutputError)
    write(buffer, np.asarray(check_kernel(np.asarray(kernel)), np.float32))
    write_file(file, buffer.getvalue())


def _format_of(file: Path, formats: dict[str, Format], error: type[Exception]) -> Format:
    chosen = formats.get(file.suffix.lower())
    if chosen is None:
        raise error(f"{file}: kernel files end in {', '.join(formats)}, not in '{file.suffix}'")
    return chosen


def _scipy_io() -> Any:
    """The module for MATLAB files, a third of what the light installation would take."""
    need("a .mat file", "scipy", "scipy")
    return importlib.import_module("scipy.io")


def _read_mat(file: Path) -> Array:
    try:
        content: dict[str, Any] = _scipy_io().loadmat(file, appendmat=False)
    except NotImplementedError:
        raise KernelError("is a MATLAB 7.3 file; save it with the option -v7") from None
    if MAT_KEY in content:
        return np.asarray(content[MAT_KEY])
    arrays = {key: value for key, value in content.items() if key[:2] != "__" and isinstance(value, np.ndarray)}
    matrices = {name: value for name, value in arrays.items() if value.ndim == 2 and value.dtype.kind in "buif"}
    # MATLAB stores scalars as 1x1 matrices: next to others, one is a parameter, not the kernel.
    matrices = {name: value for name, value in matrices.items() if value.size > 1} or matrices
    if len(matrices) != 1:
        names = ", ".join(matrices) or "none"
        raise KernelError(f"needs a variable '{MAT_KEY}' or just one matrix (has: {names})")
    return np.asarray(next(iter(matrices.values())))


def _read_text(file: Path) -> Array:
    text = file.read_text(encoding="utf-8-sig")
    rows = [line.replace(",", " ").replace(";", " ").split() for line in text.splitlines() if line.strip()]
    return _from_rows([[float(number) for number in row] for row in rows])


def _read_json(file: Path) -> Array:
    content = json.loads(file.read_text(encoding="utf-8"))
    if isinstance(content, dict):
        content = content.get("kernel")
    if not isinstance(content, list) or not all(isinstance(row, list) for row in content):
        raise KernelError('needs a list of rows, or one under "kernel"')
    return _from_rows(content)


def _from_rows(rows: list[list[float]]) -> Array:
    if not rows or len({len(row) for row in rows}) != 1:
        raise KernelError(f"needs rows of equal length (has rows of {sorted({len(row) for row in rows})} numbers)")
    return np.array(rows)


def _read_png(file: Path) -> Array:
    with Image.open(file, formats=["PNG"]) as stored:
        picture: Image.Image = stored
        if picture.mode in ("P", "PA", "RGBA", "LA"):
            # Editors save grey as colour with an opaque alpha channel; with transparency, values would be ambiguous.
            picture = picture.convert("RGBA")
            if picture.getextrema()[-1] != (255, 255):
                raise KernelError("picture has transparent pixels")
            picture = picture.convert("RGB")
        array = np.asarray(picture)
    if array.ndim == 3:
        if (array != array[..., :1]).any():
            raise KernelError("picture is in colour, a grey one is accepted")
        array = array[..., 0]
    return array


def _write_json(file: io.BytesIO, kernel: Array) -> None:
    rows = ",\n ".join("[" + ", ".join(f"{entry:.9g}" for entry in row) + "]" for row in kernel)
    file.write(f'{{"kernel": [\n {rows}\n]}}\n'.encode())


def _write_png(file: io.BytesIO, kernel: Array) -> None:
    if kernel.min() < 0:
        raise KernelError("has negative entries, for which a PNG has no values; choose another format")
    Image.fromarray(np.round(kernel / kernel.max() * 65535).astype(np.uint16)).save(file, format="PNG")


_READERS: dict[str, Format] = {
    ".npy": partial(np.load, allow_pickle=False),
    ".mat": _read_mat,
    ".csv": _read_text,
    ".txt": _read_text,
    ".json": _read_json,
    ".png": _read_png,
}
KERNEL_ENDINGS = tuple(_READERS)
"""Suffixes of kernel files."""
_WRITERS: dict[str, Format] = {
    ".npy": np.save,
    ".mat": lambda file, kernel: _scipy_io().savemat(file, {MAT_KEY: kernel}),
    ".csv": partial(np.savetxt, fmt="%.9g", delimiter=","),  # nine significant digits represent every float32 exactly
    ".txt": partial(np.savetxt, fmt="%.9g"),
    ".json": _write_json,
    ".png": _write_png,
}
