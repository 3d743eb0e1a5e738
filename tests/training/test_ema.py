"""The moving average of the weights."""

import math

import pytest
import torch
from torch import nn

from blinddiff.training.trainer import averaged


def network(value: float) -> nn.Module:
    module = nn.BatchNorm1d(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)
    return module


def fill(module: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)


def test_constant_weights_are_their_own_average() -> None:
    module = network(2.5)
    average = averaged(module, 0.999)
    for _ in range(5):
        average.update_parameters(module)
    torch.testing.assert_close(average.module.state_dict()["weight"], torch.full((3,), 2.5))


def test_the_average_does_not_follow_at_once_nor_share_memory() -> None:
    module = network(0.0)
    average = averaged(module, 0.9)
    fill(module, 1.0)
    assert float(average.module.state_dict()["weight"].max()) == 0


def test_the_start_is_forgotten_quickly_and_then_the_decay_holds() -> None:
    module = network(0.0)
    average = averaged(module, 0.9)
    fill(module, 1.0)
    average.update_parameters(module)
    assert float(average.module.state_dict()["weight"][0]) > 0.5
    for _ in range(2000):
        average.update_parameters(module)
    fill(module, 3.0)
    before = average.module.state_dict()["bias"].clone()
    average.update_parameters(module)
    torch.testing.assert_close(average.module.state_dict()["bias"], 0.9 * before + 0.1 * 3.0)


def test_buffers_are_copied_as_they_are() -> None:
    module = network(0.0)
    average = averaged(module, 0.999)
    assert isinstance(module, nn.BatchNorm1d)
    assert module.running_mean is not None
    module.running_mean.fill_(7.0)
    average.update_parameters(module)
    torch.testing.assert_close(average.module.state_dict()["running_mean"], torch.full((3,), 7.0))


def test_state_goes_on_where_it_was() -> None:
    module = network(0.0)
    first, second = averaged(module, 0.99), averaged(module, 0.99)
    fill(module, 1.0)
    for _ in range(3):
        first.update_parameters(module)
    second.load_state_dict(first.state_dict())
    fill(module, 2.0)
    first.update_parameters(module)
    second.update_parameters(module)
    assert second.n_averaged == first.n_averaged == 5
    torch.testing.assert_close(second.module.state_dict()["weight"], first.module.state_dict()["weight"])
    assert float(first.module.state_dict()["weight"][0]) == pytest.approx(
        float(second.module.state_dict()["weight"][0])
    )


def test_the_average_after_some_steps_is_that_of_the_formula() -> None:
    """decay_n = min(decay, (1 + n) / (10 + n)) at step n from 1, on from the first weights."""
    module = network(0.3)
    average, expected = averaged(module, 0.8), 0.3
    for step in range(1, 60):
        value = math.sin(step)
        fill(module, value)
        average.update_parameters(module)
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        torch.testing.assert_close(average.module.state_dict()["weight"], torch.full((3,), expected))
