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
SHARES = (1 / 1024, 1 / 256, 1 / 64)
"""The profiles are averaged over these shares of the pixels: the places of the steepest edges."""
NEIGHBOURS = 2  # pixels on either side that a steepest difference exceeds
MAX_SLANT = 0.5  # of the difference along the edge, relative to that across it
FEATURES = 2 * LENGTH + 1
EDGE_STATISTICS = len(DIRECTIONS) * len(SHARES) * FEATURES
FLOOR = 1 / 255


def edge_profiles(luma: Tensor, area: Tensor) -> Tensor:
    """Mean profiles of the strongest edges along each of `DIRECTIONS`, for each of `SHARES`.

    A place is an edge if the difference to its neighbour along the direction is the steepest within `NEIGHBOURS`, and
    if the difference at right angles is less than `MAX_SLANT` of it.

    Args:
        luma: windows of images, (B, W, h, w).
        area: where these count, (B, W, h, w), bool.

    The result is (B, directions, shares, `FEATURES`): the mean differences, `LENGTH`, divided by the steepest; the mean
    of their negative part; and the mean log of the steepest, in grey levels.
    """
    margin = REACH + NEIGHBOURS + 1
    height, width = luma.shape[-2:]
    padded = F.pad(luma, (margin, margin, margin, margin), "replicate")

    def shifted(down: int, right: int) -> Tensor:
        rows, columns = margin + down, margin + right
        return padded[..., rows : rows + height, columns : columns + width]

    row = width + 2 * margin
    values = padded.flatten(1)
    places = torch.arange(values.shape[1], device=luma.device).view(padded.shape[1:])
    places = places[..., margin : margin + height, margin : margin + width].flatten()
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
        edge = area & (slant < MAX_SLANT * strength)
        for step in steps:
            edge = edge & (strength >= step.abs())
        best, chosen = _largest((strength * edge).flatten(1), max(1, round(max(SHARES) * strength[0].numel())))
        offsets = torch.arange(-REACH, REACH + 2, device=luma.device) * (down * row + right)
        samples = values.gather(1, (places[chosen][..., None] + offsets).flatten(1)).unflatten(1, (-1, LENGTH + 1))
        differences = samples.diff(dim=2)
        profile = differences * differences[..., REACH, None].sign() / best.clamp_min(FLOOR)[..., None]
        found = (best > 0).to(luma)
        parts = torch.cat([profile, profile.clamp(max=0), (255 * best + 1).log()[..., None]], 2) * found[..., None]
        for share in SHARES:
            count = max(1, round(share * strength[0].numel()))
            out.append(parts[:, :count].sum(1) / found[:, :count].sum(1, keepdim=True).clamp_min(1))
    return torch.stack(out, 1).unflatten(1, (len(DIRECTIONS), len(SHARES)))


def _largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest values of each row, in descending order, and their places."""
    if torch.compiler.is_exporting():  # ONNX takes no number of values that depends on the size
        ordered = values.sort(1, descending=True)
        return ordered.values[:, :count], ordered.indices[:, :count]
    best = values.topk(count, 1)
    return best.values, best.indices
