"""Protocols: reproducible ways of making test images. A new one is an entry in `_ALL`."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
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


@dataclass(frozen=True)
class Protocol(ABC):
    """A reproducible way of making test images. Each case depends only on the scale, its id and the seed.

    Attributes:
        name: as given on the command line.
        source: publication that defines the protocol.
        degradation: one sentence with all settings.
        scales: the scales that the protocol is defined for.
        sets: its usual test sets.
        truth: whether the true image and kernel are known.
        scale: the chosen scale; 0 in `PROTOCOLS`.
    """

    name: str
    source: str
    degradation: str
    scales: tuple[int, ...]
    sets: tuple[str, ...] = ("Set5", "Set14", "BSD100", "Urban100")
    truth: bool = True
    scale: int = 0

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
    """One degradation of a synthetic protocol, named `label` in tables.

    kernel: (kh, kw), or a family with a random kernel for every case. noise_level: standard deviation in grey levels.
    """

    label: str
    kernel: Tensor | KernelFamily
    noise_level: float = 0.0


@dataclass(frozen=True)
class SyntheticProtocol(Protocol):
    """Blur by a kernel, subsample, add Gaussian noise, clip, round to 8 bit.

    HR images are cropped at the bottom and right to a multiple of the scale. The generators of kernels and noise are
    seeded by protocol, scale, case and seed, so that no case depends on another.

    Attributes:
        parameters: gives the degradations that are applied to every image at a scale.
        kernel_size: side of random kernels.
    """

    parameters: Callable[[int], Sequence[Parameter]] = field(kw_only=True)
    kernel_size: int = PRESET_KERNEL_SIZE

    @property
    def labels(self) -> Sequence[str]:
        return [parameter.label for parameter in self.parameters(self.scale)]

    def make(self, reference: CaseReference, seed: int) -> Case:
        def generator(purpose: str) -> torch.Generator:
            return torch.Generator().manual_seed(self.random_seed(reference, seed, purpose))

        _, kernel, level = self.parameters(self.scale)[reference.id.parameter]
        hr = crop_to_multiple(read_pixels(reference.source), self.scale)
        if isinstance(kernel, KernelFamily):
            kernel = kernel.sample(1, self.scale, self.kernel_size, generator("kernel"))[0]
        y = DegradationOperator(kernel.double(), self.scale).forward(hr[None].double())
        if level > 0:
            y = GaussianNoise().apply(y, torch.tensor([level], dtype=y.dtype), generator("noise"))
        method_seed = self.random_seed(reference, seed, "method")
        return Case(reference.id, self.scale, hr, to_8bit(y[0]).float(), kernel, level, method_seed)


class RealProtocol(Protocol):
    """Photographs as they are, without ground truth."""

    labels = ("as found",)
    left_out: ClassVar = {"RealSRSet": ("butterfly", "ppt3")}  # clean copies of images of Set5 and Set14

    def images(self, root: Path, set_name: str) -> list[Path]:
        return [path for path in images_of(root, set_name) if path.stem not in self.left_out.get(set_name, ())]

    def make(self, reference: CaseReference, seed: int) -> Case:
        method_seed = self.random_seed(reference, seed, "method")
        return Case(reference.id, self.scale, None, read_pixels(reference.source), None, None, method_seed)


class Div2krkProtocol(Protocol):
    """The stored LR images and kernels of DIV2KRK."""

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
        method_seed = self.random_seed(reference, seed, "method")
        kernel, centred = as_convolution(shifted_kernel(stored, self.scale)), as_convolution(stored)
        return Case(reference.id, self.scale, hr, y, kernel, 0.0, method_seed, Decimate(0), centred)


def _gaussian8(scale: int) -> list[Parameter]:
    """Isotropic Gaussians of eight widths, evenly spaced over the scale's range, both ends included."""
    sigmas, kernels = GAUSSIAN8_SIGMAS[scale], gaussian8_kernels(scale)
    return [Parameter(f"sigma {s:.2f}", k) for s, k in zip(sigmas, kernels, strict=True)]


# (sigma_1, sigma_2, theta in degrees), from the authors of DSAT: DASR's paper only shows pictures of the kernels.
# DASR calls the first two eigenvalues lambda; its code squares them.
ANISO9_KERNELS = (
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


def _aniso9(_: int) -> list[Parameter]:
    """Nine fixed kernels at three noise levels; parameter = noise index * 9 + kernel index."""
    return [
        Parameter(
            f"noise {noise:.0f}, {a:g} x {b:g} at {theta}",
            anisotropic_gaussian(a, b, math.radians(theta), PRESET_KERNEL_SIZE),
            noise,
        )
        for noise in (0.0, 10.0, 20.0)
        for a, b, theta in ANISO9_KERNELS
    ]


def _random(*families: tuple[str, KernelFamily], noise_level: float = 0.0) -> Callable[[int], list[Parameter]]:
    """One parameter per family, all with the same noise level."""
    return lambda _: [Parameter(label, family, noise_level) for label, family in families]


_BLINDDIFF = (
    "BlindDiff, arXiv 2403.10211, and its published code (ranges of training; its test kernels are not published)"
)
_OWN = "this package (random kernels of its own families, fixed seeds)"
_SETTING2 = (
    "anisotropic Gaussian blur 21x21, both sigmas uniform in [0.6, 5], any angle, entries changed by up to 25 %, "
    "antialiased bicubic downsampling, "
)
_ALL: tuple[Protocol, ...] = (
    SyntheticProtocol(
        "gaussian8",
        "J. Gu et al., Blind super-resolution with iterative kernel correction (IKC), CVPR 2019",
        "isotropic Gaussian blur 21x21 of eight widths, antialiased bicubic downsampling, 8 bit",
        scales=(2, 3, 4),
        parameters=_gaussian8,
    ),
    SyntheticProtocol(
        "setting1",
        _BLINDDIFF,
        "isotropic Gaussian blur 21x21, sigma uniform in [0.2, 4], antialiased bicubic downsampling, 8 bit",
        scales=(4,),
        parameters=_random(("random isotropic Gaussian", SETTING1)),
    ),
    SyntheticProtocol(
        "setting2",
        _BLINDDIFF,
        f"{_SETTING2}8 bit",
        scales=(4,),
        parameters=_random(("random anisotropic Gaussian", SETTING2)),
    ),
    SyntheticProtocol(  # the paper's "complex degradation", for which it names no test set
        "setting2_noise10",
        _BLINDDIFF,
        f"{_SETTING2}Gaussian noise 10, 8 bit",
        scales=(4,),
        parameters=_random(("random anisotropic Gaussian", SETTING2), noise_level=10.0),
    ),
    SyntheticProtocol(
        "aniso9",
        "L. Wang et al., Unsupervised degradation representation learning (DASR), CVPR 2021, table 3; kernel "
        "parameters as stated by the authors of DSAT (github.com/I2-Multimedia-Lab/DSAT/issues/2)",
        "nine anisotropic Gaussian kernels 21x21, antialiased bicubic downsampling, Gaussian noise 0, 10 or 20, 8 bit",
        scales=(4,),
        sets=("Set14",),
        parameters=_aniso9,
    ),
    Div2krkProtocol(
        "div2krk",
        "S. Bell-Kligler et al., Blind super-resolution kernel estimation using KernelGAN, NeurIPS 2019",
        "stored LR images: anisotropic Gaussian kernels 31x31 with multiplicative noise, moved to the middle of the LR "
        "pixel, decimation, truncation to 8 bit",
        scales=(4,),
        sets=("DIV2KRK",),
    ),
    SyntheticProtocol(
        "motion",
        _OWN,
        "camera shake, straight motion and disk blur within 31x31, antialiased bicubic downsampling, 8 bit",
        scales=(2, 3, 4),
        sets=("Set5", "Set14"),
        kernel_size=31,
        parameters=_random(
            ("camera shake", CameraShake()),
            ("camera shake, another", CameraShake()),
            ("straight motion", LineMotion(min_length=4.0)),
            ("disk", Disk()),
        ),
    ),
    SyntheticProtocol(
        "deblur",
        _OWN,
        "Gaussian, camera shake and disk blur within 31x31, no downsampling, Gaussian noise of 2.55, 8 bit",
        scales=(1,),
        sets=("Set5", "Set14"),
        kernel_size=31,
        parameters=_random(
            ("isotropic Gaussian", IsotropicGaussian(min_sigma=0.8)),
            ("anisotropic Gaussian", AnisotropicGaussian(min_sigma=0.8)),
            ("camera shake", CameraShake()),
            ("disk", Disk()),
            noise_level=2.55,  # 1 % of the range, as in deblurring papers
        ),
    ),
    RealProtocol(
        "real",
        "K. Zhang et al., Designing a practical degradation model (BSRGAN), ICCV 2021, for RealSRSet",
        "none: photographs as found, no ground truth",
        scales=(1, 2, 3, 4),
        sets=("RealSRSet",),
        truth=False,
    ),
)
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}


def protocol(name: str, scale: int) -> Protocol:
    """The named protocol at a scale. Raises ParameterError if the name is unknown or the protocol lacks the scale."""
    if name not in PROTOCOLS:
        raise ParameterError(f"protocol '{name}': one of {', '.join(PROTOCOLS)} is accepted")
    chosen = PROTOCOLS[name]
    if scale not in chosen.scales:
        accepted = ", ".join(map(str, chosen.scales))
        raise ParameterError(f"scale {scale}: protocol {name} is defined for {accepted}")
    return replace(chosen, scale=scale)
