"""The test sets on disk: where they are looked for, what each should hold, and their pixels as stored."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from blinddiff.errors import ImageError, ParameterError
from blinddiff.models.loading import DEFAULT_WEIGHTS

SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
ENVIRONMENT = "BLINDDIFF_DATA"
LAYOUT = "it holds one folder a set, as in Set14/comic.png"


@dataclass(frozen=True)
class DataSet:
    """A test set: a folder of images. `full` is the number of images of the set that papers report on."""

    name: str
    full: int
    holds: str


SETS = {
    data_set.name: data_set
    for data_set in (
        DataSet("Set5", 5, "the 5 HR images of Bevilacqua et al. 2012"),
        DataSet("Set14", 14, "the 14 HR images of Zeyde et al. 2010"),
        DataSet("BSD100", 100, "the 100 test images of Martin et al. 2001 (BSDS300)"),
        DataSet("Urban100", 100, "the 100 HR images of Huang et al. 2015"),
        DataSet("Manga109", 109, "the 109 HR images of Matsui et al. 2017"),
        DataSet("DIV2KRK", 100, "gt/im_N, lr_x4/im_N and gt_k_x4/kernel_N.mat of Bell-Kligler et al. 2019"),
        DataSet("RealSRSet", 20, "the 20 real photographs of Zhang et al. 2021 (BSRGAN), no ground truth"),
    )
}


def data_root(folder: Path | None) -> Path:
    """The folder of test sets: `folder`, else the environment variable BLINDDIFF_DATA.

    Raises ParameterError if neither is given or the folder is not there.
    """
    chosen = folder or (Path(os.environ[ENVIRONMENT]) if os.environ.get(ENVIRONMENT) else None)
    if chosen is None:
        raise ParameterError(f"no folder of test sets: give --data or set {ENVIRONMENT}; {LAYOUT}")
    if not os.path.isdir(chosen):  # Path raises for what cannot be a name
        raise ParameterError(f"{chosen}: no such folder of test sets; {LAYOUT}")
    return chosen


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder by name, natural order (im_9 before im_10). Empty if there is no such folder."""
    if not folder.is_dir():
        return []
    files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()]
    return sorted(files, key=_natural)


def _natural(path: Path) -> tuple[int, str]:
    digits = "".join(c for c in path.stem if c.isdigit())
    return (int(digits) if digits else -1, path.name)


def images_of(root: Path, set_name: str, folder: str = "") -> list[Path]:
    """The images of a test set. Raises ParameterError, saying what is missing and what it should hold.

    Also if two files differ in their endings alone: an image is known by its name without it.
    """
    place = root / set_name / folder
    files = images_in(place)
    twice = [stem for stem, count in Counter(path.stem for path in files).items() if count > 1]
    if twice:
        names = " and ".join(path.name for path in files if path.stem == twice[0])
        raise ParameterError(f"{place}: holds {names}, of which one is accepted")
    if not files:
        known = SETS.get(set_name)
        should = known.holds if known else "HR images"
        found = ", ".join(sorted(p.name for p in root.iterdir() if p.is_dir())) or "no folders"
        raise ParameterError(f"{place}: no images; it should hold {should} ({root} has: {found})")
    return files


def read_pixels(path: Path) -> Tensor:
    """An 8-bit image file as float32 (3, H, W) in [0, 1], RGB, the stored values without colour management.

    Grey images are repeated on three channels; an alpha channel is dropped. Raises ImageError for an unreadable file,
    and for grey of more than 8 bits.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):  # Pillow would clip it to 255
                raise ValueError("grey of more than 8 bits")
            pixels = np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow raises whatever a damaged file makes it stumble over
        raise ImageError(f"{path}: cannot be read as an image ({_reason(error)})") from error
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1).contiguous()


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return "no known image format"
    return next(iter(str(error).splitlines()), type(error).__name__)


def crop_to_multiple(image: Tensor, factor: int) -> Tensor:
    """The top left part whose sides are multiples of `factor`, as papers crop. Raises ImageError if nothing is left."""
    height, width = (side // factor * factor for side in image.shape[-2:])
    if height == 0 or width == 0:
        raise ImageError(f"an image of {image.shape[-1]}x{image.shape[-2]} is smaller than scale {factor}")
    return image[..., :height, :width]


def files_checksum(paths: Iterable[Path]) -> str:
    """One SHA-256 for many files: of the lines ``name checksum``, sorted; folders do not count, nor do repetitions.

    A file that cannot be read has the checksum ``unreadable``.
    """
    lines = sorted(f"{path.name} {_file_checksum(path)}" for path in set(paths))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _file_checksum(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return "unreadable"


def weights_checksum(folder: Path | None) -> str | None:
    """One SHA-256 of the configuration and tensors in a folder of weights, or the package's; None if there are none."""
    place = folder or DEFAULT_WEIGHTS
    files = sorted(path for pattern in ("*.safetensors", "*.json") for path in place.rglob(pattern))
    return files_checksum(files) if files else None
