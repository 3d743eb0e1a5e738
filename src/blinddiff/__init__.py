"""Blind image super-resolution by diffusion with an explicit degradation model."""

import os
from typing import TYPE_CHECKING

from blinddiff.errors import (
    BlindDiffError,
    ImageError,
    KernelError,
    OutputError,
    ParameterError,
    RecipeError,
    TrainingError,
    WeightsError,
)

if TYPE_CHECKING:
    from blinddiff.restoring.call import restore
    from blinddiff.sampling.pipeline import BlindDiffPipeline

__version__ = "0.1.0"

__all__ = [
    "BlindDiffError",
    "BlindDiffPipeline",
    "ImageError",
    "KernelError",
    "OutputError",
    "ParameterError",
    "RecipeError",
    "TrainingError",
    "WeightsError",
    "__version__",
    "restore",
]


def openmp_settings() -> dict[str, str]:
    """Environment variables that let OpenMP's idle threads sleep; empty if the user has set either.

    By default they spin, and take the cores from other processes: two restorations at once took three times as long
    (docs/performance.md). OpenMP reads them when torch is loaded.
    """
    settings = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    return {} if settings.keys() & os.environ.keys() else settings


def __getattr__(name: str) -> object:
    # The pipeline brings torch and diffusers, seconds of import: only who asks for it waits.
    if name == "BlindDiffPipeline":
        from blinddiff.sampling.pipeline import BlindDiffPipeline

        return BlindDiffPipeline
    if name == "restore":
        from blinddiff.restoring.call import restore

        return restore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
