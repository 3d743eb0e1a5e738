"""Transparency and settings of one photograph."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from blinddiff.errors import ImageError, KernelError
from blinddiff.imaging import encode_image, read_image
from blinddiff.restoring.photograph import UpscaleSettings, upscale_alpha, upscale_photograph


def photograph_of(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return read_image(buffer.getvalue())


@pytest.fixture
def cut_out():
    """A red disc on nothing; RGBA, and what is hidden may be chosen."""

    def make(hidden):
        row, column = np.mgrid[0:40, 0:40]
        inside = np.hypot(row - 19.5, column - 19.5) < 12
        array = np.empty((40, 40, 4), np.uint8)
        array[...] = (*hidden, 0)
        array[inside] = (200, 30, 40, 255)
        return photograph_of(array)

    return make


def test_hidden_colours_do_not_bleed(tiny_pipeline, cut_out):
    settings = UpscaleSettings(scale=2)
    black, green = (upscale_photograph(tiny_pipeline, cut_out(hidden), settings) for hidden in ((0, 0, 0), (0, 255, 0)))
    assert torch.equal(black.pixels, green.pixels)
    assert torch.equal(black.alpha, green.alpha)
    # All that is visible is red: the network saw one colour everywhere.
    one_colour = upscale_photograph(
        tiny_pipeline, photograph_of(np.full((40, 40, 3), (200, 30, 40), np.uint8)), settings
    )
    assert (black.pixels - one_colour.pixels).abs().max() < 1e-4


def test_transparency_has_clean_edges():
    alpha = torch.zeros(1, 20, 20)
    alpha[:, 6:14, 6:14] = 1
    for scale in (1, 2, 3, 4):
        large = upscale_alpha(alpha, scale)
        assert large.shape == (1, 20 * scale, 20 * scale)
        assert large.min() == 0
        assert large.max() == 1
        row = large[0, 10 * scale]
        half = len(row) // 2
        assert (row[:half].diff() >= 0).all()  # rises once: no outline beside the edge
        assert (row[half:].diff() <= 0).all()
        assert row[: 4 * scale].max() == 0
    half_visible = torch.full((1, 9, 9), 0.5)
    torch.testing.assert_close(upscale_alpha(half_visible, 3), torch.full((1, 27, 27), 0.5))


def test_overshoot_would_be_there_without_the_bounds():
    from blinddiff.degradation import bicubic_upsample

    alpha = torch.full((1, 16, 16), 0.25)
    alpha[..., 8:] = 0.75
    bicubic = bicubic_upsample(alpha, 4)
    assert bicubic.min() < 0.24
    assert bicubic.max() > 0.76
    bounded = upscale_alpha(alpha, 4)
    assert (bounded.min(), bounded.max()) == (0.25, 0.75)


def test_everything_together_is_written(tiny_pipeline, cut_out):
    photograph = cut_out((9, 9, 9))
    upscaled = upscale_photograph(tiny_pipeline, photograph, UpscaleSettings(scale=3))
    written = Image.open(io.BytesIO(encode_image("a.png", upscaled.pixels, photograph, upscaled.alpha)))
    assert (written.mode, written.size) == ("RGBA", (120, 120))
    assert np.asarray(written)[60, 60, 3] == 255
    assert np.asarray(written)[0, 0, 3] == 0


def test_results_depend_on_the_settings_alone(tiny_pipeline):
    photograph = photograph_of(np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8))

    def result(**settings):
        return upscale_photograph(tiny_pipeline, photograph, UpscaleSettings(scale=2, **settings)).pixels

    first = result(seed=3)
    result(seed=4)
    assert torch.equal(result(seed=3), first)


def test_errors_name_what_is_wrong(tiny_pipeline, tmp_path):
    small = photograph_of(np.zeros((4, 30, 3), np.uint8))
    with pytest.raises(ImageError, match="30x4 px is too small"):
        upscale_photograph(tiny_pipeline, small, UpscaleSettings())
    photograph = photograph_of(np.zeros((10, 10, 3), np.uint8))
    settings = UpscaleSettings(scale=2, kernel=tmp_path / "k.csv")
    with pytest.raises(KernelError, match=r"k\.csv: a kernel of 99x99 is larger"):
        upscale_photograph(tiny_pipeline, photograph, settings, torch.full((99, 99), 1 / 99**2))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    ],
)
def test_lack_of_memory_is_said(error):
    def pipeline(*_, **__):
        raise error

    photograph = photograph_of(np.zeros((10, 12, 3), np.uint8))
    with pytest.raises(ImageError, match="12 x 10 pixels times 4 do not fit the memory"):
        upscale_photograph(pipeline, photograph, UpscaleSettings())


def test_other_errors_are_not_taken_for_it():
    def pipeline(*_, **__):
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="a fault of ours"):
        upscale_photograph(pipeline, photograph_of(np.zeros((10, 12, 3), np.uint8)), UpscaleSettings())
