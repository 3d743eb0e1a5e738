"""The networks that say which kernel blurred an image, and how noisy it is."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blinddiff.models.statistics import STATISTICS, spectral_statistics

NOISE_UNIT = 10.0  # grey levels; brings the noise head's output near 1


class Estimate(NamedTuple):
    """A kernel (B, size, size), on the simplex, and a noise level (B,) in grey levels."""

    kernel: Tensor
    noise_level: Tensor


class SpectralEstimator(nn.Module):
    """Kernel and noise level from the spectral statistics of y, corrected by pooled features of the network.

    Args:
        kernel_size: side of the kernel's support, odd.
        hidden: width of the two hidden layers.
        scales: scales it is made for; the scale is one of its inputs.
        pooled: length of the pooled features of `update`.
    """

    def __init__(self, kernel_size: int, hidden: int, scales: tuple[int, ...], pooled: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.scales = scales
        self.normalise = nn.BatchNorm1d(STATISTICS, affine=False)
        self.trunk = nn.Sequential(
            nn.Linear(STATISTICS + len(scales), hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()
        )
        correction = nn.Linear(hidden, hidden)
        self.joint = nn.Sequential(nn.Linear(hidden + pooled + kernel_size**2, hidden), nn.GELU(), correction)
        self.head = nn.Linear(hidden, kernel_size**2 + 1)
        # Until trained, the pooled features say nothing.
        nn.init.zeros_(correction.weight)
        nn.init.zeros_(correction.bias)

    def features(self, y: Tensor, scale: int) -> Tensor:
        """What y alone tells, once an image: (B, 3, h, w) in [0, 1] -> (B, hidden)."""
        statistics = self.normalise(spectral_statistics(y))
        which = torch.tensor([float(scale == s) for s in self.scales], device=y.device)
        return self.trunk(torch.cat([statistics, which.expand(len(y), -1)], 1))

    def first(self, features: Tensor) -> Estimate:
        """The estimate from y alone."""
        return self._read(features)

    def update(self, features: Tensor, pooled: Tensor, kernel: Tensor) -> Estimate:
        """The estimate joined with what the network saw, pooled (B, P), when modulated by a kernel (B, size, size)."""
        seen = torch.cat([features, pooled, kernel.clamp_min(0).sqrt().flatten(1)], 1)
        return self._read(features + self.joint(seen))

    def _read(self, hidden: Tensor) -> Estimate:
        out = self.head(hidden).float()
        kernel = out[:, :-1].softmax(1).unflatten(1, (self.kernel_size, self.kernel_size))
        return Estimate(kernel, NOISE_UNIT * F.softplus(out[:, -1]))


class ConvolutionalEstimator(nn.Sequential):
    """The published estimator: six 5x5 convolutions on (x_t, y enlarged), global pooling, softmax over the support."""

    def __init__(self, dim: int, kernel_size: int) -> None:
        layers: list[nn.Module] = []
        for index, stride in enumerate((1, 1, 1, 2, 1, 1)):
            layers += [nn.Conv2d(dim if index else 6, dim, 5, stride, padding=2), nn.LeakyReLU(0.2)]
        super().__init__(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Conv2d(dim, kernel_size**2, 1), nn.Flatten(), nn.Softmax(1)
        )
