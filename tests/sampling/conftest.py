"""Small photographs, and a model of the degradation that shares nothing with the package's."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
import skimage.data
from PIL import Image

Array: TypeAlias = npt.NDArray[np.float64]


@pytest.fixture(scope="session")
def sharp() -> Array:
    """Part of a photograph, (96, 80, 3) in [0, 1]."""
    return skimage.data.cat()[100:196, 120:200] / 255


@pytest.fixture(scope="session")
def photograph(sharp: Array) -> npt.NDArray[np.uint8]:
    """A small photograph without symmetry, (24, 20, 3), blurred as by a lens."""
    return (255 * scipy.ndimage.gaussian_filter(sharp, (2, 2, 0))[1::4, 2::4]).round().astype(np.uint8)


@pytest.fixture(scope="session")
def motion() -> Array:
    """A motion blur along a slanted line, (17, 9), off its centre."""
    kernel = np.zeros((17, 9))
    for step in np.linspace(0, 1, 200):
        kernel[round(1 + 14 * step), round(2 + 5 * step)] += 1 + step
    return kernel / kernel.sum()


@pytest.fixture(scope="session")
def degraded() -> Callable[[Array, Array, int], Array]:
    """scipy's convolution, then Pillow's antialiased bicubic, which treats only the border (4 px) otherwise."""

    def degraded(x: Array, kernel: Array, scale: int) -> Array:
        blurred = scipy.ndimage.convolve(x, np.asarray(kernel, float)[..., None], mode="mirror")
        size = x.shape[1] // scale, x.shape[0] // scale
        planes = [Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(blurred, -1, 0)]
        return np.stack([np.asarray(p.resize(size, Image.Resampling.BICUBIC), float) for p in planes], -1)

    return degraded
