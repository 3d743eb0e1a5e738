"""Colours under transparency: files hold anything there, and none of it may bleed into what can be seen."""

from torch import Tensor
from torch.nn import functional as F

from blinddiff.imaging.photograph import Photograph

OPAQUE_ENOUGH = 1 / 16
"""Alpha from which a colour counts as it is: below, 8-bit files made from multiplied colours hold mostly rounding."""


def visible_colours(photograph: Photograph) -> Tensor:
    """Return a photograph's pixels, (3, H, W), with nothing left of those that its transparency hides."""
    return photograph.pixels if photograph.alpha is None else spread_colours(photograph.pixels, photograph.alpha)


def spread_colours(pixels: Tensor, alpha: Tensor) -> Tensor:
    """Return (3, H, W) `pixels` whose colours go on smoothly under the transparent parts.

    A restoration that sees an edge between a visible colour and the black or the rubbish hidden beside it sharpens that
    edge, and shows it. So what is hidden is replaced by means of the visible colours around, the nearest first: means
    weighted by alpha (of multiplied colours, that is) over ever larger blocks.

    Args:
        pixels: (3, H, W).
        alpha: (1, H, W) in [0, 1].
    """
    if not bool((alpha > 0).any()):
        return pixels  # nothing is visible: nothing to go on from
    return _filled(pixels[None], (alpha / OPAQUE_ENOUGH).clamp(max=1)[None])[0]


def _filled(colours: Tensor, weight: Tensor) -> Tensor:
    """(1, 3, h, w) colours where (1, 1, h, w) weights are 1; where they are less, from half the resolution."""
    if bool((weight >= 1).all()) or max(weight.shape[-2:]) == 1:
        return colours
    share = _halved(weight)
    means = _halved(colours * weight) / share.clamp(min=1e-6)
    coarse = _filled(means, (4 * share).clamp(max=1))  # one pixel of four that is visible is enough to tell
    around = F.interpolate(coarse, size=weight.shape[-2:], mode="bilinear", align_corners=False)
    return weight * colours + (1 - weight) * around


def _halved(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
