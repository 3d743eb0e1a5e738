"""What a kernel step is: something that moves the sampler's kernel on, given the network's estimate at this step."""

from typing import Protocol, TypeAlias

from torch import Tensor

from blinddiff.models.estimate import Estimate
from blinddiff.models.mcformer import Prediction

KernelState: TypeAlias = Estimate
"""The kernel k_t as the sampler carries it, (B, n, m), and the noise level, (B,), in grey levels."""


class KernelStep(Protocol):
    """The state for the image step, and for the next prior step."""

    def __call__(self, state: KernelState | None, prediction: Prediction, y: Tensor, scale: int) -> KernelState:
        """From the last state (None before the first, if nothing is known yet) and this step's prediction."""
        ...
