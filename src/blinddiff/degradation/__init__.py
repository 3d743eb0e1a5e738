"""The forward model y = (x (*) k) down_s + n: kernels, resampling, the operator and its solvers, noise."""

from blinddiff.degradation.kernels import sample_kernels
from blinddiff.degradation.noise import NOISES
from blinddiff.degradation.observation import Degradation, Observation, closed_form, proximal_weight
from blinddiff.degradation.operator import SCALES, DegradationOperator
from blinddiff.degradation.resize import Bicubic, Decimate, Downsampling, bicubic_downsample, bicubic_upsample

__all__ = [
    "NOISES",
    "SCALES",
    "Bicubic",
    "Decimate",
    "Degradation",
    "DegradationOperator",
    "Downsampling",
    "Observation",
    "bicubic_downsample",
    "bicubic_upsample",
    "closed_form",
    "proximal_weight",
    "sample_kernels",
]
