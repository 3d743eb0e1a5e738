"""Test sets on disk, the cases made from their images, and what a method returns for a case."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from scipy.io import loadmat
from scipy.signal import oaconvolve
from torch import Tensor

from blinddiff.degradation.operator import DegradationOperator
from blinddiff.degradation.resize import BICUBIC, Downsampling
from blinddiff.errors import ImageError, KernelError, ParameterError
from blinddiff.files import hash_of
from blinddiff.imaging import read_8bit

Array: TypeAlias = npt.NDArray[Any]

SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
ENVIRONMENT = "BLINDDIFF_DATA"
LAYOUT = "it holds one folder per set, as in Set14/comic.png"


class DataSet(NamedTuple):
    """Number of images in a test set that papers report on, and what its folder should hold (for error messages)."""

    full: int
    contents: str


SETS = {
    "Set5": DataSet(5, "the 5 HR images of Bevilacqua et al. 2012"),
    "Set14": DataSet(14, "the 14 HR images of Zeyde et al. 2010"),
    "BSD100": DataSet(100, "the 100 test images of Martin et al. 2001 (BSDS300)"),
    "Urban100": DataSet(100, "the 100 HR images of Huang et al. 2015"),
    "Manga109": DataSet(109, "the 109 HR images of Matsui et al. 2017"),
    "DIV2KRK": DataSet(100, "gt/im_N, lr_x4/im_N and gt_k_x4/kernel_N.mat of Bell-Kligler et al. 2019"),
    "RealSR100": DataSet(100, "HR/NAME and LR/NAME, the test pairs of StableSR (crops of RealSR, Cai et al. 2019)"),
    "RealSRSet": DataSet(20, "the 20 real photographs of Zhang et al. 2021 (BSRGAN), no ground truth"),
}


def data_root(folder: Path | None) -> Path:
    """The folder of test sets: `folder`, else $BLINDDIFF_DATA. Raises ParameterError if it is not given or missing."""
    chosen = folder or os.environ.get(ENVIRONMENT)
    if not chosen:
        raise ParameterError(f"no folder of test sets: give --data or set {ENVIRONMENT}; {LAYOUT}")
    if not os.path.isdir(chosen):  # Path.is_dir raises for names that the system cannot hold
        raise ParameterError(f"{chosen}: no such folder of test sets; {LAYOUT}")
    return Path(chosen)


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder by name, in natural order (im_9 before im_10). Empty if there is no such folder."""
    files = [path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    return sorted(files, key=lambda path: (int("".join(filter(str.isdigit, path.stem)) or -1), path.name))


def images_named(name: str, folder: Path) -> list[Path]:
    """The image files of a folder with this name, whatever their suffix."""
    return [path for path in images_in(folder) if path.stem == name]


def images_of(root: Path, set_name: str, folder: str = "") -> list[Path]:
    """The image files of a test set. An image is identified by its name without suffix.

    Raises ParameterError if there are none, or if two files differ only in their suffix.
    """
    home = root / set_name / folder
    files = images_in(home)
    duplicates = [stem for stem, count in Counter(path.stem for path in files).items() if count > 1]
    if duplicates:
        names = " and ".join(path.name for path in files if path.stem == duplicates[0])
        raise ParameterError(f"{home}: holds {names}; keep one of them")
    if not files:
        contents = SETS[set_name].contents if set_name in SETS else "HR images"
        found = ", ".join(sorted(p.name for p in root.iterdir() if p.is_dir())) or "no folders"
        raise ParameterError(f"{home}: no images; it should hold {contents} ({root} has: {found})")
    return files


def read_pixels(path: Path) -> Tensor:
    """`read_8bit` as float32 (3, H, W) in [0, 1]. Raises ImageError."""
    return torch.from_numpy(read_8bit(path).astype(np.float32) / 255).permute(2, 0, 1).contiguous()


def crop_to_multiple(image: Tensor, factor: int) -> Tensor:
    """The top left part whose sides are multiples of `factor`, as papers crop. Raises ImageError if nothing is left."""
    height, width = (side // factor * factor for side in image.shape[-2:])
    if height == 0 or width == 0:
        raise ImageError(f"an image of {image.shape[-1]}x{image.shape[-2]} is smaller than scale {factor}")
    return image[..., :height, :width]


def shifted_kernel(kernel: Array, scale: int) -> Array:
    """A stored kernel of DIV2KRK, (31, 31) at x4 and (11, 11) at x2, as applied: shifted by a cubic spline.

    It is not normalised. Its centre of mass moves to the middle index plus (scale - 1) / 2, so that decimation at
    offset 0 samples the block centres.
    DIV2KRK's LR images are the *correlation* with this kernel, decimated and truncated to 8 bit (not rounded).
    """
    target = (np.array(kernel.shape) - 1) / 2 + (scale - 1) / 2
    return np.asarray(ndimage.shift(kernel, target - np.array(ndimage.center_of_mass(kernel))))


def degrade_as_div2krk(hr: Tensor, kernel: Array, scale: int) -> Tensor:
    """DIV2KRK's degradation of (3, H, W) in [0, 1] by a stored kernel: correlation, decimation, truncation to 8 bit."""
    applied = shifted_kernel(kernel, scale)
    half = len(applied) // 2
    padded = np.pad(255 * hr.double().numpy(), ((0, 0), (half, half), (half, half)), mode="symmetric")
    blurred = oaconvolve(padded, applied[None, ::-1, ::-1], mode="valid", axes=(1, 2))[:, ::scale, ::scale]
    # Sums that are whole numbers except for rounding errors are not truncated to the next lower one.
    return torch.from_numpy(np.floor(np.clip(blurred, 0, 255) + 1e-9) / 255).float()


def read_stored_kernel(path: Path, key: str = "Kernel") -> Array:
    """An entry of a .mat file (``kernel_N.mat`` of DIV2KRK) or a .npz file, float64.

    Raises KernelError if it is missing or has another format.
    """
    if not path.is_file():
        raise KernelError(f"{path}: the kernel is missing")
    try:
        entries = np.load(path) if path.suffix == ".npz" else loadmat(path)
        return np.asarray(entries[key], dtype=np.float64)
    except Exception as error:  # damaged files make scipy and numpy raise errors of many types
        kind = "a test kernel, a .npz file" if path.suffix == ".npz" else "a kernel of DIV2KRK, a .mat file"
        raise KernelError(f"{path}: not {kind} with the entry '{key}'") from error


def as_convolution(kernel: Array) -> Tensor:
    """A correlation kernel as a convolution kernel of sum 1. Small negative entries, from the spline, become 0."""
    flipped = torch.from_numpy(kernel[::-1, ::-1].copy()).clamp_min(0)
    return (flipped / flipped.sum()).float()


class CaseId(NamedTuple):
    """Identifies a case of a protocol at one scale: test set, image, and index of the protocol's parameter."""

    set: str
    name: str
    parameter: int  # index into `Protocol.labels`

    def __str__(self) -> str:
        """``Set14/comic/3``."""
        return f"{self.set}/{self.name}/{self.parameter}"

    @property
    def stem(self) -> str:
        """``comic_3``: file name of the case's images in exports and external results."""
        return f"{self.name}_{self.parameter}"


def case_seed(*parts: str | int | CaseId) -> int:
    """A seed of 63 bits from names and numbers: the same on every machine and in any order of evaluation."""
    return int(hash_of("/".join(map(str, parts)).encode())[:16], 16) >> 1


class CaseReference(NamedTuple):
    """A case that has not been made yet: cheap to list and to send to a worker process."""

    id: CaseId
    source: Path


@dataclass(frozen=True)
class Case:
    """One degraded image with its ground truth. Images are float32 in [0, 1], already rounded to 8 bit.

    Attributes:
        hr: ground truth (3, s*h, s*w); None if there is none.
        y: LR image (3, h, w).
        kernel: true blur kernel (kh, kw) in HR pixels, to be used with ``downsampling``; None if unknown.
        noise_level: true standard deviation of the noise in grey levels, before clipping and rounding; None if unknown.
        seed: random seed for the methods; differs from case to case.
        downsampling: how the blurred image was subsampled.
        centred_kernel: the true kernel with its index centre at the centre of the LR pixel, if that of ``kernel`` is
            elsewhere; None if ``kernel`` is centred.
        crop: HR pixels that most metrics leave out on each side; None for ``scale``.
        max_shift: results are compared with ``hr`` at their best shift of up to this many HR pixels.
    """

    id: CaseId
    scale: int
    hr: Tensor | None
    y: Tensor
    kernel: Tensor | None
    noise_level: float | None
    seed: int
    downsampling: Downsampling = BICUBIC
    centred_kernel: Tensor | None = None
    crop: int | None = None
    max_shift: int = 0

    @property
    def border(self) -> int:
        """HR pixels that most metrics leave out on each side."""
        return self.scale if self.crop is None else self.crop

    @property
    def kernel_centred_on_lr_pixel(self) -> Tensor | None:
        """The true kernel centred on the LR pixel. Estimates are compared with this one; `kernel` is as applied."""
        return self.kernel if self.centred_kernel is None else self.centred_kernel

    def operator(self) -> DegradationOperator:
        """The true degradation without noise. Raises ParameterError if the kernel is unknown."""
        if self.kernel is None:
            raise ParameterError(f"{self.id}: the true kernel is not known")
        return DegradationOperator(self.kernel, self.scale, self.downsampling)


@dataclass(frozen=True)
class Restoration:
    """A restored image and the method's estimates of the degradation.

    Attributes:
        image: (3, s*h, s*w), float; values outside [0, 1] are clipped before measuring.
        kernel: *estimated* blur kernel (kh, kw) in HR pixels; None if the method estimates none or was given one.
        noise_level: *estimated* standard deviation of the noise in grey levels, or None.
        seconds: wall-clock time of the restoration alone.
        calls: calls of the network, 0 if there is none.
        expected_kernel_error: the method's own estimate of sum |k_hat - k|, 0 to 2, or None.
    """

    image: Tensor
    kernel: Tensor | None
    noise_level: float | None
    seconds: float
    calls: int
    expected_kernel_error: float | None = None


def to_8bit(image: Tensor) -> Tensor:
    """Clipped to [0, 1] and rounded to multiples of 1/255, as in an 8-bit file."""
    return image.clamp(0, 1).mul(255).round().div(255)


def to_bytes(image: Tensor) -> np.ndarray:
    """(3, h, w) in [0, 1] as (h, w, 3) uint8."""
    return image.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()


def checksum(image: Tensor) -> str:
    """SHA-256 of an image's size and 8-bit pixels. Records with equal values evaluated the same input."""
    pixels = to_bytes(image)
    return hash_of(repr(pixels.shape).encode() + pixels.tobytes())
