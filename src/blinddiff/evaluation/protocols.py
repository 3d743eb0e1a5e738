"""The protocols of `blinddiff evaluate`. A new one is a file beside this one and a line in `PROTOCOLS`."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from scipy.io import loadmat
from torch import Tensor

from blinddiff.degradation.draws import KernelFamily
from blinddiff.degradation.kernels import (
    GAUSSIAN8_SIGMAS,
    SETTING1,
    SETTING2,
    AnisotropicGaussian,
    Disk,
    IsotropicGaussian,
    anisotropic_gaussian,
    gaussian8_kernels,
)
from blinddiff.degradation.motion import CameraShake, LineMotion
from blinddiff.degradation.noise import GaussianNoise
from blinddiff.degradation.operator import DegradationOperator
from blinddiff.degradation.resize import BICUBIC, Decimate, Downsampling
from blinddiff.errors import ImageError, KernelError, ParameterError
from blinddiff.evaluation.cases import Case, CaseReference, Place, Protocol, case_seed, generator_for, to_8bit
from blinddiff.evaluation.data import crop_to_multiple, images_in, images_of, read_pixels


class SyntheticProtocol(Protocol):
    """Blur by a kernel, thin out, add Gaussian noise, clip and round to 8 bit.

    HR images are cropped at the top left to a multiple of the scale. Kernels and noise are drawn from generators seeded
    by protocol, scale, set, image, index and seed, so that no case depends on another.
    """

    sets: ClassVar[tuple[str, ...]] = ("Set5", "Set14", "BSD100", "Urban100")
    downsampling: Downsampling = BICUBIC

    @abstractmethod
    def kernel(self, index: int, generator: torch.Generator) -> Tensor:
        """The kernel (kh, kw) of a parameter index; the generator is fresh for each case."""

    def noise_level(self, index: int) -> float:
        """Standard deviation of the noise in grey levels."""
        return 0.0

    def references(self, root: Path, set_name: str, limit: int | None = None) -> list[CaseReference]:
        """See `Protocol.references`."""
        files: Sequence[Path] = images_of(root, set_name)[:limit]
        indices = range(len(self.labels))
        return [CaseReference(Place(set_name, path.stem, index), path) for path in files for index in indices]

    def make(self, reference: CaseReference, seed: int) -> Case:
        """See `Protocol.make`."""
        names = (self.name, self.scale, reference.place, seed)
        hr = crop_to_multiple(read_pixels(reference.source), self.scale)
        kernel = self.kernel(reference.place.parameter, generator_for(*names, "kernel"))
        y = DegradationOperator(kernel.double(), self.scale, self.downsampling).forward(hr[None].double())
        level = self.noise_level(reference.place.parameter)
        if level > 0:
            sigma = torch.tensor([level], dtype=y.dtype)
            y = GaussianNoise().apply(y, sigma, generator_for(*names, "noise"))
        return Case(
            place=reference.place,
            scale=self.scale,
            hr=hr,
            y=to_8bit(y[0]).float(),
            kernel=kernel,
            noise_level=level,
            seed=case_seed(*names, "method"),
            downsampling=self.downsampling,
        )


class Gaussian8(SyntheticProtocol):
    """Eight widths evenly spaced over the scale's range, ends included."""

    name = "gaussian8"
    source = "J. Gu et al., Blind super-resolution with iterative kernel correction (IKC), CVPR 2019"
    degradation = "isotropic Gaussian blur 21x21 of eight widths, antialiased bicubic downsampling, 8 bit"
    scales = (2, 3, 4)

    @property
    def labels(self) -> Sequence[str]:
        """See `Protocol.labels`."""
        return [f"sigma {sigma:.2f}" for sigma in GAUSSIAN8_SIGMAS[self.scale]]

    def kernel(self, index: int, generator: torch.Generator) -> Tensor:
        """See `SyntheticProtocol.kernel`."""
        return gaussian8_kernels(self.scale)[index]


ANISO9_KERNEL_SIZE = 21
NOISE_LEVELS = (0.0, 10.0, 20.0)
# (sigma_1, sigma_2, theta in degrees). DASR calls the first two eigenvalues lambda; its code squares them.
KERNELS = (
    (2.0, 0.2, 0),
    (2.0, 1.0, 10),
    (3.5, 1.5, 30),
    (3.5, 2.0, 45),
    (3.5, 2.0, 90),
    (4.0, 1.5, 120),
    (4.0, 2.0, 135),
    (4.0, 3.0, 165),
    (4.0, 4.0, 180),
)


class Aniso9(SyntheticProtocol):
    """Index = noise level * 9 + kernel. DASR's paper draws the kernels; their numbers are as followers give them."""

    name = "aniso9"
    source = (
        "L. Wang et al., Unsupervised degradation representation learning (DASR), CVPR 2021, table 3; kernel "
        "parameters as stated by the authors of DSAT (github.com/I2-Multimedia-Lab/DSAT/issues/2)"
    )
    degradation = (
        "nine anisotropic Gaussian kernels 21x21, antialiased bicubic downsampling, Gaussian noise 0, 10 or 20, 8 bit"
    )
    scales = (4,)
    sets = ("Set14",)

    @property
    def labels(self) -> Sequence[str]:
        """See `Protocol.labels`."""
        return [f"noise {noise:.0f}, {a:g} x {b:g} at {theta}" for noise in NOISE_LEVELS for a, b, theta in KERNELS]

    def kernel(self, index: int, generator: torch.Generator) -> Tensor:
        """See `SyntheticProtocol.kernel`."""
        sigma_1, sigma_2, degrees = KERNELS[index % len(KERNELS)]
        return anisotropic_gaussian(sigma_1, sigma_2, math.radians(degrees), ANISO9_KERNEL_SIZE)

    def noise_level(self, index: int) -> float:
        """See `SyntheticProtocol.noise_level`."""
        return NOISE_LEVELS[index // len(KERNELS)]


SOURCE = "BlindDiff, arXiv 2403.10211, and its published code (ranges of training; its test kernels are not published)"


class Setting1(SyntheticProtocol):
    """Isotropic Gaussians."""

    name = "setting1"
    source = SOURCE
    degradation = "isotropic Gaussian blur 21x21, sigma uniform in [0.2, 4], antialiased bicubic downsampling, 8 bit"
    scales = (4,)

    @property
    def labels(self) -> Sequence[str]:
        """See `Protocol.labels`."""
        return ["random isotropic Gaussian"]

    def kernel(self, index: int, generator: torch.Generator) -> Tensor:
        """See `SyntheticProtocol.kernel`."""
        return SETTING1.sample(1, generator)[0]


class Setting2(SyntheticProtocol):
    """Anisotropic Gaussians with multiplicative noise on their entries."""

    name = "setting2"
    source = SOURCE
    degradation = (
        "anisotropic Gaussian blur 21x21, both sigmas uniform in [0.6, 5], any angle, entries changed by up to 25 %, "
        "antialiased bicubic downsampling, 8 bit"
    )
    scales = (4,)

    @property
    def labels(self) -> Sequence[str]:
        """See `Protocol.labels`."""
        return ["random anisotropic Gaussian"]

    def kernel(self, index: int, generator: torch.Generator) -> Tensor:
        """See `SyntheticProtocol.kernel`."""
        return SETTING2.sample(1, generator)[0]


class Setting2Noise10(Setting2):
    """Setting 2 with noise of 10 grey levels: what the paper calls complex degradation, without a set of its own."""

    name = "setting2_noise10"
    degradation = Setting2.degradation.replace(", 8 bit", ", Gaussian noise 10, 8 bit")

    def noise_level(self, index: int) -> float:
        """See `SyntheticProtocol.noise_level`."""
        return 10.0


DEBLUR_KERNEL_SIZE = 31
NOISE = 2.55  # one per cent of the range, the usual level of non-blind deblurring papers
DEBLUR_FAMILIES: tuple[tuple[str, KernelFamily], ...] = (
    ("isotropic Gaussian", IsotropicGaussian(min_sigma=0.8)),
    ("anisotropic Gaussian", AnisotropicGaussian(min_sigma=0.8)),
    ("camera shake", CameraShake()),
    ("disk", Disk()),
)


class Deblur(SyntheticProtocol):
    """Four random kernels an image."""

    name = "deblur"
    source = "this package (random kernels of its own families, fixed seeds)"
    degradation = "Gaussian, camera shake and disk blur within 31x31, no downsampling, Gaussian noise of 2.55, 8 bit"
    scales = (1,)
    sets = ("Set5", "Set14")

    @property
    def labels(self) -> Sequence[str]:
        """See `Protocol.labels`."""
        return [label for label, _ in DEBLUR_FAMILIES]

    def kernel(self, index: int, generator: torch.Generator) -> Tensor:
        """See `SyntheticProtocol.kernel`."""
        return DEBLUR_FAMILIES[index][1].sample(1, self.scale, DEBLUR_KERNEL_SIZE, generator)[0]

    def noise_level(self, index: int) -> float:
        """See `SyntheticProtocol.noise_level`."""
        return NOISE


MOTION_KERNEL_SIZE = 31
MOTION_FAMILIES: tuple[tuple[str, KernelFamily], ...] = (
    ("camera shake", CameraShake()),
    ("camera shake, another", CameraShake()),
    ("straight motion", LineMotion(min_length=4.0)),
    ("disk", Disk()),
)


class Motion(SyntheticProtocol):
    """Four random kernels an image: two camera shakes, a straight motion, a disk."""

    name = "motion"
    source = "this package (random kernels of its own families, fixed seeds)"
    degradation = "camera shake, straight motion and disk blur within 31x31, antialiased bicubic downsampling, 8 bit"
    scales = (2, 3, 4)
    sets = ("Set5", "Set14")

    @property
    def labels(self) -> Sequence[str]:
        """See `Protocol.labels`."""
        return [label for label, _ in MOTION_FAMILIES]

    def kernel(self, index: int, generator: torch.Generator) -> Tensor:
        """See `SyntheticProtocol.kernel`."""
        return MOTION_FAMILIES[index][1].sample(1, self.scale, MOTION_KERNEL_SIZE, generator)[0]


NOT_REAL = {"RealSRSet": ("butterfly", "ppt3")}  # clean copies of Set5 and Set14 images


class Real(Protocol):
    """Images as they are; in RealSRSet two that are clean copies of other sets' images are left out."""

    name = "real"
    source = "K. Zhang et al., Designing a practical degradation model (BSRGAN), ICCV 2021, for RealSRSet"
    degradation = "none: photographs as found, no ground truth"
    scales = (1, 2, 3, 4)
    sets = ("RealSRSet",)
    truth = False

    @property
    def labels(self) -> Sequence[str]:
        """See `Protocol.labels`."""
        return ["as found"]

    def references(self, root: Path, set_name: str, limit: int | None = None) -> list[CaseReference]:
        """See `Protocol.references`."""
        left_out = NOT_REAL.get(set_name, ())
        files = [path for path in images_of(root, set_name) if path.stem not in left_out]
        return [CaseReference(Place(set_name, path.stem, 0), path) for path in files[:limit]]

    def make(self, reference: CaseReference, seed: int) -> Case:
        """See `Protocol.make`."""
        return Case(
            place=reference.place,
            scale=self.scale,
            hr=None,
            y=read_pixels(reference.source),
            kernel=None,
            noise_level=None,
            seed=case_seed(self.name, self.scale, reference.place, seed, "method"),
        )


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


PROTOCOLS: dict[str, type[Protocol]] = {
    protocol.name: protocol
    for protocol in (Gaussian8, Setting1, Setting2, Setting2Noise10, Aniso9, Div2krk, Motion, Deblur, Real)
}


def protocol(name: str, scale: int) -> Protocol:
    """The named protocol at a scale. Raises ParameterError for an unknown name or a scale it is not defined for."""
    if name not in PROTOCOLS:
        raise ParameterError(f"protocol '{name}': one of {', '.join(PROTOCOLS)} is accepted")
    return PROTOCOLS[name](scale)
