"""Devices, threads and memory: choice of device, precision, free memory, memory per pixel, out-of-memory errors."""

import os
import warnings
from pathlib import Path

import psutil
import torch
from torch.nn import functional as F

from blinddiff.errors import ParameterError
from blinddiff.sampling.arguments import short_repr

SHARE = 0.5
"""Fraction of the free memory used by default; the rest is left to other programs."""
IMAGES, INPUTS = 6, 4
"""Peak number of float32 images held by the sampler, at HR and at LR size: x_t, x_y, x0_hat before and after the image
step, intermediate results, and the mean over steps. Measured by tests/reliability/tiles.py."""
BYTES, BYTES_PER_CHANNEL, GRADIENT = 400, 150, 4
"""Bytes per HR pixel of a tile: a constant part, a part per channel at full resolution, and a factor for both if a
gradient is computed. Totals measured on a CPU: default network 557 to 784, published network 6,952, a tiny one 262."""
CONTAINER = Path("/sys/fs/cgroup")
"""Folder in which Linux lists the limits of a container."""


def bytes_per_pixel(channels: float, needs_gradient: bool) -> float:
    """Memory per HR pixel of a tile, from `Denoiser.channels_per_pixel`."""
    return (BYTES + BYTES_PER_CHANNEL * channels) * (GRADIENT if needs_gradient else 1)


def default_memory(device: torch.device) -> int:
    """Bytes a restoration may use on a device by default: `SHARE` of the free memory."""
    if device.type == "cuda":
        return int(SHARE * torch.cuda.mem_get_info(device)[0])
    return int(SHARE * min(psutil.virtual_memory().available, _left_in_container()))


def memory_for(device: str | None) -> int:
    """`default_memory` of a device by name; None for CUDA if it is available, else the CPU."""
    on_gpu = torch.cuda.is_available() and (device or "cuda").startswith("cuda")
    return default_memory(torch.device("cuda" if on_gpu else "cpu"))


def _left_in_container() -> float:
    """Bytes left under the memory limit of a Linux container; infinity without a limit."""
    try:
        return int((CONTAINER / "memory.max").read_text()) - int((CONTAINER / "memory.current").read_text())
    except (OSError, ValueError):  # not Linux, or the limit is "max"
        return float("inf")


def choose_device(device: str | torch.device | None) -> torch.device:
    """The named device; for None, the first available of CUDA, MPS and CPU. ParameterError if it is not available."""
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ParameterError(f"device {str(device)!r} is not available here; use cpu, cuda or mps") from error
    return chosen


def check_precision(dtype: torch.dtype, device: torch.device) -> None:
    """Raise ParameterError if a network cannot compute in a dtype on a device, such as float64 on MPS."""
    if not isinstance(dtype, torch.dtype):
        raise ParameterError(f"torch_dtype must be a torch.dtype, not {short_repr(dtype)}")
    try:
        image = torch.ones(1, 1, 8, 8, dtype=dtype, device=device)
        F.softmax(F.conv2d(image, image[..., :3, :3]).flatten(1) @ image.new_ones(36, 4), 1)
        if not dtype.is_floating_point:
            raise TypeError
    except (RuntimeError, TypeError, AttributeError) as error:
        message = f"a network cannot compute in {dtype} on {device}: use torch.float32, float16 or bfloat16"
        raise ParameterError(message) from error


_first_process: int | None = None  # that made the first pipeline


def one_thread_after_fork() -> None:
    """In a process that was forked from one with a pipeline, use one thread; called before all work on tensors.

    OpenMP's threads do not survive a fork: a loop for several threads would wait for them forever.
    """
    global _first_process
    if _first_process is None:
        _first_process = os.getpid()
    if _first_process != os.getpid() and torch.get_num_threads() > 1:
        warnings.warn("a forked process uses one thread: start processes by the method 'spawn' for more", stacklevel=3)
        torch.set_num_threads(1)
