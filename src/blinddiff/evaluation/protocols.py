"""Protocols: reproducible ways of making test images. A new one is an entry in `_ALL`, if needed with a class."""

import math
from collections.abc import Callable
from dataclasses import replace

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
    identity,
    isotropic_gaussian,
)
from blinddiff.degradation.motion import CameraShake, LineMotion
from blinddiff.errors import ParameterError
from blinddiff.evaluation.chains import PhotographsProtocol
from blinddiff.evaluation.protocol import Parameter, Protocol, SyntheticProtocol
from blinddiff.evaluation.stored import (
    Div2krkKernelsProtocol,
    Div2krkProtocol,
    LevinProtocol,
    RealPairsProtocol,
    RealProtocol,
)
from blinddiff.evaluation.unusual import UnusualProtocol


def _gaussian8(scale: int) -> list[Parameter]:
    """Isotropic Gaussians of eight widths, evenly spaced over the scale's range, both ends included."""
    sigmas, kernels = GAUSSIAN8_SIGMAS[scale], gaussian8_kernels(scale)
    return [Parameter(f"sigma {s:.2f}", k) for s, k in zip(sigmas, kernels, strict=True)]


SINGLE_WIDTHS = {2: (0.0, 0.6, 1.2, 1.8), 4: (0.0, 1.2, 2.4, 3.6)}


def _single_widths(scale: int) -> list[Parameter]:
    """Isotropic Gaussians of DASR's Table 2. A width of 0 is no blur."""
    return [
        Parameter(
            f"width {sigma:g}", isotropic_gaussian(sigma, PRESET_KERNEL_SIZE) if sigma else identity(PRESET_KERNEL_SIZE)
        )
        for sigma in SINGLE_WIDTHS[scale]
    ]


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
    UnusualProtocol(
        "unusual",
        "this package",
        "noise up to 50 without blur, defocus, straight motion, lamps beyond white; bars, frames, lines, letters and "
        "cut-outs; pictures enlarged before; drawings and dithered pictures; 8 bit",
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
