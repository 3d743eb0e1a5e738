"""Kernel pictures, comparison sheets, and the sample photographs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import blinddiff
from blinddiff.errors import KernelError, ParameterError
from blinddiff.imaging import SheetFacts, comparison_sheet, kernel_picture, read_image, spectrum_picture, to_picture
from blinddiff.imaging.drawing import heat_colours

FACTS = SheetFacts(
    scale=4,
    noise_level=2.1,
    noise_kind="grain",
    residual_rms=1.9,
    kernel_widths=(3.0, 1.8),
    kernel_angle=40.0,
    mtf50="0.21 across, 0.20 down",
    seconds=3.2,
)
SAMPLES = Path(blinddiff.__file__).parent / "samples"


def test_kernel_picture_shows_each_entry_as_a_block():
    kernel = torch.tensor([[0.0, 0.1, 0.0], [0.2, 0.4, 0.0]])
    picture = np.asarray(kernel_picture(kernel, side=30))
    assert picture.shape == (20, 30, 3)
    np.testing.assert_array_equal(picture[5::10, 5::10], heat_colours((kernel / 0.4).double().numpy()))
    assert len(np.unique(picture[10:20, 10:20].reshape(-1, 3), axis=0)) == 1


def test_heat_rises_in_lightness_and_starts_dark():
    ramp = kernel_picture(torch.arange(64.0).reshape(1, 64), side=64)
    lightness = np.asarray(ramp.convert("L")).astype(int)[0]
    assert (np.diff(lightness) >= 0).all()
    assert lightness[0] < 20
    assert lightness[-1] > 230


def test_spectrum_picture_has_frequency_0_in_the_centre_and_white_noise_in_the_middle_colour():
    spectrum = torch.ones(16, 16)
    spectrum[0, 0], spectrum[3, 0], spectrum[-3, 0] = 100.0, 0.01, 1e-9
    picture = np.asarray(spectrum_picture(spectrum, side=160))
    assert picture.shape == (160, 160, 3)
    blocks = picture[5::10, 5::10]
    light, dark, white = heat_colours(np.array([[1.0, 0.0, 0.5]]))[0]
    np.testing.assert_array_equal(blocks[8, 8], light)
    for row in (5, 11):
        np.testing.assert_array_equal(blocks[row, 8], dark)
    blocks = np.delete(blocks.reshape(256, 3), [8 * 16 + 8, 5 * 16 + 8, 11 * 16 + 8], axis=0)
    np.testing.assert_array_equal(blocks, np.broadcast_to(white, blocks.shape))


@pytest.mark.parametrize(
    "kernel",
    [torch.zeros(3, 3), torch.rand(1, 3, 3), -torch.eye(3), torch.full((3, 3), float("nan")), torch.rand(0, 3)],
)
def test_kernel_picture_refuses(kernel):
    with pytest.raises(KernelError, match="kernel"):
        kernel_picture(kernel)


def example(h=24, w=40, scale=4):
    generator = torch.Generator().manual_seed(3)
    low = torch.rand(3, h, w, generator=generator)
    bicubic = low.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    residual = torch.randn(3, h, w, generator=generator) * 2 / 255
    return low, bicubic, bicubic.clone(), residual


def region(sheet, box):
    return np.asarray(sheet.crop(box)).astype(int)


def test_sheet_magnifies_the_place_that_changed_most():
    low, bicubic, result, residual = example()
    low, bicubic, result = low * 0 + 0.5, bicubic * 0 + 0.5, result * 0 + 0.5
    result[:, 60:64, 120:124] = torch.tensor([1.0, 0.0, 1.0])[:, None, None]
    sheet = comparison_sheet(low, bicubic, result, torch.rand(9, 9), None, residual * 0, FACTS)
    magenta = (np.asarray(sheet) == (255, 0, 255)).all(axis=-1)
    zoom = round(560 / (0.22 * 160))
    # in the magnified row: whole blocks, 4 x 4 pixels
    assert (4 * zoom) ** 2 <= magenta.sum() <= (4 * zoom) ** 2 + 400
    columns = np.flatnonzero(magenta.any(axis=0))
    assert columns.min() > sheet.width * 2 / 3 - 40  # only in the result's column


def test_sheet_changes_with_everything_that_it_shows():
    low, bicubic, result, residual = example()
    kernel = torch.eye(15) / 15

    def bytes_of(**changes):
        arguments = {
            "low": low,
            "bicubic": bicubic,
            "result": result,
            "kernel": kernel,
            "noise_spectrum": torch.ones(16, 16),
            "residual": residual,
            "facts": FACTS,
            **changes,
        }
        return comparison_sheet(**arguments).tobytes()

    base = bytes_of()
    assert bytes_of() == base
    changed = {
        "low": 1 - low,
        "bicubic": 1 - bicubic,
        "result": 1 - result,
        "kernel": kernel.flip(0),
        "noise_spectrum": torch.rand(16, 16),
        "residual": -residual,
        "title": "another",
    }
    for name, value in changed.items():
        assert bytes_of(**{name: value}) != base, name
    changed = {
        "noise_level": 9.0,
        "noise_kind": "none",
        "residual_rms": 9.0,
        "kernel_angle": 9.0,
        "mtf50": "",
        "seconds": 9.0,
    }
    for name, value in changed.items():
        facts = SheetFacts(**{**vars(FACTS), name: value})
        assert bytes_of(facts=facts) != base, name


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 900), (700, 2), (3, 5), (160, 120)])
@pytest.mark.parametrize("scale", [1, 3])
def test_sheet_takes_any_shape(h, w, scale):
    low, bicubic, result, residual = example(h, w, scale)
    sheet = comparison_sheet(
        low, bicubic, result, torch.rand(31, 21), torch.rand(16, 16), residual, FACTS, title="図 Übung.jpg"
    )
    assert sheet.mode == "RGB"
    assert 900 < sheet.width < 2000
    assert sheet.height < 1600


def test_sheet_refuses_shapes_that_do_not_belong_together():
    low, bicubic, result, residual = example()
    with pytest.raises(ParameterError, match="residual"):
        comparison_sheet(low, bicubic, result, torch.rand(9, 9), None, residual[:, 1:], FACTS)
    with pytest.raises(ParameterError, match="bicubic"):
        comparison_sheet(low, bicubic[..., 1:], result, torch.rand(9, 9), None, residual, FACTS)


def test_samples_are_small_photographs_and_their_originals_are_held_out():
    names = sorted(path.name for path in SAMPLES.glob("*.jpg"))
    assert len(names) == 2
    sources = (SAMPLES / "SOURCES.md").read_text()
    for name in names:
        photograph = read_image(SAMPLES / name)
        assert max(photograph.pixels.shape) <= 320
        assert f"`{name}`" in sources
    held_out = (SAMPLES / "held_out.txt").read_text().splitlines()
    assert sorted(Path(line).name.split("-")[0] + ".jpg" for line in held_out) == names


def test_to_picture_shares_no_memory():
    pixels = torch.zeros(3, 2, 2)
    picture = to_picture(pixels)
    pixels += 1
    assert picture.getpixel((0, 0)) == (0, 0, 0)
    assert isinstance(picture, Image.Image)
