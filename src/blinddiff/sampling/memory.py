"""How much memory there is, how much the sampler takes, and when it has run out."""

from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

if TYPE_CHECKING:
    from blinddiff.models.mcformer import MCFormer


SHARE = 0.5
"""Of the free memory, what is taken where nothing is said: others live here too."""
IMAGES, INPUTS = 6, 4
"""Images that the sampler holds at most, of the result's and of the input's size, as floats: x_t, x_y, x0_hat before
and after the image step, what the steps make of them, and the mean over steps. Measured by
tests/reliability/tiles.py."""
BYTES, BYTES_PER_CHANNEL, GRADIENT = 400, 150, 4
"""Of a pixel of a tile: what every network takes; what it takes for each channel at full resolution; and how many times
as much where its steps are recorded for a gradient. Measured on a CPU with the default network (557 to 784 bytes in
all), the published one (6,952) and a tiny one (262)."""
CONTAINER = Path("/sys/fs/cgroup")
"""Where Linux tells a container its limits."""
_LACK = ("out of memory", "can't allocate memory", "not enough memory", "alloc_cpu", "bad allocation")


def bytes_per_pixel(network: "MCFormer", needs_gradient: bool) -> float:
    """What one pixel of the result costs while its tile is worked on."""
    cost = BYTES + BYTES_PER_CHANNEL * network.config.dim / network.config.patch_size**2
    return cost * (GRADIENT if needs_gradient else 1)


def free_memory(device: torch.device) -> int:
    """Bytes that a restoration may take on a device where nothing else is said: `SHARE` of what is free."""
    if device.type == "cuda":
        return int(SHARE * torch.cuda.mem_get_info(device)[0])
    return int(SHARE * min(psutil.virtual_memory().available, _left_in_container()))


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether an error of torch, or of Python, says that memory has run out."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in _LACK)
    )


def _left_in_container() -> float:
    """What the limit of a Linux container leaves; infinity where there is none."""
    try:
        return int((CONTAINER / "memory.max").read_text()) - int((CONTAINER / "memory.current").read_text())
    except (OSError, ValueError):  # another system, or "max"
        return float("inf")
