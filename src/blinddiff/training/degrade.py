"""Training pairs made on the fly: photographs in, degraded images with their kernel and noise level out."""

from dataclasses import dataclass

import torch
from torch import Tensor

from blinddiff.degradation import NOISES, Decimate, DegradationOperator, sample_kernels
from blinddiff.degradation.kernels import shift_kernel
from blinddiff.training.recipe import DegradationRecipe

MARGIN = 24
"""HR pixels cut from each side after blurring: a multiple of every scale, wider than kernel and resampling reach."""
LARGEST_KERNEL = 37
"""Side of the largest kernel whose reach, with that of the resampling by 4, is within `MARGIN`."""
ALIGNMENT = 48
"""HR sides at scale 3 are multiples of this: of the scale, and of 16 for the network."""


@dataclass
class Pairs:
    """A batch: x (B, 3, H, W) and y (B, 3, H / s, W / s) in [0, 1], kernel (B, n, n), noise level (B,) in grey levels.

    The noise level is the RMS of y - A(x, k) as it came out, rounding to 8 bits included.
    """

    x: Tensor
    y: Tensor
    kernel: Tensor
    noise_level: Tensor
    scale: int

    def patch(self, side: int, generator: torch.Generator) -> tuple[slice, slice, slice, slice]:
        """Random square of HR side ``side``: its HR rows and columns, then its LR rows and columns."""
        s = self.scale
        top, left = (int(torch.randint((n - side) // s + 1, (1,), generator=generator)) for n in self.x.shape[-2:])
        small = side // s
        return (
            slice(top * s, top * s + side),
            slice(left * s, left * s + side),
            slice(top, top + small),
            slice(left, left + small),
        )


def aligned(side: int, scale: int) -> int:
    """The HR side nearest ``side`` that the scale and the network divide."""
    return max(round(side / ALIGNMENT), 1) * ALIGNMENT if scale == 3 else side // 16 * 16


def draw_scale(recipe: DegradationRecipe, generator: torch.Generator) -> int:
    """One scale for a batch, by the recipe's shares."""
    shares = torch.tensor(list(recipe.scales.values()))
    return list(recipe.scales)[int(torch.multinomial(shares, 1, generator=generator))]


def degrade(
    photographs: Tensor, scale: int, kernel_size: int, recipe: DegradationRecipe, generator: torch.Generator
) -> Pairs:
    """Blur, downsample, add noise or compress, round to 8 bits.

    Args:
        photographs: (B, 3, H + 2 * MARGIN, W + 2 * MARGIN) uint8, on the device where the work is to be done.
        generator: a CPU generator, from which all that is random comes.
    """
    x = photographs.float() / 255
    kernel = sample_kernels(recipe.kernels, len(x), scale, kernel_size, generator, device=x.device)
    clean = DegradationOperator(kernel, scale, boundary="circular")(x)  # what wraps round is cut off
    if scale > 1 and recipe.decimated:
        where = torch.nonzero(torch.rand(len(x), generator=generator) < recipe.decimated).flatten().to(x.device)
        if len(where):
            middle = -(scale - 1) / 2  # moved so far, the kernel samples the middle of each block
            moved = shift_kernel(kernel[where], middle, middle)
            clean[where] = DegradationOperator(moved, scale, Decimate(), boundary="circular")(x[where])
    x, clean = x[..., MARGIN:-MARGIN, MARGIN:-MARGIN], _cut(clean, MARGIN // scale)

    names, shares = list(recipe.noise), torch.tensor(list(recipe.noise.values()))
    choice = torch.multinomial(shares, len(x), replacement=True, generator=generator)
    y = clean.clone()
    for index, name in enumerate(names):
        chosen = torch.nonzero(choice == index).flatten()
        if name != "none" and len(chosen):
            where = chosen.to(x.device)
            level = NOISES[name].sample_level(len(chosen), generator, x.device)
            y[where] = NOISES[name].apply(y[where], level, generator)
    y = (y.clamp(0, 1) * 255).round() / 255
    noise_level = 255 * (y - clean).square().mean((1, 2, 3)).sqrt()
    return Pairs(x, y, kernel, noise_level, scale)


def _cut(image: Tensor, margin: int) -> Tensor:
    return image[..., margin:-margin, margin:-margin]
