"""What a method is, and what methods are made from."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
from torch import Tensor, nn

from blinddiff.evaluation.cases import Case
from blinddiff.evaluation.restoration import Restoration

if TYPE_CHECKING:
    from blinddiff.sampling.pipeline import BlindDiffPipeline

T = TypeVar("T")


class Method(Protocol):
    """Restores images. `case` is there for what a method may know beyond y: its seed, or the truth for an oracle."""

    @property
    def name(self) -> str:
        """As the command line and the tables call it."""
        ...

    @property
    def parameters(self) -> int | None:
        """Trained parameters at work, 0 without a network; None if that is not known."""
        ...

    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        """y: (3, h, w) in [0, 1] -> restoration of (3, s*h, s*w)."""
        ...


@dataclass(frozen=True)
class Options:
    """What methods are made from.

    Attributes:
        weights: folder of weights, None for those in the package.
        device: as torch names it, None to choose.
        external: folder of somebody else's results.
        checkpoints: further methods: name -> folder of weights.
    """

    weights: Path | None = None
    device: str | None = None
    external: Path | None = None
    checkpoints: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def pipeline(self) -> "BlindDiffPipeline":
        """The pipeline, loaded when the first method that needs it is made, and shared by all. Raises WeightsError."""
        return self.load(self.weights)

    def load(self, weights: Path | None) -> "BlindDiffPipeline":
        """A pipeline with other weights on the same device. Raises WeightsError."""
        from blinddiff.sampling.pipeline import BlindDiffPipeline

        return BlindDiffPipeline.from_pretrained(weights, self.device)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What the call returns, and the seconds it took; an accelerator is waited for."""
    start = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


def count_parameters(network: nn.Module) -> int:
    """How many trained numbers a network has."""
    return sum(parameter.numel() for parameter in network.parameters())
