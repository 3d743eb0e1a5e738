"""DIV2KRK: stored LR images and random rough kernels of KernelGAN, and the recipe that made the one from the other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from scipy.io import loadmat
from torch import Tensor

from blinddiff.degradation.downsampling import Decimate
from blinddiff.errors import ImageError, KernelError
from blinddiff.evaluation.cases import Case, CaseReference, Place, case_seed
from blinddiff.evaluation.data import images_in, images_of, read_pixels
from blinddiff.evaluation.protocols.protocol import Protocol

Array: TypeAlias = npt.NDArray[Any]


def shifted_kernel(kernel: Array, scale: int) -> Array:
    """The stored kernel (31, 31) as it was applied: moved by a cubic spline, on the same grid, not normalised.

    Its centre of mass goes to index 15 + (scale - 1) / 2, so that decimation at offset 0 samples block middles.
    """
    target = (np.array(kernel.shape) - 1) / 2 + (scale - 1) / 2
    moved: Array = ndimage.shift(kernel, target - np.array(ndimage.center_of_mass(kernel)))
    return moved


def degrade(hr: Array, kernel: Array, scale: int) -> Array:
    """The recipe of the set: HR (H, W, 3) uint8 and stored kernel -> LR (ceil(H / s), ceil(W / s), 3) uint8.

    *Correlation* with the shifted kernel, symmetric border, samples at 0, s, 2s ..., truncated to 8 bit (not rounded).
    """
    moved = shifted_kernel(kernel, scale)
    planes = [
        ndimage.correlate(hr[..., channel].astype(np.float64), moved, mode="reflect")[::scale, ::scale]
        for channel in range(3)
    ]
    lr: Array = np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)
    return lr


def read_stored_kernel(path: Path) -> Array:
    """A ``kernel_N.mat`` of the set, float64. Raises KernelError if it is missing or no such file."""
    if not path.is_file():
        raise KernelError(f"{path}: the kernel is missing")
    try:
        kernel = np.asarray(loadmat(path)["Kernel"], dtype=np.float64)
    except Exception as error:  # scipy raises whatever a damaged file makes it stumble over
        raise KernelError(f"{path}: not a kernel of DIV2KRK, a .mat file with the entry 'Kernel'") from error
    return kernel


def _as_convolution(kernel: Array) -> Tensor:
    """A correlation kernel as a non-negative convolution kernel of sum 1 (the spline leaves specks below zero)."""
    flipped = torch.from_numpy(kernel[::-1, ::-1].copy()).clamp_min(0)
    return (flipped / flipped.sum()).float()


class Div2krk(Protocol):
    """Evaluated on the stored LR images."""

    name = "div2krk"
    source = "S. Bell-Kligler et al., Blind super-resolution kernel estimation using KernelGAN, NeurIPS 2019"
    degradation = (
        "stored LR images: anisotropic Gaussian kernels 31x31 with multiplicative noise, moved to the middle of the LR "
        "pixel, decimation, truncation to 8 bit"
    )
    scales = (4,)
    sets = ("DIV2KRK",)

    @property
    def labels(self) -> Sequence[str]:
        """See `Protocol.labels`."""
        return ["stored kernel"]

    def references(self, root: Path, set_name: str, limit: int | None = None) -> list[CaseReference]:
        """See `Protocol.references`."""
        files = images_of(root, set_name, "gt")
        images_of(root, set_name, f"lr_x{self.scale}")  # says so if there are none at all
        return [CaseReference(Place(set_name, path.stem, 0), path) for path in files[:limit]]

    def files(self, reference: CaseReference) -> list[Path]:
        """See `Protocol.files`: HR, LR and kernel."""
        return [reference.source, *self._inputs(reference), self._kernel(reference)]

    def _inputs(self, reference: CaseReference) -> list[Path]:
        """The LR image, under whatever ending."""
        home = reference.source.parent.parent
        return [path for path in images_in(home / f"lr_x{self.scale}") if path.stem == reference.place.name]

    def _kernel(self, reference: CaseReference) -> Path:
        number = reference.place.name.rpartition("_")[2]
        return reference.source.parent.parent / f"gt_k_x{self.scale}" / f"kernel_{number}.mat"

    def make(self, reference: CaseReference, seed: int) -> Case:
        """See `Protocol.make`. Raises KernelError if its kernel cannot be read."""
        stored = read_stored_kernel(self._kernel(reference))
        candidates = self._inputs(reference)
        if not candidates:
            missing = reference.source.parent.parent / f"lr_x{self.scale}" / reference.place.name
            raise ImageError(f"{missing}: the LR image is missing")
        hr, y = read_pixels(reference.source), read_pixels(candidates[0])
        if tuple(hr.shape[-2:]) != tuple(side * self.scale for side in y.shape[-2:]):
            size = f"{y.shape[-1]}x{y.shape[-2]}"
            raise ImageError(f"{candidates[0]}: {size} is not 1/{self.scale} of {reference.source.name}")
        return Case(
            place=reference.place,
            scale=self.scale,
            hr=hr,
            y=y,
            kernel=_as_convolution(shifted_kernel(stored, self.scale)),
            noise_level=0.0,
            seed=case_seed(self.name, self.scale, reference.place, seed, "method"),
            downsampling=Decimate(0),
            centred_kernel=_as_convolution(stored),
        )
