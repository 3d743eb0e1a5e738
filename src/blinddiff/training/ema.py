"""Exponential moving average of the weights: what is shipped."""

from typing import Any

import torch
from torch import nn


class WeightAverage:
    """Moving average of a network's parameters; buffers (running statistics) are copied as they are.

    Args:
        network: what to average.
        decay: share of the old average kept at each step; lower in the first steps, so that the start is forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.average = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def update(self, network: nn.Module) -> None:
        """Take in the network's weights after a step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        state = network.state_dict()
        learned = [name for name, _ in network.named_parameters()]
        torch._foreach_lerp_([self.average[n] for n in learned], [state[n].detach() for n in learned], 1 - decay)
        for name in state.keys() - set(learned):
            self.average[name].copy_(state[name])

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"steps": self.steps, "average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.steps = state["steps"]
        for name, value in state["average"].items():
            self.average[name].copy_(value)
