"""Training data: photographs in memory, random crops, degraded pairs (x, y), and replayed examples."""

import csv
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from blinddiff.degradation import NOISES, Decimate, Degradation, DegradationOperator, Observation, sample_kernels
from blinddiff.degradation.draws import LrImages
from blinddiff.degradation.kernel_tensors import shift_kernel
from blinddiff.errors import RecipeError
from blinddiff.imaging import read_8bit
from blinddiff.models.statistics import SPECTRUM_FLOOR, full_spectrum, noise_spectrum
from blinddiff.training.recipe import DATA_VARIABLE, DegradationRecipe

Pixels = npt.NDArray[np.uint8]
MAX_REDUCTION = 2.0
"""Largest factor by which photographs are downscaled before a crop is cut."""
MARGIN = 24
"""HR pixels cut from each side after blurring: a multiple of every scale, and wider than the border effects."""
UNKNOWN_FILE = 0.3
"""Share of the JPEG files whose table of quantisation steps is withheld, as if y came from elsewhere."""
MAX_KERNEL_SIZE = 37
"""Largest kernel side whose border effects, with those of downsampling by 4, stay within `MARGIN`."""
REPLAY_SIZE = 8192
"""Number of examples stored for replay; few, so that they are replaced before the network memorises them."""
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


class ImagePool:
    """Photographs from folders and tile sheets, decoded once to 8-bit arrays, from which random crops are cut.

    Args:
        folders: folders of image files, searched recursively; or of sheets of 256 x 256 tiles, with a ``tiles.csv``
            that lists sheet, row, column and source image of each tile.
        held_out: endings of the paths (or of the tiles' source images) to exclude.
        smallest: minimum length of the shorter side; smaller photographs are excluded.

    Raises RecipeError if a folder is missing, a ``tiles.csv`` lacks a column or a number, or no photograph is left;
    ImageError if an image file cannot be read.
    """

    def __init__(self, folders: Sequence[str], held_out: Sequence[str], smallest: int) -> None:
        if not folders:
            raise RecipeError(f"no photographs to train on: give their folders by --data or in {DATA_VARIABLE}")
        self.images: list[Pixels] = []
        for folder in map(Path, folders):
            if not os.path.isdir(folder):  # Path.is_dir raises for names that are too long
                raise RecipeError(f"{folder}: no such folder of training photographs")
            if (folder / "tiles.csv").exists():
                self.images += _read_tiles(folder, held_out)
            else:
                paths = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in SUFFIXES]
                paths = [p for p in paths if not p.as_posix().endswith(tuple(held_out))]
                with ThreadPoolExecutor() as workers:
                    self.images += workers.map(read_8bit, paths)
        self.images = [image for image in self.images if min(image.shape[:2]) >= smallest]
        if not self.images:
            raise RecipeError(f"no photograph of at least {smallest} px in {', '.join(folders)}")
        areas = np.array([image.shape[0] * image.shape[1] for image in self.images], dtype=np.float64)
        self._probabilities = areas / areas.sum()

    def crops(self, count: int, side: int, rng: np.random.Generator, reduced_share: float = 0.0) -> Pixels:
        """Random crops (count, 3, side, side), uniform over the pixels of the pool, randomly rotated and mirrored.

        A share ``reduced_share`` of them is downscaled by a factor that is uniform from 1 to `MAX_REDUCTION`, or to the
        largest that the photograph allows. These crops are sharper and show objects at other sizes.
        """
        out = np.empty((count, 3, side, side), dtype=np.uint8)
        for slot, index in zip(out, rng.choice(len(self.images), count, p=self._probabilities), strict=True):
            image, source_side = self.images[index], side
            if reduced_share and rng.random() < reduced_share:
                source_side = round(side * rng.uniform(1, min(MAX_REDUCTION, min(image.shape[:2]) / side)))
            top, left = (int(rng.integers(n - source_side + 1)) for n in image.shape[:2])
            crop = image[top : top + source_side, left : left + source_side]
            if source_side > side:
                crop = np.asarray(Image.fromarray(crop).resize((side, side), Image.Resampling.BICUBIC))
            crop = np.rot90(crop, int(rng.integers(4)))
            slot[:] = (crop[::-1] if rng.random() < 0.5 else crop).transpose(2, 0, 1)
        return out


def _read_tiles(folder: Path, held_out: Sequence[str], side: int = 256) -> list[Pixels]:
    path = folder / "tiles.csv"
    with path.open(newline="") as file:
        table = csv.DictReader(file, restval="")  # incomplete lines are filled with ""
        if missing := {"sheet", "row", "col", "source_image"} - set(table.fieldnames or ()):
            raise RecipeError(f"{path}: column {min(missing)!r} is missing")
        rows = [row for row in table if not row["source_image"].endswith(tuple(held_out))]
    sheets = {name: read_8bit(folder / name) for name in sorted({row["sheet"] for row in rows})}
    tiles = []
    for row in rows:
        try:
            top, left = int(row["row"]) * side, int(row["col"]) * side
        except ValueError:
            raise RecipeError(f"{path}: row {row['row']!r}, col {row['col']!r}: should be integers") from None
        tiles.append(sheets[row["sheet"]][top : top + side, left : left + side])
    return tiles


@dataclass
class Pairs:
    """A batch: x (B, 3, H, W) and y (B, 3, H / s, W / s) in [0, 1], kernel (B, n, n), noise level (B,).

    Noise level and spectrum are measured on y minus the image before noise, in grey levels; they include the rounding
    of y. See `Degradation`; for jpeg_step, see `Observation`.
    """

    x: Tensor
    y: Tensor
    kernel: Tensor
    noise_level: Tensor
    scale: int
    noise_spectrum: Tensor
    jpeg_step: Tensor

    @property
    def observation(self) -> Observation:
        """The LR images with their scale."""
        return Observation(self.y, self.scale, self.jpeg_step)

    @property
    def degradation(self) -> Degradation:
        """The true kernel and noise."""
        return Degradation(self.kernel, self.noise_level, noise_spectrum=self.noise_spectrum)

    def patch(self, side: int, generator: torch.Generator) -> tuple[slice, slice, slice, slice]:
        """The HR rows, HR columns, LR rows and LR columns of a random square with HR side ``side``."""
        s, n = self.scale, side // self.scale
        top, left = (int(torch.randint((m - side) // s + 1, (1,), generator=generator)) for m in self.x.shape[-2:])
        hr = slice(s * top, s * top + side), slice(s * left, s * left + side)
        return *hr, slice(top, top + n), slice(left, left + n)


def aligned(side: int, scale: int) -> int:
    """An HR side near ``side`` that is divisible by the scale and, as the network requires, by 16."""
    return max(round(side / 48), 1) * 48 if scale == 3 else side // 16 * 16


def draw_scale(recipe: DegradationRecipe, generator: torch.Generator) -> int:
    """A random scale for a batch, with the recipe's shares as probabilities."""
    shares = torch.tensor(list(recipe.scales.values()))
    return list(recipe.scales)[int(torch.multinomial(shares, 1, generator=generator))]


def degrade(
    photographs: Tensor, scale: int, kernel_size: int, recipe: DegradationRecipe, generator: torch.Generator
) -> Pairs:
    """Make pairs from photographs: blur, downsample, add noise or compress, and round to 8 bits.

    The photographs are (B, 3, H + 2 * MARGIN, W + 2 * MARGIN) uint8, on the device that computes the pairs;
    `kernel_size` is at most `MAX_KERNEL_SIZE`; `generator` is on the CPU.
    """
    x = photographs.float() / 255
    if recipe.grey:
        grey = (torch.rand(len(x), generator=generator) < recipe.grey).to(x.device)
        x[grey] = x[grey].mean(1, keepdim=True)
    kernel = sample_kernels(recipe.kernels, len(x), scale, kernel_size, generator, device=x.device)
    clean = DegradationOperator(kernel, scale, boundary="circular")(x)  # the margin contains the wrapped pixels
    if scale > 1 and recipe.decimated:
        chosen = torch.nonzero(torch.rand(len(x), generator=generator) < recipe.decimated).flatten().to(x.device)
        if len(chosen):
            shift = -(scale - 1) / 2  # moves the sampling point to the centre of each block
            shifted = shift_kernel(kernel[chosen], shift, shift)
            clean[chosen] = DegradationOperator(shifted, scale, Decimate(), boundary="circular")(x[chosen])
    margin = MARGIN // scale
    x, clean = x[..., MARGIN:-MARGIN, MARGIN:-MARGIN], clean[..., margin:-margin, margin:-margin]

    images = LrImages(clean.clone(), clean, kernel, torch.zeros(len(x), device=x.device))
    for mixture in recipe.mixtures:
        shares = torch.tensor(list(mixture.values()))
        choice = torch.multinomial(shares, len(x), replacement=True, generator=generator)
        for index, name in enumerate(mixture):
            chosen = torch.nonzero(choice == index).flatten().to(x.device)
            if name != "none" and len(chosen):
                level = NOISES[name].sample_level(len(chosen), generator, x.device)
                before = LrImages(*(part[chosen] for part in images))
                for part, degraded in zip(images, NOISES[name].degrade(before, level, scale, generator), strict=True):
                    part[chosen] = degraded
    y, clean, kernel, jpeg_step = images
    y = (y.clamp(0, 1) * 255).round() / 255
    jpeg_step[torch.rand(len(x), generator=generator).to(x.device) < UNKNOWN_FILE] = 0
    noise = 255 * (y - clean)
    noise_level = noise.square().mean((1, 2, 3)).sqrt()
    spectrum = full_spectrum(noise_spectrum(noise) + SPECTRUM_FLOOR)
    return Pairs(x, y, kernel, noise_level, scale, spectrum / spectrum.mean((-2, -1), keepdim=True), jpeg_step)


class Replay:
    """Ring buffer of the last `REPLAY_SIZE` examples. An example consists of one row of each tensor."""

    def __init__(self) -> None:
        self.rows: list[Tensor] = []
        self.added = 0

    def add(self, *new: Tensor) -> None:
        """Replace the oldest examples by new ones, (B, ...) of each tensor. Number and order of tensors are fixed."""
        if not self.rows:
            self.rows = [part.new_empty((REPLAY_SIZE, *part.shape[1:])) for part in new]
        # Accelerate loads checkpoints onto the CPU.
        self.rows = [rows.to(part.device) for rows, part in zip(self.rows, new, strict=True)]
        places = (self.added + torch.arange(len(new[0]))) % REPLAY_SIZE
        for rows, part in zip(self.rows, new, strict=True):
            rows[places.to(rows.device)] = part.detach()
        self.added += len(new[0])

    def draw(self, count: int, generator: torch.Generator) -> list[Tensor]:
        """Random stored examples, (count, ...) of each tensor."""
        places = torch.randint(min(self.added, REPLAY_SIZE), (count,), generator=generator)
        return [rows[places.to(rows.device)] for rows in self.rows]

    def state_dict(self) -> dict[str, Any]:
        """The content, for a checkpoint."""
        return {"rows": self.rows, "added": self.added}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the content from a checkpoint."""
        self.rows, self.added = state["rows"], state["added"]
