"""The blur by region, with the weights of the package, on a photograph blurred more on the right than on the left."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import skimage.data
import torch
from PIL import Image

from blinddiff.cli import main as cli
from blinddiff.degradation import Observation, bicubic_downsample
from blinddiff.errors import ParameterError
from blinddiff.imaging import kernel_map_picture
from blinddiff.sampling import restoration
from blinddiff.sampling.output import MAX_REGIONS, REGION, estimate_kernel_map
from blinddiff.sampling.pipeline import BlindDiffPipeline
from blinddiff.sampling.wrappers import MIN_SIDE, Tiles

LEFT, RIGHT = 1.0, 2.6


@pytest.fixture(scope="module")
def uneven():
    """(3, 208, 256), of a result twice as large."""
    sharp = skimage.data.astronaut()[60:476] / 255
    halves = [scipy.ndimage.gaussian_filter(sharp, (s, s, 0)) for s in (LEFT, RIGHT)]
    blurred = np.concatenate([halves[0][:, :256], halves[1][:, 256:]], 1)
    y = bicubic_downsample(torch.from_numpy(blurred).permute(2, 0, 1), 2)
    return ((y.clamp(0, 1) * 255).round() / 255).float()


def test_the_map_shows_where_the_blur_is_wider(uneven):
    found = BlindDiffPipeline.from_pretrained(device="cpu").kernel_map(uneven, scale=2)
    assert found.kernels.shape == (2, 2, 31, 31)
    assert torch.allclose(found.kernels.sum((2, 3)), torch.ones(2, 2), atol=1e-5)
    widths = np.array(found.facts()["widths"])[..., 0]
    assert np.abs(widths[:, 0] - LEFT).max() < 0.6
    assert np.abs(widths[:, 1] - RIGHT).max() < 0.6
    assert float(found.contrasts[:, 0].min()) > float(found.contrasts[:, 1].max())


def test_each_region_is_estimated_on_its_own(tiny_pipeline, uneven):
    found = tiny_pipeline.kernel_map(uneven, scale=2)
    corner = tiny_pipeline.estimate(uneven[:, 104:, :128], 2)
    assert torch.allclose(found.kernels[1, 0], corner.kernel[0], atol=1e-6)
    assert torch.allclose(found.noise_levels[1, 0], corner.noise_level[0])
    y = torch.rand(1, 3, REGION - 1, REGION * (MAX_REGIONS + 2))
    many = estimate_kernel_map(tiny_pipeline.network, Observation(y, 2))
    assert many.kernels.shape[:2] == (1, MAX_REGIONS)
    with pytest.raises(ParameterError, match="2 images"):
        tiny_pipeline.kernel_map(torch.rand(2, 3, 20, 20), scale=2)


def test_the_picture_has_each_kernel_in_its_place():
    kernels = torch.zeros(2, 3, 5, 5)
    for row in range(2):
        for column in range(3):
            kernels[row, column, row, column] = 1
    picture = np.asarray(kernel_map_picture(kernels, 20).convert("L"))
    assert picture.shape == (42, 64)
    for row in range(2):
        for column in range(3):
            cell = picture[row * 22 : row * 22 + 20, column * 22 : column * 22 + 20]
            assert np.unravel_index(cell.argmax(), cell.shape) == (row * 4, column * 4)


def test_each_tile_is_restored_with_its_own_estimate(tiny_pipeline, uneven):
    settings = {"scale": 2, "mode": "fast", "kernel_step": "first", "output_type": "pt"}
    generator = torch.Generator()
    out = tiny_pipeline(uneven, kernel_map=True, generator=generator.manual_seed(0), **settings)
    found = out.kernel_map
    assert found.kernels.shape == (2, 3, 31, 31)
    corner = tiny_pipeline.estimate(uneven[:, :160, :160], 2)
    assert torch.allclose(found.kernels[0, 0], corner.kernel[0], atol=1e-6)
    assert torch.allclose(found.noise_levels[0, 0], corner.noise_level[0])
    assert not torch.allclose(found.kernels[0, 0], found.kernels[1, 2], atol=1e-4)
    assert torch.allclose(out.kernels.sum((1, 2)), torch.ones(1), atol=1e-5)
    assert found.kernels.amin((0, 1)).sub(1e-6).le(out.kernels[0]).all()  # a mean of them
    assert found.kernels.amax((0, 1)).add(1e-6).ge(out.kernels[0]).all()


def test_with_equal_kernels_it_is_the_restoration_in_tiles(tiny_pipeline, uneven, monkeypatch):
    estimate = tiny_pipeline.estimate(uneven, 2)
    monkeypatch.setattr(type(tiny_pipeline.network), "initial_estimate", lambda *_: estimate)
    settings = {"scale": 2, "mode": "fidelity", "kernel_step": "first", "output_type": "pt", "as_is": True}
    outs = []
    for local in (True, False):
        monkeypatch.setattr(
            restoration,
            "plan_tiles",
            lambda y, scale, network, *_, local=local: Tiles(y, scale, network.size_multiple, MIN_SIDE, local=local),
        )
        outs.append(tiny_pipeline(uneven, generator=torch.Generator().manual_seed(0), kernel_map=local, **settings))
    for name in ("images", "kernels", "noise_levels"):
        assert torch.allclose(getattr(outs[0], name), getattr(outs[1], name), atol=1e-5), name
    # The residual of the tiles is blended, that of the whole is not.
    difference = outs[0].residuals - outs[1].residuals
    assert float(difference.square().mean().sqrt()) < 0.05


def test_what_it_does_not_go_with(tiny_pipeline):
    image = torch.rand(1, 3, 20, 20)
    for images, given, said in (
        (image, {"kernel": torch.ones(1, 1)}, "a given kernel"),
        (image, {"mask": torch.eye(20)}, "a mask"),
        (image.repeat(2, 1, 1, 1), {}, "a batch"),
    ):
        with pytest.raises(ParameterError, match=f"kernel_map: is not possible with {said}"):
            tiny_pipeline(images, kernel_map=True, **given)


def through_a_lens(sharp, centre=0.8, corner=2.5, count=24):
    """(h, w, 3) blurred by a Gaussian whose width grows with the square of the distance from the centre."""
    rows, columns = (np.linspace(-1, 1, side) for side in sharp.shape[:2])
    position = (rows[:, None] ** 2 + columns**2) / 2 * (count - 1)
    blurred = np.zeros_like(sharp)
    for index, sigma in enumerate(np.linspace(centre, corner, count)):
        weight = (1 - np.abs(position - index)).clip(0)
        blurred += weight[..., None] * scipy.ndimage.gaussian_filter(sharp, (sigma, sigma, 0))
    return blurred


@pytest.mark.long
@pytest.mark.skipif("BLINDDIFF_DATA" not in os.environ, reason="needs Urban100")
def test_a_lens_that_is_sharp_in_the_centre_only():
    picture = Image.open(Path(os.environ["BLINDDIFF_DATA"]) / "Urban100" / "img_024.webp").convert("RGB")
    sharp = np.asarray(picture, float)[100:552, 160:800] / 255
    blurred = torch.from_numpy(through_a_lens(sharp)).permute(2, 0, 1)[None].float()
    noise = torch.randn(blurred.shape, generator=torch.Generator().manual_seed(0))
    y = (255 * blurred + 0.5 * noise).round().clamp(0, 255) / 255
    x = torch.from_numpy(sharp).permute(2, 0, 1)[None].float()
    pipeline = BlindDiffPipeline.from_pretrained(device="cpu")

    def psnr(kernel_map):
        generator = torch.Generator().manual_seed(0)
        out = pipeline(y, 1, "fast", kernel_map=kernel_map, generator=generator, output_type="pt")
        return -10 * float((out.images - x)[..., 16:-16, 16:-16].square().mean().log10())

    assert psnr(kernel_map=True) > psnr(kernel_map=False) + 1


def test_on_the_command_line(uneven, tiny_weights, tmp_path, capsys):
    Image.fromarray((uneven.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).save(tmp_path / "in.png")
    command = ["upscale", str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png"), "--weights", str(tiny_weights)]
    command += ["--device", "cpu", "--scale", "1", "--steps", "1"]
    picture, records = tmp_path / "map.png", tmp_path / "record.json"
    assert cli.main([*command, "--kernel-map", str(picture), "--json", str(records)]) == 0
    numbers = json.loads(records.read_text())["kernel_map"]
    assert np.array(numbers["widths"]).shape == (2, 3, 2)  # at scale 2, in tiles of 320 pixels
    assert np.array(numbers["noise_levels"]).shape == (2, 3)
    assert Image.open(picture).size == (376, 250)
    capsys.readouterr()
    for name in ("map.jpg", "in.png", "out.png", "no/folder.png"):
        assert cli.main([*command, "--kernel-map", str(tmp_path / name)]) == 2
        assert name in capsys.readouterr().err
