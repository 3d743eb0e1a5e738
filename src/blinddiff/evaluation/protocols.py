"""Protocols: reproducible ways of making test images. A new one is a class and its name in `PROTOCOLS`."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from blinddiff.degradation.draws import KernelFamily
from blinddiff.degradation.kernels import (
    GAUSSIAN8_SIGMAS,
    PRESET_KERNEL_SIZE,
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
from blinddiff.degradation.resize import Decimate
from blinddiff.errors import ImageError, ParameterError
from blinddiff.evaluation.data import (
    Case,
    CaseId,
    CaseReference,
    as_convolution,
    case_seed,
    crop_to_multiple,
    images_in,
    images_of,
    read_pixels,
    read_stored_kernel,
    shifted_kernel,
    to_8bit,
)


class Protocol(ABC):
    """A reproducible way of making test images at one scale. Each case depends only on its id and the seed.

    Attributes:
        name: as given on the command line.
        source: publication that defines the protocol.
        degradation: one sentence with all settings.
        scales: the scales that the protocol is defined for.
        sets: its usual test sets.
        truth: whether the true image and kernel are known.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    degradation: ClassVar[str]
    scales: ClassVar[tuple[int, ...]]
    sets: ClassVar[tuple[str, ...]]
    truth: ClassVar[bool] = True

    def __init__(self, scale: int) -> None:
        if scale not in self.scales:
            accepted = ", ".join(map(str, self.scales))
            raise ParameterError(f"scale {scale}: protocol {self.name} is defined for {accepted}")
        self.scale = scale

    @property
    @abstractmethod
    def labels(self) -> Sequence[str]:
        """The name of each parameter, as in ``sigma 1.80``. Every image gives one case per parameter."""

    @abstractmethod
    def make(self, reference: CaseReference, seed: int) -> Case:
        """Make a case. Raises ImageError if its image cannot be read."""

    def images(self, root: Path, set_name: str) -> list[Path]:
        """The images of a test set that are used. Raises ParameterError if the set is missing."""
        return images_of(root, set_name)

    def references(self, root: Path, set_name: str, limit: int | None = None) -> list[CaseReference]:
        """All cases of a set, or those of its first `limit` images. Raises ParameterError if the set is missing."""
        files = self.images(root, set_name)[:limit]
        return [CaseReference(CaseId(set_name, path.stem, i), path) for path in files for i in range(len(self.labels))]

    def files(self, reference: CaseReference) -> list[Path]:
        """The files that a case is made from."""
        return [reference.source]

    def describe(self) -> dict[str, str | int | list[str]]:
        """The protocol's settings, for records."""
        text = {"name": self.name, "degradation": self.degradation, "source": self.source}
        return {**text, "scale": self.scale, "parameters": list(self.labels)}

    def random_seed(self, reference: CaseReference, seed: int, purpose: str) -> int:
        """A seed for one purpose within one case, from the seed of the evaluation."""
        return case_seed(self.name, self.scale, reference.id, seed, purpose)


class Parameter(NamedTuple):
    """One degradation of a synthetic protocol.

    Attributes:
        label: its name in tables.
        kernel: (kh, kw), or makes the kernel of a case from the case's own generator.
        noise_level: standard deviation of the Gaussian noise in grey levels.
    """

    label: str
    kernel: Tensor | Callable[[torch.Generator], Tensor]
    noise_level: float = 0.0


class SyntheticProtocol(Protocol):
    """Blur by a kernel, subsample, add Gaussian noise, clip, round to 8 bit.

    HR images are cropped at the bottom and right to a multiple of the scale. The generators of kernels and noise are
    seeded by protocol, scale, case and seed, so that no case depends on another.
    """

    sets: ClassVar[tuple[str, ...]] = ("Set5", "Set14", "BSD100", "Urban100")

    @abstractmethod
    def parameters(self) -> Sequence[Parameter]:
        """The degradations that are applied to every image."""

    @property
    def labels(self) -> Sequence[str]:
        return [parameter.label for parameter in self.parameters()]

    def make(self, reference: CaseReference, seed: int) -> Case:
        def generator(purpose: str) -> torch.Generator:
            return torch.Generator().manual_seed(self.random_seed(reference, seed, purpose))

        _, kernel, level = self.parameters()[reference.id.parameter]
        hr = crop_to_multiple(read_pixels(reference.source), self.scale)
        kernel = kernel if isinstance(kernel, Tensor) else kernel(generator("kernel"))
        y = DegradationOperator(kernel.double(), self.scale).forward(hr[None].double())
        if level > 0:
            y = GaussianNoise().apply(y, torch.tensor([level], dtype=y.dtype), generator("noise"))
        method_seed = self.random_seed(reference, seed, "method")
        return Case(reference.id, self.scale, hr, to_8bit(y[0]).float(), kernel, level, method_seed)


class RandomKernels(SyntheticProtocol):
    """One parameter per kernel family; every case has a random kernel of its parameter's family.

    Attributes:
        families: label and family of each parameter.
        kernel_size: side of the kernels.
        noise_level: standard deviation of the Gaussian noise in grey levels.
    """

    families: ClassVar[tuple[tuple[str, KernelFamily], ...]]
    kernel_size: ClassVar[int] = PRESET_KERNEL_SIZE
    noise_level: ClassVar[float] = 0.0

    def parameters(self) -> Sequence[Parameter]:
        def random_kernel(family: KernelFamily, generator: torch.Generator) -> Tensor:
            return family.sample(1, self.scale, self.kernel_size, generator)[0]

        return [Parameter(label, partial(random_kernel, family), self.noise_level) for label, family in self.families]


class Gaussian8(SyntheticProtocol):
    """Isotropic Gaussians of eight widths, evenly spaced over the scale's range, both ends included."""

    name = "gaussian8"
    source = "J. Gu et al., Blind super-resolution with iterative kernel correction (IKC), CVPR 2019"
    degradation = "isotropic Gaussian blur 21x21 of eight widths, antialiased bicubic downsampling, 8 bit"
    scales = (2, 3, 4)

    def parameters(self) -> Sequence[Parameter]:
        sigmas, kernels = GAUSSIAN8_SIGMAS[self.scale], gaussian8_kernels(self.scale)
        return [Parameter(f"sigma {s:.2f}", k) for s, k in zip(sigmas, kernels, strict=True)]


class Aniso9(SyntheticProtocol):
    """Nine fixed kernels at three noise levels; parameter = noise index * 9 + kernel index.

    DASR's paper only shows pictures of the kernels; the numbers are from the authors of DSAT.
    """

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

    noise_levels = (0.0, 10.0, 20.0)
    # (sigma_1, sigma_2, theta in degrees). DASR calls the first two eigenvalues lambda; its code squares them.
    kernels = (
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

    def parameters(self) -> Sequence[Parameter]:
        return [
            Parameter(
                f"noise {noise:.0f}, {a:g} x {b:g} at {theta}",
                anisotropic_gaussian(a, b, math.radians(theta), PRESET_KERNEL_SIZE),
                noise,
            )
            for noise in self.noise_levels
            for a, b, theta in self.kernels
        ]


_BLINDDIFF = (
    "BlindDiff, arXiv 2403.10211, and its published code (ranges of training; its test kernels are not published)"
)


class Setting1(RandomKernels):
    """Isotropic Gaussians."""

    name = "setting1"
    source = _BLINDDIFF
    degradation = "isotropic Gaussian blur 21x21, sigma uniform in [0.2, 4], antialiased bicubic downsampling, 8 bit"
    scales = (4,)
    families = (("random isotropic Gaussian", SETTING1),)


class Setting2(RandomKernels):
    """Anisotropic Gaussians with multiplicative noise on their entries."""

    name = "setting2"
    source = _BLINDDIFF
    degradation = (
        "anisotropic Gaussian blur 21x21, both sigmas uniform in [0.6, 5], any angle, entries changed by up to 25 %, "
        "antialiased bicubic downsampling, 8 bit"
    )
    scales = (4,)
    families = (("random anisotropic Gaussian", SETTING2),)


class Setting2Noise10(Setting2):
    """Setting 2 with noise of 10 grey levels: the paper's "complex degradation", for which it names no test set."""

    name = "setting2_noise10"
    degradation = Setting2.degradation.replace(", 8 bit", ", Gaussian noise 10, 8 bit")
    noise_level = 10.0


class Motion(RandomKernels):
    """Four random kernels per image: two camera shakes, a straight motion, a disk."""

    name = "motion"
    source = "this package (random kernels of its own families, fixed seeds)"
    degradation = "camera shake, straight motion and disk blur within 31x31, antialiased bicubic downsampling, 8 bit"
    scales = (2, 3, 4)
    sets = ("Set5", "Set14")
    families = (
        ("camera shake", CameraShake()),
        ("camera shake, another", CameraShake()),
        ("straight motion", LineMotion(min_length=4.0)),
        ("disk", Disk()),
    )
    kernel_size = 31


class Deblur(RandomKernels):
    """Four random kernels per image, without subsampling. Noise of 1 % of the range, as in deblurring papers."""

    name = "deblur"
    source = Motion.source
    degradation = "Gaussian, camera shake and disk blur within 31x31, no downsampling, Gaussian noise of 2.55, 8 bit"
    scales = (1,)
    sets = ("Set5", "Set14")
    families = (
        ("isotropic Gaussian", IsotropicGaussian(min_sigma=0.8)),
        ("anisotropic Gaussian", AnisotropicGaussian(min_sigma=0.8)),
        ("camera shake", CameraShake()),
        ("disk", Disk()),
    )
    kernel_size = 31
    noise_level = 2.55


class Real(Protocol):
    """Photographs as they are, without ground truth."""

    name = "real"
    source = "K. Zhang et al., Designing a practical degradation model (BSRGAN), ICCV 2021, for RealSRSet"
    degradation = "none: photographs as found, no ground truth"
    scales = (1, 2, 3, 4)
    sets = ("RealSRSet",)
    truth = False
    labels = ("as found",)

    # clean copies of images of Set5 and Set14
    left_out: ClassVar[dict[str, tuple[str, ...]]] = {"RealSRSet": ("butterfly", "ppt3")}

    def images(self, root: Path, set_name: str) -> list[Path]:
        return [path for path in images_of(root, set_name) if path.stem not in self.left_out.get(set_name, ())]

    def make(self, reference: CaseReference, seed: int) -> Case:
        method_seed = self.random_seed(reference, seed, "method")
        return Case(reference.id, self.scale, None, read_pixels(reference.source), None, None, method_seed)


class Div2krk(Protocol):
    """The stored LR images and kernels of DIV2KRK."""

    name = "div2krk"
    source = "S. Bell-Kligler et al., Blind super-resolution kernel estimation using KernelGAN, NeurIPS 2019"
    degradation = (
        "stored LR images: anisotropic Gaussian kernels 31x31 with multiplicative noise, moved to the middle of the LR "
        "pixel, decimation, truncation to 8 bit"
    )
    scales = (4,)
    sets = ("DIV2KRK",)
    labels = ("stored kernel",)

    def images(self, root: Path, set_name: str) -> list[Path]:
        files = images_of(root, set_name, "gt")
        images_of(root, set_name, f"lr_x{self.scale}")  # raises if there are none
        return files

    def files(self, reference: CaseReference) -> list[Path]:
        """HR image, LR image (left out if it is missing) and kernel."""
        home, name = reference.source.parent.parent, reference.id.name
        lr_files = [path for path in images_in(home / f"lr_x{self.scale}") if path.stem == name]
        kernel_file = home / f"gt_k_x{self.scale}" / f"kernel_{name.rpartition('_')[2]}.mat"
        return [reference.source, *lr_files, kernel_file]

    def make(self, reference: CaseReference, seed: int) -> Case:
        """Read a case. Raises ImageError or KernelError if a file is missing or damaged."""
        hr_file, *lr_files, kernel_file = self.files(reference)
        stored = read_stored_kernel(kernel_file)
        if not lr_files:
            missing = hr_file.parent.parent / f"lr_x{self.scale}" / reference.id.name
            raise ImageError(f"{missing}: the LR image is missing")
        hr, y = read_pixels(hr_file), read_pixels(lr_files[0])
        if tuple(hr.shape[-2:]) != tuple(side * self.scale for side in y.shape[-2:]):
            size = f"{y.shape[-1]}x{y.shape[-2]}"
            raise ImageError(f"{lr_files[0]}: {size} is not 1/{self.scale} of {reference.source.name}")
        return Case(
            id=reference.id,
            scale=self.scale,
            hr=hr,
            y=y,
            kernel=as_convolution(shifted_kernel(stored, self.scale)),
            noise_level=0.0,
            seed=self.random_seed(reference, seed, "method"),
            downsampling=Decimate(0),
            centred_kernel=as_convolution(stored),
        )


PROTOCOLS: dict[str, type[Protocol]] = {
    protocol.name: protocol
    for protocol in (Gaussian8, Setting1, Setting2, Setting2Noise10, Aniso9, Div2krk, Motion, Deblur, Real)
}


def protocol(name: str, scale: int) -> Protocol:
    """The named protocol at a scale. Raises ParameterError if the name is unknown or the protocol lacks the scale."""
    if name not in PROTOCOLS:
        raise ParameterError(f"protocol '{name}': one of {', '.join(PROTOCOLS)} is accepted")
    return PROTOCOLS[name](scale)
