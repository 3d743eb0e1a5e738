"""Blur kernels: (kh, kw) or (B, kh, kw) tensors in HR pixels, >= 0, sum 1, "no shift" at index (kh // 2, kw // 2)."""

from blinddiff.degradation.kernels.check import check_kernel
from blinddiff.degradation.kernels.disk import Disk, disk
from blinddiff.degradation.kernels.families import FAMILIES, sample_kernels
from blinddiff.degradation.kernels.family import KernelFamily
from blinddiff.degradation.kernels.files import KERNEL_ENDINGS, read_kernel, write_kernel
from blinddiff.degradation.kernels.gaussian import (
    AnisotropicGaussian,
    IsotropicGaussian,
    anisotropic_gaussian,
    isotropic_gaussian,
    roughen,
)
from blinddiff.degradation.kernels.generalized_gaussian import GeneralizedGaussian, generalized_gaussian
from blinddiff.degradation.kernels.identity import Identity, identity
from blinddiff.degradation.kernels.measures import centre_kernel, centroid, fit_size, shift_kernel, widths_and_angle
from blinddiff.degradation.kernels.motion import CameraShake, LineMotion, camera_shake, line_motion
from blinddiff.degradation.kernels.plateau import Plateau, plateau

__all__ = [
    "FAMILIES",
    "KERNEL_ENDINGS",
    "AnisotropicGaussian",
    "CameraShake",
    "Disk",
    "GeneralizedGaussian",
    "Identity",
    "IsotropicGaussian",
    "KernelFamily",
    "LineMotion",
    "Plateau",
    "anisotropic_gaussian",
    "camera_shake",
    "centre_kernel",
    "centroid",
    "check_kernel",
    "disk",
    "fit_size",
    "generalized_gaussian",
    "identity",
    "isotropic_gaussian",
    "line_motion",
    "plateau",
    "read_kernel",
    "roughen",
    "sample_kernels",
    "shift_kernel",
    "widths_and_angle",
    "write_kernel",
]
