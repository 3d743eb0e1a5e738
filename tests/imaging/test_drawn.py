"""What is found around and over a photograph, and that nothing is found in photographs."""

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from blinddiff.imaging.drawn import Drawn, enlarge_alone, find_drawn
from blinddiff.imaging.photograph import enlarge


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    """Blurred, with some noise: (w, h) = (216, 144)."""
    picture = Image.fromarray(skimage.data.cat()[:288, :432]).resize((216, 144)).filter(ImageFilter.GaussianBlur(1.2))
    noise = np.random.default_rng(0).normal(0, 2, (144, 216, 3))
    return Image.fromarray((np.asarray(picture) * 0.8 + 20 + noise).round().astype(np.uint8))


def planes(picture):
    return np.moveaxis(np.asarray(picture, np.float32) / 255, -1, 0).copy()


def found(picture) -> Drawn:
    drawn = find_drawn(planes(picture))
    assert drawn is not None
    return drawn


def test_nothing_is_found_in_photographs(photograph):
    assert find_drawn(planes(photograph)) is None
    for name in ("astronaut", "cat", "coffee", "rocket", "retina"):
        picture = Image.fromarray(getattr(skimage.data, name)())
        if name in ("rocket", "retina"):  # black around them, with a soft edge
            picture = picture.crop((120, 100, 420, 400))
        for factor in (1, 2, 4):
            small = picture.resize((picture.width // factor, picture.height // factor), Image.Resampling.BICUBIC)
            assert find_drawn(planes(small)) is None, (name, factor)


def test_a_white_sky_is_photograph():
    ramp = np.linspace(0.2, 1.6, 80)[None, :, None] + np.random.default_rng(0).normal(0, 0.01, (3, 80, 90))
    assert (ramp >= 1).mean() > 0.3
    assert find_drawn(ramp.clip(0, 1).astype(np.float32)) is None


@pytest.mark.parametrize("colours", [["black"], ["white"], ["white", "black"], [(20, 60, 90), "white", "black"]])
def test_frames_inside_each_other(photograph, colours):
    picture, widths = photograph, [5, 2, 9]
    for colour, width in zip(colours, widths, strict=False):
        around = Image.new("RGB", (picture.width + 2 * width, picture.height + 2 * width), colour)
        around.paste(picture, (width, width))
        picture = around
    total, drawn = sum(widths[: len(colours)]), found(picture)
    assert (drawn.rows, drawn.columns) == (slice(total, total + 144), slice(total, total + 216))
    assert not drawn.mask.any()


def test_bars_may_be_mixed_with_the_photograph(photograph):
    pixels = np.pad(planes(photograph), ((0, 0), (12, 0), (0, 0)))
    pixels[:, 12] *= 0.4
    drawn = find_drawn(pixels)
    assert drawn is not None
    assert drawn.rows == slice(13, 156)


def test_a_cut_out(photograph):
    shape = Image.new("L", photograph.size)
    ImageDraw.Draw(shape).ellipse((20, 15, 195, 130), fill=255)
    drawn = found(Image.composite(photograph, Image.new("RGB", photograph.size, "white"), shape))
    outside = np.asarray(shape)[drawn.rows, drawn.columns] == 0
    assert drawn.mask[outside].all()
    assert drawn.mask.mean() < outside.mean() + 0.05


@pytest.mark.parametrize(("colour", "stroke"), [("white", 1), ("cyan", 0)])
def test_captions(photograph, colour, stroke):
    picture = photograph.copy()
    font = ImageFont.load_default(13)
    ImageDraw.Draw(picture).text((8, 120), "It was never so.", colour, font, stroke_width=stroke, stroke_fill="black")
    drawn = found(picture)
    changed = abs(planes(picture) - planes(photograph)).max(0) > 0.1
    assert drawn.mask[changed].mean() > 0.97
    assert drawn.mask.mean() < 0.2
    assert drawn.mask.shape == (144, 216)


def test_lamps_beyond_white(photograph):
    light = Image.new("F", photograph.size)
    for place in ((40, 30), (90, 100), (170, 60)):
        ImageDraw.Draw(light).ellipse((*place, place[0] + 5, place[1] + 5), fill=15.0)
    blurred = np.asarray(light)
    for axis in (0, 1):
        weights = np.exp(-(np.arange(-5, 6) ** 2) / 3)
        blurred = np.apply_along_axis(np.convolve, axis, blurred, weights / weights.sum(), "same")
    dark = 0.25 * planes(photograph)
    pixels = (dark + blurred).clip(0, 1).astype(np.float32)
    assert find_drawn(dark) is None
    drawn = find_drawn(pixels)
    assert drawn is not None
    assert drawn.mask[(pixels >= 1).any(0)].all()
    assert drawn.mask.mean() < 0.1


def test_what_was_drawn_is_put_back_and_the_rest_is_the_restored_photograph(photograph):
    pixels = np.pad(planes(photograph), ((0, 0), (6, 6), (10, 10)), constant_values=1.0)
    mask = np.zeros((144, 216), bool)
    mask[100:120, 20:80] = True
    drawn = Drawn(slice(6, 150), slice(10, 226), mask)
    restored = np.zeros((1, 3, 288, 432), np.float32)
    out = drawn.paste(restored, pixels, 2)
    assert out.shape == (1, 3, 312, 472)
    inner = out[0, :, 12:300, 20:452]
    expected = np.ones((3, 312, 472), bool)
    expected[:, 12:300, 20:452] = False
    assert (out[0][expected] == 1).all(), "the frame keeps its edge"
    assert not inner[:, :190].any()
    middle = np.s_[:, 206:234, 46:154]
    np.testing.assert_allclose(inner[middle], enlarge(drawn.inside(pixels), 2)[middle], atol=0.03)


def test_graphics_keep_hard_pixels_and_others_do_not_ring(photograph):
    few = (np.random.default_rng(0).random((3, 9, 9)) > 0.5).astype(np.float32)
    assert np.array_equal(enlarge_alone(few, 3), few.repeat(3, 1).repeat(3, 2))
    pixels = planes(photograph)
    large = enlarge_alone(pixels, 2)
    assert (large.min(), large.max()) == pytest.approx((pixels.min(), pixels.max()), abs=0.01)
    assert abs(large.reshape(3, 144, 2, 216, 2).mean((2, 4)) - pixels).mean() < 0.01


@pytest.mark.parametrize("seed", range(40))
def test_any_picture_can_be_taken_apart_and_put_together(seed):
    random = np.random.default_rng(seed)
    height, width = random.integers(8, 90, 2)
    pixels = random.choice([0.0, 0.5, 1.0], (3, 1, 1)) * np.ones((3, height, width))
    for _ in range(random.integers(0, 6)):
        top, left = random.integers(0, height), random.integers(0, width)
        part = pixels[:, top : top + random.integers(1, height + 1), left : left + random.integers(1, width + 1)]
        part[:] = random.random(part.shape) if random.random() < 0.5 else random.random((3, 1, 1))
    pixels = pixels.astype(np.float32)
    drawn = find_drawn(pixels)
    if drawn is not None:
        inner = drawn.inside(pixels)
        assert min(inner.shape[-2:]) >= 32
        assert drawn.mask.shape == inner.shape[-2:]
        assert not drawn.mask.all()
        assert np.array_equal(drawn.paste(inner, pixels, 1), pixels)
        assert drawn.paste(enlarge(inner, 3), pixels, 3).shape == (3, 3 * height, 3 * width)
