"""The stand-in device accepts and refuses what CUDA does, and computes the same as the CPU."""

from collections.abc import Callable

import pytest
import torch
from stand_in import DEVICE, MixedDevices, OnDevice, stand_in_device
from torch import Tensor

Use = Callable[[Tensor], object]

REFUSED: dict[str, Use] = {
    "a CPU tensor in arithmetic": lambda x: x + torch.ones(3, 1),
    "CPU indices of index_select": lambda x: x.index_select(0, torch.arange(2)),
    "CPU indices of index_add_": lambda x: x.index_add_(0, torch.arange(3), torch.ones_like(x)),
    "a CPU mask of where": lambda x: x.where(torch.ones(3, 4, dtype=torch.bool), 0),
    "CPU weights": lambda x: torch.nn.functional.linear(x, torch.ones(2, 4)),
    "indices of the device into a CPU tensor": lambda _: torch.ones(3)[torch.arange(2, device=DEVICE)],
    "a CPU generator": lambda _: torch.rand(3, generator=torch.Generator(), device=DEVICE),
    "conversion to NumPy": lambda x: x.numpy(),
}
ACCEPTED: dict[str, Use] = {
    "a CPU scalar": lambda x: x * torch.tensor(2.0),
    "CPU indices": lambda x: x[torch.tensor([2, 0])],
    "a list": lambda x: x[[0, -1]],
    "a new tensor": lambda x: x * torch.tensor([1.0, 2.0, 3.0, 4.0], device=x.device),
    "a copy": lambda x: torch.zeros(3, 4, device=x.device).copy_(torch.ones(3, 4)) * x,
    "writing into a view": lambda x: (
        torch.zeros(2, 3, 4, device=x.device).index_fill(0, torch.arange(1).to(x.device), 2)[0] + x
    ),
    "conjugates": lambda x: torch.fft.irfft2(torch.fft.rfft2(x).conj() * torch.fft.rfft2(x), s=(3, 4)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses(name: str) -> None:
    with stand_in_device() as device, pytest.raises((MixedDevices, RuntimeError), match=r"cpu|CPU|numpy"):
        REFUSED[name](torch.ones(3, 4, device=device))


@pytest.mark.parametrize("name", ACCEPTED)
def test_it_accepts_with_the_values_of_the_cpu(name: str) -> None:
    x = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    with stand_in_device() as device:
        out = ACCEPTED[name](x.to(device))
        assert isinstance(out, OnDevice)
        assert out.device == device
        values = out.cpu()
    torch.testing.assert_close(values, ACCEPTED[name](x), rtol=0, atol=0)
