"""The networks that say which kernel blurred an image, and how noisy it is."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blinddiff.models.estimate import Estimate, scale_code
from blinddiff.models.kernel_correction import KernelCorrection
from blinddiff.models.statistics import BLOCK, STATISTICS, spectral_statistics

NOISE_UNIT = 10.0  # grey levels; brings the noise head's output near 1


class SpectralEstimator(nn.Module):
    """Kernel and noise level: first from the spectral statistics of y, then corrected at each step of the sampler.

    Args:
        kernel_size: side of the kernel's support, odd.
        hidden: width of the two hidden layers.
        scales: scales it is made for; the scale is one of its inputs.
    """

    def __init__(self, kernel_size: int, hidden: int, scales: tuple[int, ...]) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.scales = scales
        self.normalise = nn.BatchNorm1d(STATISTICS, affine=False, momentum=0.02)
        self.trunk = nn.Sequential(
            nn.Linear(STATISTICS + len(scales), hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()
        )
        self.head = nn.Linear(hidden, kernel_size**2 + 1)
        self.correct = KernelCorrection(scales)
        self.doubt = nn.Sequential(nn.Linear(hidden + 1, 64), nn.GELU(), nn.Linear(64, 1))

    def features(self, y: Tensor, scale: int) -> Tensor:
        """What y alone tells, once an image: (B, 3, h, w) in [0, 1] -> (B, hidden)."""
        return self.told(spectral_statistics(y), torch.full((len(y),), scale, device=y.device))

    def told(self, statistics: Tensor, scale: Tensor) -> Tensor:
        """The same from the `spectral_statistics` of images, (B, `STATISTICS`), and the scale of each, (B,)."""
        return self.trunk(torch.cat([self.normalise(statistics), scale_code(scale, self.scales)], 1))

    def first(self, features: Tensor) -> Estimate:
        """The estimate from y alone."""
        out = self.head(features).float()
        kernel = out[:, :-1].softmax(1).unflatten(1, (self.kernel_size, self.kernel_size))
        return Estimate(kernel, NOISE_UNIT * F.softplus(out[:, -1]))

    def expected_error_of(self, features: Tensor, pixels: Tensor) -> Tensor:
        """What sum |k_hat - k| of the first estimate will be on average: (B,), from 0 to 2.

        Args:
            features: of `features`.
            pixels: how many each image has, (B, 1): many tell more than few.
        """
        octaves = (pixels / BLOCK**2).log2() / 4
        return 2 * self.doubt(torch.cat([features, octaves], 1)).float().squeeze(1).sigmoid()


class ConvolutionalEstimator(nn.Sequential):
    """The published estimator: six 5x5 convolutions on (x_t, y enlarged), global pooling, softmax over the support."""

    def __init__(self, dim: int, kernel_size: int) -> None:
        layers: list[nn.Module] = []
        for index, stride in enumerate((1, 1, 1, 2, 1, 1)):
            layers += [nn.Conv2d(dim if index else 6, dim, 5, stride, padding=2), nn.LeakyReLU(0.2)]
        super().__init__(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Conv2d(dim, kernel_size**2, 1), nn.Flatten(), nn.Softmax(1)
        )
