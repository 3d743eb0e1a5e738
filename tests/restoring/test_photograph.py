"""Result, settings, transparency and errors of one photograph."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blinddiff.degradation.sharpness import sharpness_of
from blinddiff.errors import ImageError, KernelError, ParameterError
from blinddiff.imaging import encode_image, read_image
from blinddiff.imaging.photograph import enlarge_in_range
from blinddiff.restoring.photograph import RestoreSettings, restore_photograph


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
    settings = RestoreSettings(scale=2)
    black, green = (restore_photograph(tiny_pipeline, cut_out(hidden), settings) for hidden in ((0, 0, 0), (0, 255, 0)))
    assert np.array_equal(black.pixels, green.pixels)
    assert np.array_equal(black.alpha, green.alpha)
    # All that is visible is red: the network saw one colour everywhere.
    one_colour = restore_photograph(
        tiny_pipeline, photograph_of(np.full((40, 40, 3), (200, 30, 40), np.uint8)), settings
    )
    assert np.abs(black.pixels - one_colour.pixels).max() < 1e-4


def test_transparency_has_clean_edges():
    alpha = np.zeros((1, 20, 20), np.float32)
    alpha[:, 6:14, 6:14] = 1
    for scale in (1, 2, 3, 4):
        large = enlarge_in_range(alpha, scale)
        assert large.shape == (1, 20 * scale, 20 * scale)
        assert large.min() == 0
        assert large.max() == 1
        row = large[0, 10 * scale]
        half = len(row) // 2
        assert (np.diff(row[:half]) >= 0).all()  # rises once: no outline beside the edge
        assert (np.diff(row[half:]) <= 0).all()
        assert row[: 4 * scale].max() == 0
    half_visible = np.full((1, 9, 9), 0.5, np.float32)
    np.testing.assert_allclose(enlarge_in_range(half_visible, 3), np.full((1, 27, 27), 0.5), atol=1e-6)


def test_overshoot_would_be_there_without_the_bounds():
    from blinddiff.degradation import bicubic_upsample

    alpha = np.full((1, 16, 16), 0.25, np.float32)
    alpha[..., 8:] = 0.75
    bicubic = bicubic_upsample(torch.from_numpy(alpha), 4)
    assert bicubic.min() < 0.24
    assert bicubic.max() > 0.76
    bounded = enlarge_in_range(alpha, 4)
    assert (bounded.min(), bounded.max()) == (0.25, 0.75)


def test_everything_together_is_written(tiny_pipeline, cut_out):
    photograph = cut_out((9, 9, 9))
    result = restore_photograph(tiny_pipeline, photograph, RestoreSettings(scale=3))
    written = Image.open(io.BytesIO(encode_image("a.png", result.pixels, photograph, result.alpha)))
    assert (written.mode, written.size) == ("RGBA", (120, 120))
    assert np.asarray(written)[60, 60, 3] == 255
    assert np.asarray(written)[0, 0, 3] == 0


def test_results_depend_on_the_settings_alone(tiny_pipeline):
    photograph = photograph_of(np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8))

    def result(**settings):
        return restore_photograph(tiny_pipeline, photograph, RestoreSettings(scale=2, **settings)).pixels

    first = result(seed=3)
    result(seed=4)
    assert np.array_equal(result(seed=3), first)


def test_errors_name_what_is_wrong(tiny_pipeline, tmp_path):
    small = photograph_of(np.zeros((4, 30, 3), np.uint8))
    with pytest.raises(ImageError, match="30x4 px is too small"):
        restore_photograph(tiny_pipeline, small, RestoreSettings())
    photograph = photograph_of(np.zeros((10, 10, 3), np.uint8))
    settings = RestoreSettings(scale=2, kernel=tmp_path / "k.csv")
    with pytest.raises(KernelError, match=r"k\.csv: a kernel of 99x99 is larger"):
        restore_photograph(tiny_pipeline, photograph, settings, np.full((99, 99), 1 / 99**2, np.float32))


def failing_with(error):
    class Engine:
        is_fixed = False

        def generator(self, seed):
            return None

        def __call__(self, *_, **__):
            raise error

    return Engine()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    ],
)
def test_lack_of_memory_is_said(error):
    photograph = photograph_of(np.zeros((10, 12, 3), np.uint8))
    with pytest.raises(ImageError, match="12 x 10 pixels at scale 4 do not fit into memory"):
        restore_photograph(failing_with(error), photograph, RestoreSettings())


def test_other_errors_are_not_taken_for_it():
    pipeline = failing_with(RuntimeError("a fault of ours"))
    with pytest.raises(RuntimeError, match="a fault of ours"):
        restore_photograph(pipeline, photograph_of(np.zeros((10, 12, 3), np.uint8)), RestoreSettings())


def test_fingerprints_of_earlier_ledgers_stay_valid(tmp_path, monkeypatch):
    monkeypatch.setattr("blinddiff.restoring.photograph.__version__", "0.1.0")
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / "config.json").write_text('{"dim": 8}\n')
    (tmp_path / "k.csv").write_text("1\n")
    settings = RestoreSettings(
        str(tmp_path), "cpu", 2, "fast", steps=3, seed=5, kernel=tmp_path / "k.csv", noise_level=2.5, max_memory=5
    )
    assert settings.fingerprint() == "11082373320d6d044f2c0224286edbe5bf9ba406693dbce5413cd3466f254692"
    default = RestoreSettings(weights="owner/name").fingerprint()
    assert default == "603e38011414756a5f5f3e446e402b604d3ad05fdd1425780d413fa6d407f5d6"
    assert RestoreSettings(weights="owner/name", samples=2).fingerprint() != default
    assert RestoreSettings(weights="owner/name", dpi="keep").fingerprint() != default
    with pytest.raises(ParameterError, match="dpi 'no' is not one of scale, keep"):
        RestoreSettings(dpi="no")


def test_samples_and_steps(tiny_pipeline):
    photograph = photograph_of(np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8))
    seen = []
    settings = RestoreSettings(scale=2, mode="perceptual", steps=3, samples=2)
    result = restore_photograph(
        tiny_pipeline, photograph, settings, on_step=lambda done, x0_hat: seen.append((done, x0_hat.shape))
    )
    assert seen == [(done, (2, 3, 32, 40)) for done in (1, 2, 3)]
    assert (result.std.shape, result.residual.shape) == ((3, 32, 40), (3, 16, 20))
    assert result.uncertainty == pytest.approx(255 * float(np.sqrt(np.square(result.std).mean())))
    facts = result.facts(Path("out.png"))
    assert (facts["width"], facts["height"], facts["mode"], facts["written_bit_depth"]) == (40, 32, "RGB", 8)
    assert facts["residual_rms"] == result.residual_rms
    assert facts["mtf50"] == pytest.approx(sharpness_of(result.kernel, 2).mtf50, abs=1e-4)
    assert (facts["sharpened"], facts["noise_kind"]) == (False, result.kind_of_noise)
    assert np.mean(facts["noise_spectrum"]) == pytest.approx(1, abs=1e-3)
    one = restore_photograph(tiny_pipeline, photograph, RestoreSettings(scale=2))
    assert (one.std, one.uncertainty) == (None, None)
