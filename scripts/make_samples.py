"""Make the two low-resolution sample photographs of the demo from their public originals.

    python scripts/make_samples.py PHOTOGRAPHS [-o src/blinddiff/samples]

PHOTOGRAPHS is a folder that holds the originals under the names of `held_out.txt` (see `SOURCES.md` beside it).

The samples are to be what a small camera would have given, and nothing here is shared with the package: the lens
blurs light, not pixel values, so blur and reduction work on linear light; the sensor adds shot and read noise; the
camera's own JPEG engine comes last. The blurs below are known to this script only.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

REDUCTION = 3  # original pixels to one sample pixel, along each side
FULL_WELL = 6000.0  # photo-electrons at white: a small sensor in good light
READ_NOISE = 8.0  # electrons
JPEG_QUALITY = 92

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shot:
    """One sample: which part of which photograph (left, top, right, bottom), through which lens blur."""

    source: str
    name: str
    box: tuple[int, int, int, int]
    blur: tuple[float, float]  # standard deviations along and across `angle`, in original pixels
    angle: float  # degrees, counter-clockwise from the horizontal
    seed: int


SHOTS = (
    Shot("gb82/flowers-lossless.webp", "flowers.jpg", (0, 60, 576, 492), (1.35, 1.2), 0.0, 1),
    Shot("gb82/guitar-lossless.webp", "guitar.jpg", (72, 0, 504, 576), (1.7, 1.0), 40.0, 2),
)


def to_linear(v: Array) -> Array:
    """Undo the sRGB transfer curve; values in [0, 1]."""
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def to_srgb(v: Array) -> Array:
    """Apply the sRGB transfer curve; values in [0, 1]."""
    v = v.clip(0, 1)
    return np.where(v <= 0.0031308, v * 12.92, 1.055 * v ** (1 / 2.4) - 0.055)


def lens_kernel(blur: tuple[float, float], angle: float) -> Array:
    """Return an anisotropic Gaussian of odd side, sum 1."""
    radius = int(np.ceil(4 * max(blur)))
    row, column = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    theta = np.deg2rad(angle)
    along = column * np.cos(theta) - row * np.sin(theta)
    across = column * np.sin(theta) + row * np.cos(theta)
    kernel = np.exp(-0.5 * ((along / blur[0]) ** 2 + (across / blur[1]) ** 2))
    return np.asarray(kernel / kernel.sum())


def photograph(scene: Array, shot: Shot) -> Array:
    """Return what the small camera records of `scene`: both (H, W, 3), sRGB values in [0, 1]."""
    light = to_linear(scene)
    kernel = lens_kernel(shot.blur, shot.angle)
    light = np.stack([ndimage.convolve(light[..., c], kernel, mode="mirror") for c in range(3)], axis=-1)
    left, top, right, bottom = shot.box
    light = light[top:bottom, left:right]
    h, w = light.shape[0] // REDUCTION, light.shape[1] // REDUCTION
    light = light[: h * REDUCTION, : w * REDUCTION].reshape(h, REDUCTION, w, REDUCTION, 3).mean(axis=(1, 3))
    rng = np.random.default_rng(shot.seed)
    electrons = rng.poisson(light * FULL_WELL) + rng.normal(0, READ_NOISE, light.shape)
    return to_srgb(electrons / FULL_WELL)


def main() -> None:
    """Write every sample and `held_out.txt`, the list of photographs that training must not see."""
    parser = argparse.ArgumentParser(description="Make the demo's sample photographs from their originals.")
    parser.add_argument("photographs", type=Path, help="folder with the originals")
    parser.add_argument("-o", "--output", type=Path, default=Path("src/blinddiff/samples"), help="where to write")
    arguments = parser.parse_args()
    for shot in SHOTS:
        with Image.open(arguments.photographs / shot.source) as opened:
            scene = np.asarray(opened.convert("RGB"), dtype=np.float64) / 255
        pixels = (photograph(scene, shot) * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(arguments.output / shot.name, quality=JPEG_QUALITY)
        print(f"{arguments.output / shot.name}: {pixels.shape[1]}x{pixels.shape[0]}")
    (arguments.output / "held_out.txt").write_text("".join(f"{shot.source}\n" for shot in SHOTS))


if __name__ == "__main__":
    main()
