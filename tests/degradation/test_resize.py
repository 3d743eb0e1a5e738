"""Bicubic resampling, against MATLAB's definition, the recorded tensors and Pillow."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from blinddiff.degradation import bicubic_downsample, bicubic_upsample
from blinddiff.errors import ParameterError

Matrices = Callable[..., np.ndarray]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_downsampling_is_the_recorded_one(recorded: dict[str, Tensor], scale: int) -> None:
    expected = recorded[f"resize.out_x{scale}"]
    torch.testing.assert_close(bicubic_downsample(recorded["resize.in"], scale), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [2, 3, 4, 5])
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (8, 2)])
def test_downsampling_is_imresize(imresize: Matrices, scale: int, size: tuple[int, int]) -> None:
    x = np.random.default_rng(0).random((2, 3, size[0] * scale, size[1] * scale))
    expected = imresize(x.shape[2], size[0]) @ x @ imresize(x.shape[3], size[1]).T
    np.testing.assert_allclose(bicubic_downsample(torch.from_numpy(x), scale).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (8, 2)])
def test_upsampling_is_imresize(imresize: Matrices, scale: int, size: tuple[int, int]) -> None:
    y = np.random.default_rng(0).random((2, 3, *size))
    expected = imresize(size[0], size[0] * scale) @ y @ imresize(size[1], size[1] * scale).T
    np.testing.assert_allclose(bicubic_upsample(torch.from_numpy(y), scale).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_pillow_agrees_away_from_the_border(photograph: Tensor, scale: int) -> None:
    x = photograph[0, 0, :144, :192].float()
    reduced, enlarged = (
        np.asarray(Image.fromarray(x.numpy()).resize((width, height), Image.Resampling.BICUBIC))
        for height, width in ((144 // scale, 192 // scale), (144 * scale, 192 * scale))
    )
    inner = (slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(bicubic_downsample(x[None, None], scale)[0, 0].numpy()[inner], reduced[inner], atol=1e-5)
    inner = (slice(3 * scale, -3 * scale),) * 2
    np.testing.assert_allclose(bicubic_upsample(x[None, None], scale)[0, 0].numpy()[inner], enlarged[inner], atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_upsampling_reproduces_a_parabola(scale: int) -> None:
    def parabola(i: Tensor) -> Tensor:
        return 0.02 * i**2 - 0.3 * i + 1

    small = parabola(torch.arange(20, dtype=torch.float64))
    places = (torch.arange(20 * scale, dtype=torch.float64) + 0.5) / scale - 0.5
    large = bicubic_upsample(small.expand(1, 1, 20, 20), scale)[0, 0, 10 * scale]
    inner = slice(2 * scale, -2 * scale)
    torch.testing.assert_close(large[inner], parabola(places)[inner], atol=1e-12, rtol=0)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constants_dtypes_and_leading_axes_are_kept(scale: int, dtype: torch.dtype) -> None:
    x = torch.full((2, 5, 3, 6 * scale, 4 * scale), 0.3, dtype=dtype)
    y = bicubic_downsample(x, scale)
    torch.testing.assert_close(y, torch.full((2, 5, 3, 6, 4), 0.3, dtype=dtype))
    torch.testing.assert_close(bicubic_upsample(y, scale), x)


def test_scale_1_is_the_identity(generator: torch.Generator) -> None:
    x = torch.rand(1, 3, 5, 4, generator=generator)
    assert torch.equal(bicubic_downsample(x, 1), x)
    assert torch.equal(bicubic_upsample(x, 1), x)


def test_sides_have_to_be_multiples() -> None:
    with pytest.raises(ParameterError, match="10x9 cannot be reduced by 3"):
        bicubic_downsample(torch.zeros(1, 3, 9, 10), 3)
