"""Sizes between the scales, and above them: passes, reduction, progress."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from blinddiff.errors import ParameterError
from blinddiff.imaging import read_image, reduce_image
from blinddiff.restoring.photograph import RestoreSettings, restore_photograph


@pytest.fixture
def photograph():
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((20, 16), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return read_image(buffer.getvalue())


@pytest.mark.parametrize(
    ("settings", "passes", "size"),
    [
        ({"scale": 2}, (2,), (200, 400)),
        ({"scale": 2.0}, (2,), (200, 400)),
        ({"scale": 1.5}, (2,), (150, 300)),
        ({"scale": 3.2}, (4,), (320, 640)),
        ({"scale": 5}, (3, 2), (500, 1000)),
        ({"scale": 6}, (3, 2), (600, 1200)),
        ({"scale": 7}, (4, 2), (700, 1400)),
        ({"scale": 8}, (4, 2), (800, 1600)),
        ({"width": 400}, (2,), (200, 400)),
        ({"height": 201}, (3,), (201, 402)),
        ({"width": 900, "height": 90}, (1,), (90, 180)),
        ({"longest": 1601}, None, None),
        ({"megapixels": 0.18}, (3,), (300, 600)),
    ],
)
def test_passes(tiny_pipeline, settings, passes, size):
    settings = RestoreSettings(**settings)
    if passes is None:
        with pytest.raises(ParameterError, match="at most 8 times"):
            settings.passes(100, 200, tiny_pipeline)
        return
    assert settings.passes(100, 200, tiny_pipeline) == passes
    assert settings.result_size(100, 200) == size


def test_settings_that_cannot_be():
    for wrong in ({"scale": 0.9}, {"scale": 8.1}, {"scale": float("nan")}, {"width": 0}, {"longest": 4, "width": 4}):
        with pytest.raises(ParameterError):
            RestoreSettings(**wrong)


def test_the_same_scale_has_one_fingerprint():
    settings = [RestoreSettings(weights="owner/name", scale=scale) for scale in (2, 2.0, 1.5)]
    prints = [each.fingerprint() for each in settings]
    assert prints[0] == prints[1] != prints[2]
    assert (
        RestoreSettings(weights="owner/name", longest=99).fingerprint() != RestoreSettings("owner/name").fingerprint()
    )


def test_fine_detail_keeps_its_mean_light():
    """A pattern of black and white pixels: half the light, 188 of 255 in sRGB, and not 128."""
    row, column = np.mgrid[0:64, 0:64]
    pattern = np.stack([(row + column) % 2] * 3).astype(np.float32)
    reduced = reduce_image(pattern, (32, 32))
    assert np.abs(255 * reduced[:, 4:-4, 4:-4] - 187.5).max() < 1


def test_reduction_is_that_of_pillow_in_linear_light():
    image = np.random.default_rng(0).random((3, 40, 60), np.float32)
    linear = ((image + 0.055) / 1.055) ** 2.4
    linear = np.where(image <= 0.04045, image / 12.92, linear).astype(np.float32)
    expected = [np.asarray(Image.fromarray(plane).resize((45, 25), Image.Resampling.BICUBIC)) for plane in linear]
    light = np.clip(expected, 0, 1)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(reduce_image(image, (25, 45)) - srgb).max() < 1e-4


def test_two_passes_are_two_calls(tiny_pipeline, photograph):
    result = restore_photograph(tiny_pipeline, photograph, RestoreSettings(scale=8, seed=3))
    generator = torch.Generator().manual_seed(3)
    first = tiny_pipeline(photograph.pixels, 4, generator=generator, output_type="pt")
    sharp = torch.ones(1, 1)  # the second pass does not deblur
    second = tiny_pipeline(first.images, 2, kernel=sharp, generator=generator, output_type="pt")
    assert np.abs(result.pixels - second.images[0].numpy()).max() < 1e-5
    assert np.array_equal(result.kernel, first.kernels[0])
    assert np.array_equal(result.residual, first.residuals[0])
    assert result.passes == (4, 2)


def test_samples_of_two_passes(tiny_pipeline, photograph):
    settings = RestoreSettings(scale=5, samples=2, mode="perceptual", steps=1)
    result = restore_photograph(tiny_pipeline, photograph, settings)
    assert result.pixels.shape == result.std.shape == (3, 80, 100)
    assert result.std.max() > 0


def test_progress_counts_tiles(tiny_pipeline):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    shares = []
    settings = RestoreSettings(scale=2, max_memory=1)
    restore_photograph(tiny_pipeline, read_image(buffer.getvalue()), settings, on_progress=shares.append)
    assert len(shares) > 2  # more than steps
    assert shares == pytest.approx(np.linspace(0, 1, len(shares) + 1)[1:])


def test_progress_of_two_passes_ends_at_one(tiny_pipeline, photograph):
    shares = []
    restore_photograph(tiny_pipeline, photograph, RestoreSettings(scale=8), on_progress=shares.append)
    assert shares == pytest.approx([0.1, 0.2, 0.6, 1.0])
