"""A first guess of the pixels that are not believed, such as scratches.

The sampler replaces the guess at every step, see `Observation.filled`.
"""

from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg
from torch import Tensor

from blinddiff.degradation import Observation
from blinddiff.imaging.mask import MaskInput, marked_pixels
from blinddiff.imaging.photograph import spread_colours

REACH = 16
"""Pixels from the believed ones up to which the guess is refined; it stays coarse beyond, where it has no effect."""
ITERATIONS = 300
"""Of conjugate gradients; enough for scratches of 10 pixels, and wider parts stay near the start."""


def with_mask(observation: Observation, mask: MaskInput) -> Observation:
    """The observation without belief in `marked_pixels`, which are filled by `smooth_fill`. Raises as the former."""
    y = observation.y
    mask = mask.detach().float().cpu() if isinstance(mask, Tensor) else mask
    believed = torch.from_numpy(~marked_pixels(mask, len(y), y.shape[-2:])[:, None])
    filled = torch.stack([smooth_fill(*each) for each in zip(y.cpu(), believed, strict=True)])
    return replace(observation, y=filled.to(y), mask=believed.to(y.device))


def smooth_fill(y: Tensor, believed: Tensor) -> Tensor:
    """Fill the pixels of (3, h, w) where believed, (1, h, w), is False; within the range of the others.

    u = argmin ||Laplacian u||^2 with the other pixels given (biharmonic inpainting): it continues gradients, so edges
    across a scratch stay straight: on scratched photographs 4 to 6 dB better than the means that it starts from.
    """
    height, width = y.shape[-2:]
    hidden = ~believed[0].numpy()
    if not hidden.any():
        return y
    start = spread_colours(y.numpy(), believed.float().numpy()).reshape(len(y), -1)
    hidden &= ndimage.distance_transform_cdt(hidden, "chessboard") <= REACH
    # The Laplacian, at the hidden pixels and their neighbours; a neighbour outside the image is the pixel itself.
    rows, columns = np.nonzero(ndimage.binary_dilation(hidden))
    number, here = np.arange(len(rows)), rows * width + columns
    entries = [(here, 4.0)]
    for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        entries.append(((rows + down).clip(0, height - 1) * width + (columns + right).clip(0, width - 1), -1.0))
    places = np.concatenate([place for place, _ in entries])
    values = np.repeat([value for _, value in entries], len(rows))
    laplacian = sparse.csc_matrix((values, (np.tile(number, len(entries)), places)), (len(rows), height * width))

    unknown = np.flatnonzero(hidden)
    of_unknown = laplacian[:, unknown]
    filled = start.copy()
    for plane, colours in zip(filled, start, strict=True):
        target = -of_unknown.T @ (laplacian @ np.where(hidden.ravel(), 0, colours))
        plane[unknown], _ = cg(of_unknown.T @ of_unknown, target, x0=colours[unknown], maxiter=ITERATIONS)
    filled = filled.clip(start.min(1, keepdims=True), start.max(1, keepdims=True))
    return torch.from_numpy(filled).view_as(y)
