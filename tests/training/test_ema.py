"""The moving average of the weights."""

import pytest
import torch
from torch import nn

from blinddiff.training.trainer import WeightAverage


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
    average = WeightAverage(module, 0.999)
    for _ in range(5):
        average.update(module)
    torch.testing.assert_close(average.average["weight"], torch.full((3,), 2.5))


def test_the_average_does_not_follow_at_once_nor_share_memory() -> None:
    module = network(0.0)
    average = WeightAverage(module, 0.9)
    fill(module, 1.0)
    assert float(average.average["weight"].max()) == 0


def test_the_start_is_forgotten_quickly_and_then_the_decay_holds() -> None:
    module = network(0.0)
    average = WeightAverage(module, 0.9)
    fill(module, 1.0)
    average.update(module)
    assert float(average.average["weight"][0]) > 0.5
    for _ in range(2000):
        average.update(module)
    fill(module, 3.0)
    before = average.average["bias"].clone()
    average.update(module)
    torch.testing.assert_close(average.average["bias"], 0.9 * before + 0.1 * 3.0)


def test_buffers_are_copied_as_they_are() -> None:
    module = network(0.0)
    average = WeightAverage(module, 0.999)
    assert isinstance(module, nn.BatchNorm1d)
    assert module.running_mean is not None
    module.running_mean.fill_(7.0)
    average.update(module)
    torch.testing.assert_close(average.average["running_mean"], torch.full((3,), 7.0))


def test_state_goes_on_where_it_was() -> None:
    module = network(0.0)
    first, second = WeightAverage(module, 0.99), WeightAverage(module, 0.99)
    fill(module, 1.0)
    for _ in range(3):
        first.update(module)
    second.load_state_dict(first.state_dict())
    fill(module, 2.0)
    first.update(module)
    second.update(module)
    assert second.steps == first.steps == 4
    torch.testing.assert_close(second.average["weight"], first.average["weight"])
    assert float(first.average["weight"][0]) == pytest.approx(float(second.average["weight"][0]))
