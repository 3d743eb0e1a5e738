"""Training photographs, decoded once and kept in memory as 8-bit arrays."""

import csv
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from blinddiff.errors import ImageError, RecipeError

Pixels = npt.NDArray[np.uint8]
LEAST_SIZE = 0.5
"""To what part of their size photographs are reduced at most."""
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


class ImagePool:
    """Photographs from folders and tile sheets, from which random crops are cut.

    Args:
        folders: each is searched for image files; one with a ``tiles.csv`` is read as tile sheets (256x256 tiles, the
            sheet, row, column and source image of each in the table).
        held_out: endings of the paths (or of the tiles' source images) that are left out.
        smallest: photographs with a shorter side are left out.

    Raises:
        RecipeError: a folder is missing, a table of tiles lacks a column or a number, or no photograph is left.
        ImageError: an image file cannot be read.
    """

    def __init__(self, folders: Sequence[str], held_out: Sequence[str], smallest: int) -> None:
        self.images: list[Pixels] = []
        for folder in map(Path, folders):
            if not os.path.isdir(folder):  # Path raises for what cannot be a name
                raise RecipeError(f"{folder}: no such folder of training photographs")
            if (folder / "tiles.csv").exists():
                self.images += _read_tiles(folder, held_out)
            else:
                paths = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in SUFFIXES]
                paths = [p for p in paths if not p.as_posix().endswith(tuple(held_out))]
                with ThreadPoolExecutor() as workers:
                    self.images += workers.map(_read, paths)
        self.images = [image for image in self.images if min(image.shape[:2]) >= smallest]
        if not self.images:
            raise RecipeError(f"no photograph of at least {smallest} px in {', '.join(folders)}")
        areas = np.array([image.shape[0] * image.shape[1] for image in self.images], dtype=np.float64)
        self._shares = areas / areas.sum()

    def crops(self, count: int, side: int, rng: np.random.Generator, reduced: float = 0.0) -> Pixels:
        """(count, 3, side, side) random crops, every pixel of the pool alike likely, turned and mirrored at random.

        A share ``reduced`` of them is cut from photographs made smaller, by a factor uniform from 1 to `LEAST_SIZE`'s
        inverse where the photograph is large enough: sharper than cameras resolve, with other sizes of the same things.
        """
        out = np.empty((count, 3, side, side), dtype=np.uint8)
        for slot, index in zip(out, rng.choice(len(self.images), count, p=self._shares), strict=True):
            image = self.images[index]
            wide = side
            if reduced and rng.random() < reduced:
                wide = round(side * rng.uniform(1, min(1 / LEAST_SIZE, min(image.shape[:2]) / side)))
            top, left = (int(rng.integers(n - wide + 1)) for n in image.shape[:2])
            crop = image[top : top + wide, left : left + wide]
            if wide > side:
                crop = np.asarray(Image.fromarray(crop).resize((side, side), Image.Resampling.BICUBIC))
            crop = np.rot90(crop, int(rng.integers(4)))
            slot[:] = (crop[::-1] if rng.random() < 0.5 else crop).transpose(2, 0, 1)
        return out


def _read(path: Path) -> Pixels:
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):  # Pillow would clip it to 255
                raise ValueError("grey of more than 8 bits")
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: cannot be read as a photograph: {error}") from error


def _read_tiles(folder: Path, held_out: Sequence[str], side: int = 256) -> list[Pixels]:
    path = folder / "tiles.csv"
    with path.open(newline="") as file:
        table = csv.DictReader(file, restval="")  # of a line cut short
        if missing := {"sheet", "row", "col", "source_image"} - set(table.fieldnames or ()):
            raise RecipeError(f"{path}: column {min(missing)!r} is missing")
        rows = [row for row in table if not row["source_image"].endswith(tuple(held_out))]
    sheets = {name: _read(folder / name) for name in sorted({row["sheet"] for row in rows})}
    tiles = []
    for row in rows:
        try:
            top, left = int(row["row"]) * side, int(row["col"]) * side
        except ValueError:
            raise RecipeError(f"{path}: row {row['row']!r}, col {row['col']!r}: should be numbers of tiles") from None
        tiles.append(sheets[row["sheet"]][top : top + side, left : left + side])
    return tiles
