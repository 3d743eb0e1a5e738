"""Mean profiles of the strongest edges of an image: what a power spectrum does not tell about its blur.

Most edges of a scene are steps. So the mean of the differences across them, normalised by the steepest, is about the
line spread function: its width is that of the blur, and sharpening shows as negative lobes beside the peak.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))
REACH = 8
"""Differences on either side of the steepest one."""
LENGTH = 2 * REACH + 1
ONE_IN = (1024, 256, 64)
"""The profiles are averaged over one in so many pixels: the places of the steepest edges."""
NEIGHBOURS = 2  # pixels on either side that a steepest difference exceeds
MAX_SLANT = 0.5  # of the difference along the edge, relative to that across it
FEATURES = 2 * LENGTH + 1
EDGE_STATISTICS = len(DIRECTIONS) * len(ONE_IN) * FEATURES
FLOOR = 1 / 255


def edge_profiles(luma: Tensor, area: Tensor) -> Tensor:
    """Mean profiles of the strongest edges along each of `DIRECTIONS`, for each of `ONE_IN`.

    A place is an edge if the difference to its neighbour along the direction is the steepest within `NEIGHBOURS`, and
    if the difference at right angles is less than `MAX_SLANT` of it.

    Args:
        luma: windows of images, (B, W, h, w).
        area: where these count, (B, W, h, w), bool.

    The result is (B, directions, counts, `FEATURES`): the mean differences, `LENGTH`, divided by the steepest; the mean
    of their negative part; and the mean log of the steepest, in grey levels.
    """
    margin = REACH + NEIGHBOURS + 1
    height, width = luma.shape[-2:]
    padded = F.pad(luma, (margin, margin, margin, margin), "replicate")

    def shifted(down: int, right: int) -> Tensor:
        rows, columns = margin + down, margin + right
        return padded[..., rows : rows + height, columns : columns + width]

    inside = F.pad(area, (margin, margin, margin, margin), value=False)
    row = width + 2 * margin
    values = padded.flatten(1)
    places = torch.arange(values.shape[1], device=luma.device).view(padded.shape[1:])
    places = places[..., margin : margin + height, margin : margin + width].flatten()
    counts = [torch.sym_max(1, (luma.shape[1] * height * width + one_in // 2) // one_in) for one_in in ONE_IN]
    out = []
    for down, right in DIRECTIONS:
        steps = [
            shifted((i + 1) * down, (i + 1) * right) - shifted(i * down, i * right)
            for i in range(-NEIGHBOURS, NEIGHBOURS + 1)
        ]
        strength = steps[NEIGHBOURS].abs()
        beside = [
            shifted(sign * right, -sign * down) + shifted(down + sign * right, right - sign * down) for sign in (1, -1)
        ]
        slant = (beside[0] - beside[1]).abs() / 4
        other = inside[..., margin + down : margin + down + height, margin + right : margin + right + width]
        edge = area & other & (slant < MAX_SLANT * strength)
        for step in steps:
            edge = edge & (strength >= step.abs())
        best, at = _largest((strength * edge).flatten(1), counts[-1] + 1)
        offsets = torch.arange(-REACH, REACH + 2, device=luma.device) * (down * row + right)
        samples = values.gather(1, (places[at][..., None] + offsets).flatten(1)).unflatten(1, (-1, LENGTH + 1))
        differences = samples.diff(dim=2)
        profile = differences * differences[..., REACH, None].sign() / best.clamp_min(FLOOR)[..., None]
        lobes = profile.clamp(max=0)
        # The mean with the mirrored one, because a rotation of the image by 180 degrees should change nothing.
        profile, lobes = ((each + each.flip(-1)) / 2 for each in (profile, lobes))
        parts = torch.cat([profile, lobes, (255 * best + 1).log()[..., None]], 2)
        for count in counts:
            # Not those as steep as the next one, if there are others: which of them come first depends on orientation.
            some = best[:, :count]
            steeper = some > best[:, count, None]
            chosen = (steeper | (~steeper.any(1, keepdim=True) & (some > 0))).to(luma)[..., None]
            out.append((parts[:, :count] * chosen).sum(1) / chosen.sum(1).clamp_min(1))
    return torch.stack(out, 1).unflatten(1, (len(DIRECTIONS), len(ONE_IN)))


def _largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest values of each row, in descending order, and their places."""
    if torch.compiler.is_exporting():  # ONNX takes no number of values that depends on the size
        ordered = values.sort(1, descending=True)
        return ordered.values[:, :count], ordered.indices[:, :count]
    best = values.topk(count, 1)
    return best.values, best.indices
