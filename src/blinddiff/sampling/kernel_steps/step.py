"""What a kernel step is: something that moves the sampler's kernel on, given the network's estimate at this step."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from blinddiff.models.mcformer import Prediction


@dataclass
class KernelState:
    """The kernel as the sampler carries it: kernel (B, n, m), noise level (B,), and how many estimates made it."""

    kernel: Tensor
    noise_level: Tensor
    estimates: int = 1


class KernelStep(Protocol):
    """The next state from this one and the network's prediction."""

    def __call__(self, state: KernelState, prediction: Prediction) -> KernelState:
        """The state for the image step, and for the next prior step."""
        ...
