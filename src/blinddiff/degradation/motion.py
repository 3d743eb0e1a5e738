"""Motion blur: kernels of camera paths during the exposure, straight lines and smooth random shakes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from blinddiff.degradation.draws import Draws, KernelFamily
from blinddiff.degradation.kernel_measures import normalise
from blinddiff.degradation.kernel_tensors import Value, as_tensors, axis, for_scale
from blinddiff.errors import ParameterError

MAX_LENGTH = {1: 26.0, 2: 27.0, 3: 22.0, 4: 24.0}
STEPS = 128  # points along a path: more than four per pixel on the longest


def line_motion(length: Value, angle: Value, size: int) -> Tensor:
    """Uniform motion along a straight line through the centre, normalised to sum 1.

    length: HR pixels from end to end, >= 0 (0: no blur); angle: degrees from the x axis (columns) towards the y axis
    (rows), that is clockwise on the screen. Numbers give (size, size), (B,) tensors (B, size, size).
    Raises ParameterError for a negative length and for a line that leaves the support.
    """
    span, degrees = as_tensors(length, angle)
    if not bool((torch.isfinite(span) & (span >= 0)).all()):
        raise ParameterError(f"length {span.tolist()}: must be a finite number, at least 0")
    theta = torch.deg2rad(degrees)
    time = (torch.arange(STEPS, device=span.device, dtype=span.dtype) + 0.5) / STEPS - 0.5
    direction = torch.stack((torch.cos(theta), torch.sin(theta)), dim=-1)
    return rasterise((span[..., None] * time)[..., None] * direction[..., None, :], size)


def camera_shake(path: Tensor, size: int) -> Tensor:
    """The kernel of a camera path, centred on its centroid, normalised to sum 1: (..., size, size).

    path: (..., T, 2) points (x, y) = (column, row) in HR pixels at equal time steps, with any origin; use several
    per pixel, because they are not connected. A path too wide for the support is scaled down to it.
    """
    # Slightly less, so that no point is outside after rounding.
    return rasterise(_within(path, float((size - 1) // 2) * (1 - 1e-5)), size)


def _within(path: Tensor, limit: float | Tensor) -> Tensor:
    """A path (..., T, 2) about its mean, scaled down until it reaches no further than a limit along each axis."""
    path = path - path.mean(dim=-2, keepdim=True)
    reach = path.abs().amax(dim=(-2, -1), keepdim=True).clamp_min(1e-6)
    return path * (limit / reach).clamp_max(1.0)


def rasterise(path: Tensor, size: int) -> Tensor:
    """Kernels of points (..., T, 2), each point (x, y) in pixels from the centre, with equal weight.

    A point is distributed over its four pixels bilinearly, which keeps the path's centroid exactly. It is a product of
    one weight matrix per axis instead of a scatter, so that the sums are the same on every device.
    Returns (..., size, size) of sum 1. Raises ParameterError if a point lies outside the support.
    """
    position = axis(size, path.device, path.dtype)
    if not bool((path >= position[0]).all() and (path <= position[-1]).all()):
        reach = float(path.abs().max())
        raise ParameterError(f"motion path reaching {reach:.1f} px from the centre: does not fit size {size}")
    weights = (1 - (path[..., None] - position).abs()).clamp_min(0)  # (..., T, 2, size)
    across, down = weights[..., 0, :], weights[..., 1, :]
    return normalise(down.transpose(-1, -2) @ across)


@dataclass(frozen=True)
class LineMotion(KernelFamily):
    """Length uniform in [min_length, max_length[scale]] HR pixels, limited to the support; any direction."""

    name: str = "line_motion"
    min_length: float = 1.0
    max_length: Mapping[int, float] = field(default_factory=lambda: MAX_LENGTH)

    def draw(self, n: int, scale: int, size: int, draws: Draws) -> Tensor:
        length = draws.uniform(n, self.min_length, for_scale(self.max_length, scale))
        angle = draws.uniform(n, 0.0, 180.0)
        return line_motion(length.clamp_max(2.0 * ((size - 1) // 2)), angle, size)


@dataclass(frozen=True)
class CameraShake(KernelFamily):
    """A smooth path: its direction is a random walk, its speed varies, and it may turn sharply once.

    Path length uniform in [min_length, max_length[scale]] HR pixels (scaled down to the support); the direction's
    random walk ends with a standard deviation of up to `max_turn` radians; a fraction `jerks` of the paths turns
    sharply at one random time. Kernels are centred on their centroid.
    """

    name: str = "motion"
    min_length: float = 1.0
    max_length: Mapping[int, float] = field(default_factory=lambda: MAX_LENGTH)
    max_turn: float = 4.0
    jerks: float = 0.3

    def draw(self, n: int, scale: int, size: int, draws: Draws) -> Tensor:
        return camera_shake(self.draw_paths(n, scale, draws), size)

    def draw_paths(self, n: int, scale: int, draws: Draws) -> Tensor:
        """(n, T, 2) points (x, y) in HR pixels, at equal time steps, starting near the origin."""
        length = draws.uniform((n, 1), self.min_length, for_scale(self.max_length, scale))
        start = draws.uniform((n, 1), -math.pi, math.pi)
        turn = draws.uniform((n, 1), 0.0, self.max_turn)
        direction = start + turn * draws.normal((n, STEPS)).cumsum(1) / math.sqrt(STEPS)

        time = torch.linspace(0, 1, STEPS, device=length.device, dtype=draws.dtype)
        jerk_time = draws.uniform((n, 1), 0.1, 0.9)
        jerk = draws.uniform((n, 1), -math.pi, math.pi)
        jerky = draws.uniform((n, 1), 0.0, 1.0) < self.jerks
        direction = direction + torch.where(jerky & (time > jerk_time), jerk, torch.zeros_like(jerk))

        # One slow oscillation of the speed, which gives bright spots along the trace.
        phase = draws.uniform((n, 1), -math.pi, math.pi)
        waves = draws.uniform((n, 1), 0.5, 2.0)
        speed = 1 + 0.8 * torch.sin(2 * math.pi * waves * time + phase)
        speed = speed * length / speed.sum(1, keepdim=True)
        velocity = torch.stack((speed * torch.cos(direction), speed * torch.sin(direction)), dim=-1)
        return velocity.cumsum(1)


@dataclass(frozen=True)
class HandShake(KernelFamily):
    """The shake of a hand: the velocity is an Ornstein-Uhlenbeck process, so it turns, pauses and returns.

    The path's larger extent along the axes is uniform in [min_extent, max_extent[scale]] HR pixels (scaled down to the
    support); the correlation time of the velocity log-uniform in `memory`, in exposures; the trace has a Gaussian
    profile with a standard deviation uniform in `widths`, in HR pixels, for lens and pixel.
    """

    name: str = "hand_shake"
    min_extent: float = 1.0
    max_extent: Mapping[int, float] = field(default_factory=lambda: {1: 22.0, 2: 25.0, 3: 27.0, 4: 29.0})
    memory: tuple[float, float] = (0.03, 1.0)
    widths: tuple[float, float] = (0.3, 0.9)

    def draw(self, n: int, scale: int, size: int, draws: Draws) -> Tensor:
        extents = draws.uniform((n, 1, 1), self.min_extent, for_scale(self.max_extent, scale))
        low, high = (math.log(value * STEPS) for value in self.memory)
        keep = torch.exp(-1 / draws.uniform((n, 1), low, high).exp())
        velocity = [draws.normal((n, 2))]
        for _ in range(STEPS - 1):
            velocity.append(keep * velocity[-1] + (1 - keep.square()).sqrt() * draws.normal((n, 2)))
        path = torch.stack(velocity, 1).cumsum(1)
        path = path * (extents / (path.amax(1) - path.amin(1)).amax(-1)[:, None, None])
        width = draws.uniform((n, 1, 1), *self.widths)
        trace = rasterise(_within(path, ((size - 1) // 2 - 4 * width).clamp_min(0.0)), size)
        position = axis(size, path.device, path.dtype)
        blur = (-0.5 * ((position[:, None] - position) / width).square()).exp()
        return normalise(blur @ trace @ blur)
