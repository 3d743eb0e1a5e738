"""What a picture is taken for, and what follows from it; without torch, because both engines decide alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from blinddiff.degradation.kernel_measures import namespace, widths_and_angle
from blinddiff.errors import ImageError
from blinddiff.files import release_pages
from blinddiff.imaging.drawn import is_graphic

CERTAIN = 0.8
"""Probability from which a picture counts as enlarged."""
MIN_FACTOR = 1.3
"""Factor of enlargement below which reducing would lose more than it gains."""
SMALLEST_SIDE = 8
"""Smallest side of an LR image in pixels; smaller ones are too small to estimate a blur."""
WIDE, SHARP = 1.8, 0.35
"""Major widths of kernels, in pixels, above and below which scale 1 is restored as it is, see `suits_scale_1`."""
RELIABLE_KERNEL_ERROR = 0.6
CLEAN = 4.0  # grey levels
BAND = 256
"""Rows of an image that are measured at once, because it may be on disk."""
UNRELIABLE_KERNEL_ERROR = 0.75
"""Expected sum |k_hat - k|; from this value on, the estimate is no better than a default kernel."""
ROUNDING = 12**-0.5  # RMS error of rounding to whole grey levels, in grey levels
AS_ESTIMATED = "as estimated"
INTERPOLATED = "by interpolation alone"
"""The last resort: the enlarged picture, because all else moves its mean colour."""
MAX_COLOUR_SHIFT = 2.0
"""Grey levels by which the mean of a channel may move. A kernel keeps it; values that are clipped do not."""
SHAKEN = "with the kernel of a camera shake"


@dataclass(frozen=True)
class Decision:
    """What a picture was taken for, and how it was restored.

    Attributes:
        kind: one of `PICTURE_KINDS`.
        probability: of this kind.
        factor: by which the picture was enlarged before it came here; 1 if it was not.
        fallback: how it was restored: `AS_ESTIMATED`, `SHAKEN` (kernel step `alternate`), a key of `FALLBACKS`, or
            `INTERPOLATED`.
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


def working_scale(scale: int, scales: Sequence[int], *, as_it_is: bool = False) -> int:
    """The one of `scales` at which a picture is restored for a scale; for 1 it can be 2, and the result is reduced.

    At scale 1 the network leaves noise and blur: on crops of photographs with noise of 10, 25 and 50 grey levels, the
    detour is 2.9, 5.6 and 7.4 dB better, on blurred ones up to 1.8 dB.

    as_it_is: see `suits_scale_1`.
    """
    return 2 if scale == 1 and 2 in scales and not as_it_is else scale


def suits_scale_1(estimate: Any) -> Any:
    """Which pictures are better restored at scale 1 itself, (B,): those with a wide kernel, and sharp, clean ones.

    At scale 2 a wide kernel leaves the support, and what is sharp already loses detail: on crops of photographs, 2.4 dB
    with a Gaussian of 2.5 pixels, 6.4 dB with noise of 1 grey level and no blur.

    estimate: at scale 1, a `Degradation` or an `Estimate` of the light engine.
    """
    major, _, _ = widths_and_angle(estimate.kernel)
    wide = (major > WIDE) & (estimate.expected_kernel_error < RELIABLE_KERNEL_ERROR)
    return wide | ((major < SHARP) & (estimate.noise_level < CLEAN))


def check_size(height: int, width: int) -> None:
    """Raise ImageError if an LR image is too small."""
    if min(height, width) < SMALLEST_SIDE:
        raise ImageError(f"an image of {width}x{height} px is too small: sides must be at least {SMALLEST_SIDE} px")


def milder_data_term(estimate: Any, rms: Any) -> Any:
    """The same kernel; the noise is taken for twice as strong, or as strong as twice the residual.

    estimate: a `Degradation`, or an `Estimate` of the light engine. rms: `residual_rms`.
    """
    level = 2 * namespace(rms).maximum(estimate.noise_level, rms)
    return estimate.with_estimate(estimate.kernel, level)


def sharper_kernel(estimate: Any, rms: Any) -> Any:
    """The kernel with half its width, and `milder_data_term`."""
    milder = milder_data_term(estimate, rms)
    return milder.with_estimate(halved(estimate.kernel), milder.noise_level)


def no_deblurring(estimate: Any, rms: Any) -> Any:  # noqa: ARG001
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


def residual_rms(residuals: Any, believed: Any = 1.0) -> Any:
    """RMS of residuals (B, 3, h, w), which are 0 where y is not believed, over the others: a share, (B,)."""
    return ((residuals**2).mean((1, 2, 3)) / believed) ** 0.5


def consistency(residuals: Any, noise_level: Any, believed: Any = 1.0) -> Any:
    """`residual_rms` divided by that expected from noise and rounding, all in grey levels: (B,)."""
    return residual_rms(residuals, believed) / (noise_level**2 + ROUNDING**2) ** 0.5


def keeps_colours(x: NDArray[Any], y: NDArray[Any], noise_level: float) -> bool:
    """Whether the result x (1, 3, H, W) has the mean colour of y (1, 3, h, w), within `MAX_COLOUR_SHIFT`.

    More is allowed where noise of a level, in grey levels, was clipped at black or white, which has shifted that of y.
    """
    shift = 255 * abs(x.mean((0, 2, 3)) - y.mean((0, 2, 3)))
    if (shift <= MAX_COLOUR_SHIFT).all():
        return True
    clipped = ((y[0] <= 0) | (y[0] >= 1)).mean((1, 2))
    return not is_graphic(y[0]) and bool((shift <= MAX_COLOUR_SHIFT + noise_level * clipped).all())


def measured(x: Any, y: Any, quality: float) -> tuple[float, float, float]:
    """What `LIMITS` bound, of one result x (1, 3, H, W) of y with a consistency."""
    (mean_x, clipped_x), (mean_y, clipped_y) = _mean_and_clipped(x), _mean_and_clipped(y)
    return quality, 255 * float(abs(mean_x - mean_y).max()), clipped_x - clipped_y


def _mean_and_clipped(image: Any) -> tuple[Any, float]:
    """The mean colour of one image (1, 3, H, W), (3,), and the share of black and white values, band by band."""
    colour, clipped, height = 0.0, 0, image.shape[-2]
    for top in range(0, height, BAND):
        band = image[..., top : top + BAND, :]
        colour = colour + band.sum((0, 2, 3)) / (height * band.shape[-1])
        clipped += int(((band <= 0) | (band >= 1)).sum())
        release_pages()
    return colour, clipped / (3 * height * image.shape[-1])
