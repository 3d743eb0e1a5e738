"""Protocols: reproducible ways of making test images. A new one is an entry in `_ALL`, if needed with a class."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from blinddiff.degradation.draws import KernelFamily, LrImages, Noise
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
    isotropic_gaussian,
)
from blinddiff.degradation.motion import CameraShake, LineMotion
from blinddiff.degradation.noise import GaussianNoise, Grain, Halftone
from blinddiff.degradation.operator import DegradationOperator
from blinddiff.degradation.processing import Demosaicked, Denoised, JpegNoise, ResizedJpegNoise, Sharpened
from blinddiff.degradation.resize import Decimate
from blinddiff.errors import ImageError, ParameterError
from blinddiff.evaluation.data import (
    Array,
    Case,
    CaseId,
    CaseReference,
    as_convolution,
    case_seed,
    crop_to_multiple,
    degrade_as_div2krk,
    images_in,
    images_named,
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
        kernel_known: whether the true kernel is known.
        max_shift: results are compared with the truth at their best shift of up to this many HR pixels.
        scale: the chosen scale; 0 in `PROTOCOLS`.
    """

    name: str
    source: str
    degradation: str
    scales: tuple[int, ...]
    sets: tuple[str, ...] = ("Set5", "Set14", "BSD100", "Urban100")
    kernel_known: bool = True
    max_shift: int = 0
    scale: int = 0

    @property
    @abstractmethod
    def labels(self) -> Sequence[str]:
        """The name of each parameter, as in ``sigma 1.80``. Every image gives one case per parameter."""

    @property
    def crop(self) -> int:
        """HR pixels that most metrics leave out on each side."""
        return self.scale

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
        comparison = {"scale": self.scale, "crop": self.crop, "max_shift": self.max_shift}
        return {**text, **comparison, "parameters": list(self.labels)}

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
class ComputedProtocol(Protocol):
    """Blur by a kernel, subsample, add Gaussian noise, clip, round to 8 bit.

    HR images are cropped at the bottom and right to a multiple of the scale. The generators of kernels and noise are
    seeded by protocol, scale, case and seed, so that no case depends on another.

    Attributes:
        kernel_size: side of random kernels.
    """

    kernel_size: int = PRESET_KERNEL_SIZE

    @abstractmethod
    def parameter(self, reference: CaseReference) -> Parameter:
        """The degradation of a case. Raises KernelError if its kernel cannot be read."""

    def make(self, reference: CaseReference, seed: int) -> Case:
        def generator(purpose: str) -> torch.Generator:
            return torch.Generator().manual_seed(self.random_seed(reference, seed, purpose))

        _, kernel, level = self.parameter(reference)
        hr = crop_to_multiple(read_pixels(reference.source), self.scale)
        if isinstance(kernel, KernelFamily):
            kernel = kernel.sample(1, self.scale, self.kernel_size, generator("kernel"))[0]
        y = DegradationOperator(kernel.double(), self.scale).forward(hr[None].double())
        if level > 0:
            y = GaussianNoise().apply(y, torch.tensor([level], dtype=y.dtype), generator("noise"))
        y = to_8bit(y[0]).float()
        method_seed = self.random_seed(reference, seed, "method")
        return Case(reference.id, self.scale, hr, y, kernel, level, method_seed, max_shift=self.max_shift)


@dataclass(frozen=True)
class SyntheticProtocol(ComputedProtocol):
    """A list of degradations, each of them applied to every image.

    Attributes:
        parameters: gives the degradations at a scale.
    """

    parameters: Callable[[int], Sequence[Parameter]] = field(kw_only=True)

    @property
    def labels(self) -> Sequence[str]:
        return [parameter.label for parameter in self.parameters(self.scale)]

    def parameter(self, reference: CaseReference) -> Parameter:
        return self.parameters(self.scale)[reference.id.parameter]


class Chain(NamedTuple):
    """A degradation of `PhotographsProtocol`: blur, subsample, and kinds of noise and processing with their levels.

    noise_level: standard deviation of the noise in grey levels; None where no single kind of noise states it.
    """

    label: str
    sigma: float
    steps: tuple[tuple[Noise, float], ...] = ()
    noise_level: float | None = None


_HALFTONE = Halftone(min_period=3.0, max_period=3.0, max_angle=0.0, inks=0.0, toned=0.0)
_UNSHARP = Sharpened(min_width=1.0, max_width=1.0)
CHAINS = (
    Chain("nothing else", 1.6, noise_level=0.0),
    Chain("white noise 10", 1.6, ((GaussianNoise(), 10.0),), 10.0),
    Chain("grain 10", 1.6, ((Grain(min_width=0.7, max_width=0.7, min_shared=1.0, toned=0.0), 10.0),), 10.0),
    Chain("halftone 10", 1.6, ((_HALFTONE, 10.0),), 10.0),
    Chain("sharpened", 1.6, ((_UNSHARP, 1.0),)),
    *(Chain(f"JPEG {quality}", 2.4, ((JpegNoise(), float(quality)),)) for quality in (95, 85, 75, 50, 30)),
    Chain("camera", 1.6, ((Demosaicked(), 4.0), (Denoised(), 3.0), (_UNSHARP, 0.6), (JpegNoise(), 92.0))),
    Chain("web", 1.6, ((GaussianNoise(), 2.0), (_UNSHARP, 0.5), (ResizedJpegNoise(), 80.0), (JpegNoise(), 85.0))),
)


class PhotographsProtocol(Protocol):
    """What happens to photographs besides blur and white noise. Kernel and noise are as far known as a model has them.

    The true kernel includes sharpening.
    """

    labels = tuple(chain.label for chain in CHAINS)

    def make(self, reference: CaseReference, seed: int) -> Case:
        chain = CHAINS[reference.id.parameter]
        generator = torch.Generator().manual_seed(self.random_seed(reference, seed, "noise"))
        hr = crop_to_multiple(read_pixels(reference.source), self.scale)
        kernel = isotropic_gaussian(chain.sigma, 31)[None]
        clean = DegradationOperator(kernel, self.scale).forward(hr[None])
        images = LrImages(clean, clean, kernel, torch.zeros(1))
        for kind, level in chain.steps:
            images = kind.degrade(images, torch.tensor([level]), self.scale, generator)
        y, seed = to_8bit(images.y[0]), self.random_seed(reference, seed, "method")
        return Case(reference.id, self.scale, hr, y, images.kernel[0], chain.noise_level, seed)


class LevinProtocol(ComputedProtocol):
    """Eight stored kernels of real camera shake, without and with noise. They are convolved as they are stored."""

    noise_levels = (0.0, 2.55)  # 1 % of the range, as in deblurring papers

    @property
    def labels(self) -> Sequence[str]:
        return [f"noise {noise:g}, k{number}" for noise in self.noise_levels for number in range(1, 9)]

    def parameter(self, reference: CaseReference) -> Parameter:
        noise, kernel = divmod(reference.id.parameter, 8)
        stored = read_stored_kernel(self._kernel_file(reference), f"k{kernel + 1}")
        kernel_as_stored = torch.from_numpy(stored).float()
        return Parameter(self.labels[reference.id.parameter], kernel_as_stored, self.noise_levels[noise])

    def files(self, reference: CaseReference) -> list[Path]:
        """The image and the file of the kernels."""
        return [reference.source, self._kernel_file(reference)]

    def _kernel_file(self, reference: CaseReference) -> Path:
        return reference.source.parents[1] / "kernels" / "levin09.npz"


class RealProtocol(Protocol):
    """Photographs as they are, without ground truth."""

    labels = ("as found",)
    left_out: ClassVar = {"RealSRSet": ("butterfly", "ppt3")}  # clean copies of images of Set5 and Set14

    def images(self, root: Path, set_name: str) -> list[Path]:
        return [path for path in images_of(root, set_name) if path.stem not in self.left_out.get(set_name, ())]

    def make(self, reference: CaseReference, seed: int) -> Case:
        method_seed = self.random_seed(reference, seed, "method")
        return Case(reference.id, self.scale, None, read_pixels(reference.source), None, None, method_seed)


class RealPairsProtocol(Protocol):
    """Pairs of photographs with a long and a short focal length, registered: ``HR/NAME`` and ``LR/NAME``."""

    labels = ("as found",)
    crop = 0

    def images(self, root: Path, set_name: str) -> list[Path]:
        images_of(root, set_name, "LR")  # raises if there are none
        return images_of(root, set_name, "HR")

    def files(self, reference: CaseReference) -> list[Path]:
        """HR image, and LR image if it is not missing."""
        return [reference.source, *images_named(reference.id.name, reference.source.parents[1] / "LR")]

    def make(self, reference: CaseReference, seed: int) -> Case:
        hr, y = _read_pair(reference.source, reference.source.parents[1] / "LR", self.scale)
        method_seed = self.random_seed(reference, seed, "method")
        return Case(reference.id, self.scale, hr, y, None, None, method_seed, crop=self.crop)


class Div2krkProtocol(Protocol):
    """The stored LR images and kernels of DIV2KRK."""

    labels = ("stored kernel",)

    def images(self, root: Path, set_name: str) -> list[Path]:
        files = images_of(root, set_name, "gt")
        images_of(root, set_name, f"lr_x{self.scale}")  # raises if there are none
        return files

    def files(self, reference: CaseReference) -> list[Path]:
        """HR image, LR image (left out if it is missing) and kernel."""
        home, name = reference.source.parents[1], reference.id.name
        kernel_file = home / f"gt_k_x{self.scale}" / f"kernel_{name.rpartition('_')[2]}.mat"
        return [reference.source, *images_named(name, home / f"lr_x{self.scale}"), kernel_file]

    def make(self, reference: CaseReference, seed: int) -> Case:
        """Read a case. Raises ImageError or KernelError if a file is missing or damaged."""
        stored = read_stored_kernel(self.files(reference)[-1])
        hr, y = _read_pair(reference.source, reference.source.parents[1] / f"lr_x{self.scale}", self.scale)
        return self._case(reference, seed, hr, y, stored)

    def _case(self, reference: CaseReference, seed: int, hr: Tensor | None, y: Tensor, stored: Array) -> Case:
        method_seed = self.random_seed(reference, seed, "method")
        kernel, centred = as_convolution(shifted_kernel(stored, self.scale)), as_convolution(stored)
        return Case(reference.id, self.scale, hr, y, kernel, 0.0, method_seed, Decimate(0), centred)


class Div2krkKernelsProtocol(Div2krkProtocol):
    """Every stored kernel of DIV2KRK, also those whose image is not in the folder; only kernels are measured.

    A kernel degrades its own image, or one of the images that are there, in turn.
    """

    def images(self, root: Path, set_name: str) -> list[Path]:
        """The files of the kernels. Raises ParameterError if there are none."""
        images_of(root, set_name, "gt")  # raises if there are none
        folder = root / set_name / f"gt_k_x{self.scale}"
        files = sorted(folder.glob("kernel_*.mat"), key=lambda path: int(path.stem.rpartition("_")[2]))
        if not files:
            raise ParameterError(f"{folder}: no kernels; it should hold kernel_N.mat")
        return files

    def files(self, reference: CaseReference) -> list[Path]:
        """HR image and kernel."""
        home, number = reference.source.parents[1], reference.id.name.rpartition("_")[2]
        own, others = images_named(f"im_{number}", home / "gt"), images_in(home / "gt")
        return [own[0] if own else others[int(number) % len(others)], reference.source]

    def make(self, reference: CaseReference, seed: int) -> Case:
        hr_file, kernel_file = self.files(reference)
        stored, hr = read_stored_kernel(kernel_file), crop_to_multiple(read_pixels(hr_file), self.scale)
        return self._case(reference, seed, None, degrade_as_div2krk(hr, stored, self.scale), stored)


def _read_pair(hr_file: Path, lr_folder: Path, scale: int) -> tuple[Tensor, Tensor]:
    """HR image and the LR image of the same name. Raises ImageError if it is missing or has not 1/scale of the size."""
    lr_files = images_named(hr_file.stem, lr_folder)
    if not lr_files:
        raise ImageError(f"{lr_folder / hr_file.stem}: the LR image is missing")
    hr, y = read_pixels(hr_file), read_pixels(lr_files[0])
    if tuple(hr.shape[-2:]) != tuple(side * scale for side in y.shape[-2:]):
        raise ImageError(f"{lr_files[0]}: {y.shape[-1]}x{y.shape[-2]} is not 1/{scale} of {hr_file.name}")
    return hr, y


def _gaussian8(scale: int) -> list[Parameter]:
    """Isotropic Gaussians of eight widths, evenly spaced over the scale's range, both ends included."""
    sigmas, kernels = GAUSSIAN8_SIGMAS[scale], gaussian8_kernels(scale)
    return [Parameter(f"sigma {s:.2f}", k) for s, k in zip(sigmas, kernels, strict=True)]


SINGLE_WIDTHS = {2: (0.0, 0.6, 1.2, 1.8), 4: (0.0, 1.2, 2.4, 3.6)}


def _single_widths(scale: int) -> list[Parameter]:
    """Isotropic Gaussians of DASR's Table 2. A width of 0 is no blur."""
    return [
        Parameter(f"width {sigma:g}", isotropic_gaussian(sigma, PRESET_KERNEL_SIZE) if sigma else _no_blur())
        for sigma in SINGLE_WIDTHS[scale]
    ]


def _no_blur() -> Tensor:
    kernel = torch.zeros(PRESET_KERNEL_SIZE, PRESET_KERNEL_SIZE)
    kernel[PRESET_KERNEL_SIZE // 2, PRESET_KERNEL_SIZE // 2] = 1
    return kernel


# (sigma_1, sigma_2, theta in degrees), as stated by the authors of DSAT; the pictures of the kernels in DASR's and
# CDFormer's Table 3 agree with them. DASR calls the first two eigenvalues lambda; its code squares them.
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
    """Nine fixed kernels at four noise levels; parameter = noise index * 9 + kernel index."""
    return [
        Parameter(
            f"noise {noise:.0f}, {a:g} x {b:g} at {theta}",
            anisotropic_gaussian(a, b, math.radians(theta), PRESET_KERNEL_SIZE),
            noise,
        )
        for noise in (0.0, 5.0, 10.0, 20.0)
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
_KERNELGAN = "S. Bell-Kligler et al., Blind super-resolution kernel estimation using KernelGAN, NeurIPS 2019"
_DIV2KRK = (
    "anisotropic Gaussian kernels with multiplicative noise, 11x11 (x2) or 31x31 (x4), moved to the middle of the LR "
    "pixel, decimation, truncation to 8 bit"
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
        "nine anisotropic Gaussian kernels 21x21, antialiased bicubic downsampling, Gaussian noise 0, 5, 10 (as in the "
        "table) or 20, 8 bit",
        scales=(4,),
        sets=("Set14",),
        parameters=_aniso9,
    ),
    SyntheticProtocol(
        "dasr",
        "L. Wang et al., Unsupervised degradation representation learning (DASR), CVPR 2021, table 2",
        "isotropic Gaussian blur 21x21 of four widths, the first without blur, antialiased bicubic downsampling, 8 bit",
        scales=tuple(SINGLE_WIDTHS),
        parameters=_single_widths,
    ),
    Div2krkProtocol(
        "div2krk",
        _KERNELGAN,
        f"stored LR images: {_DIV2KRK}",
        scales=(2, 4),
        sets=("DIV2KRK",),
    ),
    Div2krkKernelsProtocol(
        "div2krk_kernels",
        _KERNELGAN,
        f"all stored kernels, on the images that are there, kernel metrics only: {_DIV2KRK}",
        scales=(2, 4),
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
        kernel_known=False,
    ),
    RealPairsProtocol(
        "realsr",
        "J. Cai et al., Toward real-world single image super-resolution (RealSR), ICCV 2019; crops of StableSR",
        "none: photographs with a short focal length; the truth has a long one; nothing is cropped for the metrics",
        scales=(4,),
        sets=("RealSR100",),
        kernel_known=False,
    ),
    PhotographsProtocol(
        "photographs",
        "this package",
        "isotropic Gaussian blur of width 1.6 or 2.4, antialiased bicubic downsampling; then nothing, white noise, "
        "grain of width 0.7 in all channels alike, a halftone pattern of period 3, an unsharp mask of strength and "
        "width 1, JPEG at five qualities, or chains of these as cameras and the web make them; 8 bit",
        scales=(1, 2, 4),
        sets=("Set14", "BSD100", "Urban100"),
    ),
    LevinProtocol(
        "levin",
        "A. Levin et al., Understanding and evaluating blind deconvolution algorithms, CVPR 2009 (kernels)",
        "eight camera-shake kernels 13x13 to 27x27, antialiased bicubic downsampling, Gaussian noise 0 or 2.55, 8 bit; "
        "the kernels are off centre, so every result is measured at its best shift of up to 6 pixels",
        scales=(1, 2, 4),
        sets=("Set14", "BSD100", "Urban100"),
        max_shift=6,
    ),
)
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}


def protocol(name: str, scale: int) -> Protocol:
    """The named protocol at a scale. Raises ParameterError if the name is unknown or the protocol lacks the scale."""
    if name not in PROTOCOLS:
        raise ParameterError(f"protocol '{name}' is unknown; choose one of {', '.join(PROTOCOLS)}")
    chosen = PROTOCOLS[name]
    if scale not in chosen.scales:
        accepted = ", ".join(map(str, chosen.scales))
        raise ParameterError(f"scale {scale}: protocol {name} is defined for {accepted}")
    return replace(chosen, scale=scale)
