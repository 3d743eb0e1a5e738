"""Devices and their memory: which to take, what is free, what the sampler needs, and errors that mean a lack of it."""

from pathlib import Path

import psutil
import torch

from blinddiff.errors import ParameterError

SHARE = 0.5
"""Share of the free memory that is taken by default: other programs need some too."""
IMAGES, INPUTS = 6, 4
"""Largest number of images held by the sampler, of the result's and of the input's size, as floats: x_t, x_y, x0_hat
before and after the image step, intermediate results, and the mean over steps. Measured by
tests/reliability/tiles.py."""
BYTES, BYTES_PER_CHANNEL, GRADIENT = 400, 150, 4
"""Bytes per pixel of a tile: for every network; for each channel at full resolution; and the factor where its steps are
recorded for a gradient. Measured on a CPU: default network 557 to 784 in all, published one 6,952, a tiny one 262."""
CONTAINER = Path("/sys/fs/cgroup")
"""Where Linux keeps the limits of a container."""
_MESSAGES = ("out of memory", "can't allocate memory", "not enough memory", "alloc_cpu", "bad allocation")


def bytes_per_pixel(channels: float, needs_gradient: bool) -> float:
    """Memory per pixel of the result while its tile is restored, for `Denoiser.channels_per_pixel`."""
    return (BYTES + BYTES_PER_CHANNEL * channels) * (GRADIENT if needs_gradient else 1)


def free_memory(device: torch.device) -> int:
    """Bytes that a restoration may take on a device by default: `SHARE` of what is free."""
    if device.type == "cuda":
        return int(SHARE * torch.cuda.mem_get_info(device)[0])
    return int(SHARE * min(psutil.virtual_memory().available, _left_in_container()))


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether an error of torch, or of Python, says that memory has run out."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in _MESSAGES)
    )


def _left_in_container() -> float:
    """What the limit of a Linux container leaves; infinity where there is none."""
    try:
        return int((CONTAINER / "memory.max").read_text()) - int((CONTAINER / "memory.current").read_text())
    except (OSError, ValueError):  # another system, or "max"
        return float("inf")


def choose_device(device: str | torch.device | None) -> torch.device:
    """The named device, or the first of CUDA, MPS and CPU that the machine has; ParameterError where it has no such."""
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ParameterError(f"device {str(device)!r}: this machine has none; cpu, cuda and mps are known") from error
    return chosen
