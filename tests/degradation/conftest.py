"""Independent numpy models of blur and resampling, for comparison with the package's."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
import skimage.data
import torch
from safetensors.torch import load_file
from torch import Tensor

Matrix = npt.NDArray[np.float64]


@pytest.fixture(scope="session")
def recorded() -> dict[str, Tensor]:
    """The recorded tensors of the published code."""
    path = Path(__file__).parents[3] / "shared" / "reference" / "official_outputs.safetensors"
    if not path.is_file():
        pytest.skip("the recorded tensors of the published code (../shared/reference) are not on this machine")
    return load_file(path)


@pytest.fixture(scope="session")
def photograph() -> Tensor:
    """A natural image, (1, 3, 300, 448), float64 in [0, 1]."""
    pixels = skimage.data.cat()[:, :448]  # type: ignore[no-untyped-call]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].double() / 255


def cubic(u: Matrix) -> Matrix:
    """Keys' kernel with a = -1/2, written as in his paper."""
    u = np.abs(u)
    inner = (u <= 1) * (1.5 * u**3 - 2.5 * u**2 + 1)
    outer = ((u > 1) & (u <= 2)) * (-0.5 * u**3 + 2.5 * u**2 - 4 * u + 2)
    return inner + outer


def imresize_matrix(length: int, target: int, border: str = "symmetric") -> Matrix:
    """Weights (target, length) of MATLAB's imresize along one axis, following its function `contributions`.

    Output sample i (from 1) lies at u = i / scale + (1 - 1 / scale) / 2 of the input; the kernel is stretched by
    1 / scale for reduction; weights are normalised; indices beyond the border are folded back.
    """
    scale = target / length
    width = 4 / min(scale, 1)
    u = np.arange(1, target + 1) / scale + 0.5 * (1 - 1 / scale)
    left = np.floor(u - width / 2)
    indices = left[:, None] + np.arange(int(np.ceil(width)) + 2)
    distance = u[:, None] - indices
    weights = scale * cubic(scale * distance) if scale < 1 else cubic(distance)
    weights /= weights.sum(1, keepdims=True)
    period = np.arange(length)
    if border == "symmetric":
        period = np.concatenate([period, period[::-1]])
    places = period[(indices.astype(int) - 1) % len(period)]
    matrix = np.zeros((target, length))
    np.add.at(matrix, (np.arange(target)[:, None], places), weights)
    return matrix


@pytest.fixture(scope="session")
def imresize() -> Callable[..., Matrix]:
    """See `imresize_matrix`."""
    return imresize_matrix


def _thinning_matrix(length: int, scale: int, offset: int | None, border: str) -> Matrix:
    if offset is not None:
        return np.eye(length)[offset::scale]
    if scale == 1:
        return np.eye(length)
    return imresize_matrix(length, length // scale, "symmetric" if border == "reflect" else "circular")


def degradation_matrix(kernel: Tensor, size: tuple[int, int], scale: int, offset: int | None, boundary: str) -> Matrix:
    """The matrix of x -> (x (*) kernel) down_scale for HR images of (height, width), built from unit images.

    offset None: bicubic; else decimation. scipy's modes `mirror` and `wrap` are the package's reflect and circular.
    """
    height, width = size
    units = np.eye(height * width).reshape(-1, height, width)
    mode = {"reflect": "mirror", "circular": "wrap"}[boundary]
    blurred = scipy.ndimage.convolve(units, kernel.double().numpy()[None], mode=mode)
    rows = _thinning_matrix(height, scale, offset, boundary)
    columns = _thinning_matrix(width, scale, offset, boundary)
    matrix: Matrix = (rows @ blurred @ columns.T).reshape(height * width, -1).T
    return matrix


@pytest.fixture(scope="session")
def dense() -> Callable[..., Matrix]:
    """See `degradation_matrix`."""
    return degradation_matrix


@pytest.fixture
def generator() -> torch.Generator:
    """Seeded random numbers."""
    return torch.Generator().manual_seed(0)
