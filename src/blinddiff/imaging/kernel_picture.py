"""A blur kernel as a picture."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from blinddiff.errors import KernelError

# Dark to light, evenly rising in lightness, so that it reads the same in grey print.
_HEAT = (
    (0.02, 0.02, 0.07),
    (0.27, 0.06, 0.40),
    (0.58, 0.15, 0.40),
    (0.86, 0.32, 0.22),
    (0.98, 0.61, 0.08),
    (1, 1, 0.75),
)


def kernel_picture(kernel: Tensor, side: int = 240) -> Image.Image:
    """Return `kernel` enlarged to whole blocks of pixels, zero black and its largest entry lightest.

    Colours go from black over red to pale yellow, which shows faint tails.

    Args:
        kernel: (kh, kw), >= 0.
        side: the longer side of the picture in pixels, at most; a kernel larger than that is not reduced.

    Raises:
        KernelError: `kernel` is not (kh, kw), or has negative or non-finite entries, or none above zero.
    """
    if kernel.ndim != 2 or kernel.numel() == 0:
        raise KernelError(f"kernel: shape {tuple(kernel.shape)}; accepted is (kh, kw)")
    values = kernel.detach().cpu().double().numpy()
    if not np.isfinite(values).all() or values.min() < 0 or values.max() == 0:
        raise KernelError("kernel: has negative or non-finite entries, or none above zero")
    block = max(1, side // max(values.shape))
    enlarged = np.kron(values / values.max(), np.ones((block, block)))
    return Image.fromarray(heat_colours(enlarged))


def kernel_map_picture(kernels: Tensor, side: int = 124) -> Image.Image:
    """Return kernels of regions, each a `kernel_picture` in its region's place, with white lines between.

    Args:
        kernels: (rows, columns, kh, kw), >= 0.
        side: of each, at most.

    Raises:
        KernelError: as for `kernel_picture`.
    """
    pictures = [[kernel_picture(kernel, side) for kernel in row] for row in kernels]
    width, height = pictures[0][0].size
    sheet = Image.new("RGB", (len(pictures[0]) * (width + 2) - 2, len(pictures) * (height + 2) - 2), "white")
    for row, line in enumerate(pictures):
        for column, picture in enumerate(line):
            sheet.paste(picture, (column * (width + 2), row * (height + 2)))
    return sheet


def heat_colours(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return (H, W, 3) colours of values in [0, 1]."""
    stops = np.linspace(0, 1, len(_HEAT))
    channels = [np.interp(values, stops, [colour[channel] for colour in _HEAT]) for channel in range(3)]
    return (np.stack(channels, axis=-1) * 255).round().astype(np.uint8)
