"""The forward model y = (x (*) k) down_s + n: kernels, resampling, the operator and its solvers, noise.

The names are imported when they are used: they bring torch, which kernels in files and their measures do not need.
"""

import importlib
from typing import TYPE_CHECKING, Any

from blinddiff.degradation.model import SCALES

if TYPE_CHECKING:
    from blinddiff.degradation.kernels import sample_kernels
    from blinddiff.degradation.noise import NOISES
    from blinddiff.degradation.observation import Degradation, Observation, closed_form, proximal_weight
    from blinddiff.degradation.operator import DegradationOperator
    from blinddiff.degradation.resize import Bicubic, Decimate, Downsampling, bicubic_downsample, bicubic_upsample

_MODULES = {
    "kernels": ("sample_kernels",),
    "noise": ("NOISES",),
    "observation": ("Degradation", "Observation", "closed_form", "proximal_weight"),
    "operator": ("DegradationOperator",),
    "resize": ("Bicubic", "Decimate", "Downsampling", "bicubic_downsample", "bicubic_upsample"),
}
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


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
