"""What a picture is taken for, and what follows from it; without torch, because both engines decide alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from blinddiff.degradation.kernel_measures import namespace
from blinddiff.errors import ImageError

CERTAIN = 0.8
"""Probability from which a picture counts as enlarged."""
MIN_FACTOR = 1.3
"""Factor of enlargement below which reducing would lose more than it gains."""
SMALLEST_SIDE = 8
"""Smallest side of an LR image in pixels; smaller ones are too small to estimate a blur."""
UNRELIABLE_KERNEL_ERROR = 0.75
"""Expected sum |k_hat - k|; from this value on, the estimate is no better than a default kernel."""
ROUNDING = 12**-0.5  # RMS error of rounding to whole grey levels, in grey levels
AS_ESTIMATED = "as estimated"
SHAKEN = "with the kernel of a camera shake"


@dataclass(frozen=True)
class Decision:
    """What a picture was taken for, and how it was restored.

    Attributes:
        kind: one of `PICTURE_KINDS`.
        probability: of this kind.
        factor: by which the picture was enlarged before it came here; 1 if it was not.
        fallback: how it was restored: `AS_ESTIMATED`, `SHAKEN` (kernel step `alternate`), or a key of `FALLBACKS`.
    """

    kind: str
    probability: float
    factor: float
    fallback: str

    @property
    def sentence(self) -> str:
        """What the user should know; empty for a photograph that was restored as estimated."""
        if self.factor > 1:
            return f"enlarged {self.factor:.1f} times before: restored from its own size"
        if self.fallback == SHAKEN:
            return f"restored {SHAKEN}, from its spectrum"
        if self.fallback != AS_ESTIMATED:
            return f"the estimate did not agree with the picture: restored {self.fallback}"
        return ""


def own_size(height: int, width: int, factor: float) -> tuple[int, int]:
    """Height and width of a picture before it was enlarged by a factor."""
    return max(SMALLEST_SIDE, round(height / factor)), max(SMALLEST_SIDE, round(width / factor))


def own_scale(scale: int, factor: float, scales: Sequence[int]) -> int:
    """The one of `scales` at which a picture is restored from its own size, for `scale` times its present one."""
    return next((each for each in scales if each > scale * factor - 0.25), scales[-1])


def working_scale(scale: int, scales: Sequence[int]) -> int:
    """The one of `scales` at which a picture is restored for a scale: for 1 it is 2, and the result is reduced.

    At scale 1 the network leaves noise and blur: on crops of photographs with noise of 10, 25 and 50 grey levels, the
    detour is 2.9, 5.6 and 7.4 dB better, on blurred ones up to 1.8 dB.
    """
    return 2 if scale == 1 and 2 in scales else scale


def check_size(height: int, width: int) -> None:
    """Raise ImageError if an LR image is too small."""
    if min(height, width) < SMALLEST_SIDE:
        raise ImageError(f"an image of {width}x{height} px is too small: sides must be at least {SMALLEST_SIDE} px")


def milder_data_term(estimate: Any, residuals: Any) -> Any:
    """The same kernel; the noise is taken for twice as strong, or as strong as twice the residual.

    estimate: a `Degradation`, or an `Estimate` of the light engine. residuals: (B, 3, h, w), grey levels.
    """
    rms = (residuals**2).mean((1, 2, 3)) ** 0.5
    level = 2 * namespace(rms).maximum(estimate.noise_level, rms)
    return estimate.with_estimate(estimate.kernel, level)


def sharper_kernel(estimate: Any, residuals: Any) -> Any:
    """The kernel with half its width, and `milder_data_term`."""
    milder = milder_data_term(estimate, residuals)
    return milder.with_estimate(halved(estimate.kernel), milder.noise_level)


def no_deblurring(estimate: Any, residuals: Any) -> Any:  # noqa: ARG001
    """No blur but that of the downsampling; the estimated noise."""
    kernel = estimate.kernel * 0
    kernel[:, kernel.shape[-2] // 2, kernel.shape[-1] // 2] = 1
    return estimate.with_estimate(kernel, estimate.noise_level)


FALLBACKS: Mapping[str, Callable[[Any, Any], Any]] = MappingProxyType(
    {
        "with a milder data term": milder_data_term,
        "with a kernel half as wide": sharper_kernel,
        "without deblurring": no_deblurring,
    }
)
"""What is tried, in this order, until a result is accepted; the last one always is."""


def halved(kernel: Any) -> Any:
    """Kernels (B, n, m) with half the width and the same sum about the centre, by linear interpolation."""
    matrices = []
    for side in (kernel[0, :, 0], kernel[0, 0]):
        row = namespace(kernel).ones_like(side).cumsum(0) - 1
        position = len(side) // 2 + (row - len(side) // 2) / 2
        matrices.append((1 - abs(row[:, None] - position)).clip(0))
    return matrices[0] @ kernel @ matrices[1].T


def consistency(residuals: Any, noise_level: Any) -> Any:
    """RMS of residuals (B, 3, h, w) divided by that expected from noise and rounding, all in grey levels: (B,)."""
    return ((residuals**2).mean((1, 2, 3)) / (noise_level**2 + ROUNDING**2)) ** 0.5


def measured(x: Any, y: Any, quality: float) -> tuple[float, float, float]:
    """What `LIMITS` bound, of one result x (1, 3, H, W) of y with a consistency."""
    shift = 255 * float(abs(x.mean((0, 2, 3)) - y.mean((0, 2, 3))).max())
    clipped = [float((1.0 * ((image <= 0) | (image >= 1))).mean()) for image in (x, y)]
    return quality, shift, clipped[0] - clipped[1]
