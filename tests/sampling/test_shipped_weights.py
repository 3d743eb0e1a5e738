"""What the weights in the package have to do, on photographs that they were not trained on."""

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor

from blinddiff.degradation import DegradationOperator, Observation
from blinddiff.degradation.kernels import anisotropic_gaussian, isotropic_gaussian
from blinddiff.files import DEFAULT_WEIGHTS
from blinddiff.sampling.pipeline import BlindDiffPipeline

pytestmark = pytest.mark.skipif(
    not (DEFAULT_WEIGHTS / "network").is_dir(), reason="the weights that ship are not there"
)
SIDE = 192


@pytest.fixture(scope="module")
def pipe() -> BlindDiffPipeline:
    return BlindDiffPipeline.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def photographs() -> list[Tensor]:
    crops = (("astronaut", 0, 150), ("cat", 40, 130), ("coffee", 100, 200), ("rocket", 60, 220))
    found = []
    for name, top, left in crops:
        pixels = np.asarray(getattr(skimage.data, name)())[top : top + SIDE, left : left + SIDE]
        found.append(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255)
    return found


def degraded(x: Tensor, kernel: Tensor, scale: int) -> Tensor:
    return (DegradationOperator(kernel[None], scale)(x).clamp(0, 1) * 255).round() / 255


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b)[..., 4:-4, 4:-4].square().mean()))


def test_a_sharp_picture_is_left_alone_at_scale_1(pipe: BlindDiffPipeline, photographs: list[Tensor]) -> None:
    astronaut, _, coffee, rocket = photographs  # the cat is soft, and read as blurred
    for x in (astronaut, coffee, rocket):
        assert psnr(pipe(x, scale=1, output_type="pt").images, x) > 40


def test_the_true_kernel_is_never_worse_on_average(pipe: BlindDiffPipeline, photographs: list[Tensor]) -> None:
    gains = []
    for index, x in enumerate(photographs):
        for kernel in (isotropic_gaussian(2.4, 21), anisotropic_gaussian(3.5, 1.5, 0.5 + index, 21)):
            y = degraded(x, kernel, 4)
            given, blind = (pipe(y, scale=4, kernel=k, output_type="pt").images for k in (kernel, None))
            gains.append(psnr(given, x) - psnr(blind, x))
    assert sum(gains) / len(gains) >= 0


def test_it_says_when_a_kernel_cannot_be_known(pipe: BlindDiffPipeline, photographs: list[Tensor]) -> None:
    true = isotropic_gaussian(2.2, 31)
    y = torch.cat([degraded(x, true, 4) for x in photographs])
    tiles = y.unfold(2, 16, 16).unfold(3, 16, 16).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    sky = torch.tensor([0.45, 0.6, 0.8])[:, None, None] * torch.linspace(0.95, 1, 48)[:, None] * torch.ones(1, 1, 1, 48)
    noise = torch.randn(sky.shape, generator=torch.Generator().manual_seed(0)) / 255
    whole, small, flat = (pipe.expected_kernel_error(image, 4) for image in (y, tiles, sky + noise))
    assert whole.mean() < 0.4
    assert small.mean() > 1.5 * whole.mean()
    assert float(flat) > 0.7
    # Of pieces equally small, those are doubted whose kernel is missed.
    with torch.inference_mode():
        error = (pipe.network.initial_estimate(Observation(tiles, 4)).kernel - true).abs().sum((-2, -1))
    assert float(torch.corrcoef(torch.stack([small, error]))[0, 1]) > 0.6


def test_the_residual_tells_a_wrong_kernel(pipe: BlindDiffPipeline, photographs: list[Tensor]) -> None:
    true, wrong = isotropic_gaussian(1.8, 21), anisotropic_gaussian(5.0, 1.0, 0.8, 21)
    for x in photographs:
        y = degraded(x, true, 4)
        right, misled = (
            float(pipe(y, scale=4, kernel=kernel, noise_level=1.0, output_type="pt").consistency[0])
            for kernel in (true, wrong)
        )
        assert right < 1.3
        assert misled > 1.5 * right
