"""The power spectrum |K(f)|^2 of a shaken kernel on 64x64 frequencies, from the fine spectra of y.

A kernel that is not negative and of bounded support is determined by it up to its mirror image, see `phase_retrieval`.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blinddiff.degradation.fourier import rfft2
from blinddiff.degradation.observation import HALF_TURN, dihedral, dihedral_inverse
from blinddiff.models.statistics import FINE_BLOCK, full_spectrum, transformed_spectrum

HALF = FINE_BLOCK // 2
MAPS = (0, 1, 4)
"""Those of `Statistics.fine`: the mean power, and the mean logs over all blocks and over those with most energy."""
MIN_POWER = 1e-4
"""Added to |K|^2 inside the logarithm: what is below is lost in the noise."""
ROUNDING_POWER = 2.7e-9
"""Added to the whitened mean power, for images in [0, 1]; of the order of what rounding to 8 bits adds."""
SPECTRUM_TRANSFORMS = (0, 1, 4, 5)
"""Dihedral transforms of which no two differ by a half turn, which leaves the power spectrum unchanged."""
CHANNELS = 32
NOISE_UNIT = 5.0  # grey levels


class KernelSpectrum(nn.Module):
    """log |K(f)|^2 at LR frequencies, (B, 64, 33), from `Statistics.fine` and the noise level: a small U-net."""

    is_trained: Tensor
    """False in a network whose weights are older than this part: then it must not be asked."""

    def __init__(self) -> None:
        super().__init__()
        c = CHANNELS
        self.first = _pair(len(MAPS) + 2, c)
        self.down = nn.ModuleList([_pair(c, 2 * c, stride=2), _pair(2 * c, 4 * c, stride=2), _bottleneck(4 * c)])
        self.up = nn.ModuleList([_pair(8 * c, 2 * c), _pair(4 * c, c), _pair(2 * c, c)])
        self.last = nn.Conv2d(c, 1, 3, padding=1)
        self.register_buffer("is_trained", torch.tensor(False))

    def forward(self, fine: Tensor, noise_level: Tensor) -> Tensor:
        """The spectrum, 0 at the origin.

        fine: `Statistics.fine`, (B, FINE_MAPS, 64, 33). noise_level: in grey levels, (B,).
        """
        square = _square_frequency(fine)
        maps = fine[:, MAPS].clone() + square.log()  # the power of scenes falls as 1 / f^2
        maps[:, 0] = (maps[:, 0].exp() + ROUNDING_POWER).log()
        maps = maps - maps.amax((-2, -1), keepdim=True)
        luma_noise = noise_level / 3**0.5 / NOISE_UNIT
        constants = torch.stack(torch.broadcast_tensors(square.log() / 2, luma_noise[:, None, None]), 1)
        x = self.first(torch.cat([maps, constants], 1).roll(HALF, -2))
        levels = [x]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up in self.up:
            above = levels.pop()
            x = up(torch.cat([F.interpolate(x, above.shape[-2:], mode="bilinear"), above], 1))
        power = self.last(x)[:, 0].roll(-HALF, -2)
        return power - power[:, :1, :1]

    def ensemble(self, fine: Tensor, noise_level: Tensor) -> Tensor:
        """The mean over the mirror images of y, to which the network is not exactly equivariant: |K|^2, (B, 64, 33)."""
        whole = full_spectrum(fine.flatten(0, 1)).unflatten(0, fine.shape[:2])
        estimates = []
        for transform in SPECTRUM_TRANSFORMS:
            seen = transformed_spectrum(whole, partial(dihedral, transform=transform))[..., : HALF + 1]
            power = full_spectrum(self(seen, noise_level))
            estimates.append(transformed_spectrum(power, partial(dihedral_inverse, transform=transform)))
        mean = torch.stack(estimates).mean(0)
        even = (mean + transformed_spectrum(mean, partial(dihedral, transform=HALF_TURN))) / 2  # as of a real kernel
        return even[..., : HALF + 1].exp()


def _pair(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GELU(), nn.Conv2d(outputs, outputs, 3, padding=1), nn.GELU()
    )


def _bottleneck(channels: int) -> nn.Sequential:
    """Two convolutions at half the size, of lower rank."""
    low = 3 * channels // 4
    return nn.Sequential(
        nn.Conv2d(channels, low, 3, 2, 1, bias=False), nn.Conv2d(low, channels, 1), nn.GELU(),
        nn.Conv2d(channels, low, 3, padding=1, bias=False), nn.Conv2d(low, channels, 1), nn.GELU(),
    )  # fmt: skip


def log_power(kernel: Tensor, scale: int) -> Tensor:
    """log(|K|^2 + MIN_POWER) of kernels (B, n, m) in HR pixels at the 64x64 frequencies of LR blocks: (B, 64, 33)."""
    side = FINE_BLOCK * scale
    power = rfft2(kernel, s=(side, side)).abs().square()
    rows = torch.cat([power[:, :HALF], power[:, side - HALF :]], 1)
    return (rows[..., : HALF + 1] + MIN_POWER).log()


def _square_frequency(like: Tensor) -> Tensor:
    """f^2 at the frequencies of a half spectrum, at the origin a quarter of the next: (64, 33)."""
    rows, columns = (f(FINE_BLOCK, device=like.device) for f in (torch.fft.fftfreq, torch.fft.rfftfreq))
    return (rows[:, None].square() + columns.square()).clamp_min((0.5 / FINE_BLOCK) ** 2).to(like)
