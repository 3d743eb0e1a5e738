"""Tone curves of profiles against LittleCMS's own conversions, and profiles of colour spaces named by code points."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms

from blinddiff.errors import ImageError
from blinddiff.imaging import encode_image, read_image
from blinddiff.imaging.colour import MIN_SLOPE, tone_curve

WHITE = [0.3127, 0.3290, 1]
P3 = [0.680, 0.320, 1, 0.265, 0.690, 1, 0.150, 0.060, 1]


def rgb_profile(gamma):
    return imagecodecs.cms_profile("rgb", whitepoint=WHITE, primaries=P3, gamma=gamma)


def grey_profile(gamma):
    return imagecodecs.cms_profile("gray", whitepoint=WHITE, gamma=gamma)


def srgb_profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2, 2.6])
def test_greys_match_colour_management(gamma):
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 256)
    picture = Image.merge("RGB", [Image.fromarray(ramp)] * 3)
    managed = ImageCms.profileToProfile(
        picture, ImageCms.getOpenProfile(io.BytesIO(rgb_profile(gamma))), ImageCms.createProfile("sRGB")
    )
    expected = np.asarray(managed).astype(float).mean(-1)[0]
    found = 255 * tone_curve(rgb_profile(gamma), False).to_srgb((ramp[0] / 255).astype(np.float32))
    # A share of the straight line is mixed in, which keeps the inverse stable.
    mixed = (1 - MIN_SLOPE) * expected + MIN_SLOPE * ramp[0]
    assert np.abs(found - mixed).max() < 1
    assert np.abs(expected - ramp[0]).max() > 5  # there was something to convert


def test_grey_profiles():
    values = np.linspace(0, 1, 1000, dtype=np.float32)
    colour, grey = tone_curve(rgb_profile(1.8), False), tone_curve(grey_profile(1.8), True)
    np.testing.assert_allclose(grey.to_srgb(values), colour.to_srgb(values), atol=1e-3)


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
def test_inverse_is_exact_for_16_bits(gamma):
    curve = tone_curve(rgb_profile(gamma), False)
    levels = np.arange(65536)
    back = curve.from_srgb(curve.to_srgb((levels / 65535).astype(np.float32)))
    np.testing.assert_array_equal((back.astype(np.float64) * 65535).round(), levels)


@pytest.mark.parametrize("gamma", [1.0, 2.2, 3.0])
def test_inverse_amplifies_errors_little(gamma):
    """Half a grey level of error becomes at most ten in the file, also at black."""
    curve = tone_curve(rgb_profile(gamma), False)
    values = np.linspace(0, 1 - 0.5 / 255, 4096, dtype=np.float32)
    assert (curve.from_srgb(values + np.float32(0.5 / 255)) - curve.from_srgb(values)).max() < 0.5 / 255 / MIN_SLOPE


def test_nothing_to_convert():
    damaged = rgb_profile(1.8)[:200]
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile, grey in (
        (None, False),
        (b"", False),
        (b"no profile", False),
        (damaged, False),
        (lab, False),
        (srgb_profile(), False),
        (rgb_profile(1.8), True),  # of another kind of pixel
        (grey_profile(1.8), False),
    ):
        assert tone_curve(profile, grey) is None


def test_saturated_colours_survive_a_round_trip():
    """Display P3's reddest red and greenest green are beyond sRGB."""
    array = np.zeros((8, 12, 3), np.uint16)
    array[:, :4, 0], array[:, 4:8, 1], array[:, 8:, 2] = 65535, 65535, 65535
    array[4:] //= np.arange(1, 13, dtype=np.uint16)[:, None]
    buffer = io.BytesIO()
    for profile in (rgb_profile(1.8), rgb_profile(2.2), srgb_profile()):
        buffer = io.BytesIO()
        Image.fromarray((array >> 8).astype(np.uint8)).save(buffer, "PNG", icc_profile=profile)
        photograph = read_image(buffer.getvalue())
        back = Image.open(io.BytesIO(encode_image("a.png", photograph.pixels, photograph)))
        np.testing.assert_array_equal(np.asarray(back), array >> 8)
        assert back.info["icc_profile"] == profile


def test_pixels_do_not_depend_on_the_profile():
    """One scene, written linearly and as sRGB: the same pixels but for rounding and the share of the straight line."""
    light = np.random.default_rng(0).random((16, 16), dtype=np.float32)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    linear = imagecodecs.png_encode((np.repeat(light[..., None], 3, -1) * 65535).round().astype(np.uint16))
    end = 33
    photograph = read_image(linear[:end] + profile_chunk(rgb_profile(1.0)) + linear[end:])
    assert photograph.bit_depth == 16
    np.testing.assert_allclose(photograph.pixels[0], (1 - MIN_SLOPE) * srgb + MIN_SLOPE * light, atol=2e-4)


@pytest.mark.parametrize("suffix", [".webp", ".avif", ".jpg", ".tif", ".png"])
@pytest.mark.parametrize("transparent", [False, True])
def test_grey_with_a_profile_looks_the_same_in_every_format(suffix, transparent):
    """Seen in a viewer that ignores a profile of another kind than the pixels, as browsers do."""
    ramp = np.repeat(np.arange(0, 256, 4, dtype=np.uint8)[None], 48, 0)
    array = np.dstack([ramp, np.full_like(ramp, 255)]) if transparent else ramp
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", icc_profile=grey_profile(1.0))
    photograph = read_image(buffer.getvalue())
    written = encode_image(f"a{suffix}", photograph.pixels, photograph, photograph.alpha)

    shown = Image.open(io.BytesIO(written))
    profile = shown.info.get("icc_profile")
    light = np.asarray(shown.convert("L")).astype(float) / 255
    if profile is not None:
        assert ImageCms.getOpenProfile(io.BytesIO(profile)).profile.xcolor_space.strip() == "GRAY"
        assert shown.mode in ("L", "LA")
    else:  # sRGB
        light = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
    expected = ramp / 255
    # The share of the straight line in the curve remains visible where no profile is written.
    assert np.abs(light - expected).max() < (0.03 if profile is None else 0.02)


def profile_chunk(profile):
    data = b"iCCP" + b"linear\0\0" + zlib.compress(profile)
    return struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))


PIXELS = np.random.default_rng(3).integers(0, 256, (9, 12, 3), dtype=np.uint8)
# Red as XYZ under D50, as Apple's and other makers' profiles of these colours have it
RED = {12: (0.5151, 0.2412, -0.0011), 9: (0.6735, 0.2790, -0.0019)}


def avif_of(primaries, transfer, pixels=PIXELS):
    return imagecodecs.avif_encode(pixels, level=100, primaries=primaries, transfer=transfer)


def png_of(primaries, transfer, pixels=PIXELS):
    file = imagecodecs.png_encode(pixels)
    chunk = b"cICP" + bytes([primaries, transfer, 0, 1])
    return file[:33] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + file[33:]


def red_of(profile):
    return ImageCms.getOpenProfile(io.BytesIO(profile)).profile.red_colorant[0]


@pytest.mark.parametrize("make", [avif_of, png_of])
@pytest.mark.parametrize("primaries", RED)
def test_wide_colours_stay_wide(make, primaries):
    photograph = read_image(make(primaries, 13))
    written = Image.open(io.BytesIO(encode_image("a.png", photograph.pixels, photograph)))
    np.testing.assert_allclose(red_of(written.info["icc_profile"]), RED[primaries], atol=2e-3)
    # The tone curve is that of sRGB: the values stay.
    assert np.abs(np.asarray(written).astype(int) - np.asarray(Image.open(io.BytesIO(make(primaries, 13))))).max() <= 1


def test_linear_light_is_honoured():
    ramp = np.repeat(np.linspace(0, 255, 12).astype(np.uint8)[None, :, None], 9, 0).repeat(3, 2)
    photograph = read_image(png_of(1, 8, ramp))
    light = ramp[0, 6, 0] / 255
    expected = 0.95 * (1.055 * light ** (1 / 2.4) - 0.055) + 0.05 * light  # see `MIN_SLOPE`
    assert float(photograph.pixels[0, 0, 6]) == pytest.approx(expected, abs=3e-3)
    written = Image.open(io.BytesIO(encode_image("a.png", photograph.pixels, photograph)))
    np.testing.assert_array_equal(np.asarray(written), ramp)


@pytest.mark.parametrize("make", [avif_of, png_of])
@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_refused_by_name(make, transfer, name):
    with pytest.raises(ImageError, match=f"high dynamic range \\({name}\\)"):
        read_image(make(9, transfer))


@pytest.mark.parametrize("make", [avif_of, png_of])
def test_ordinary_colours_need_no_profile(make):
    for primaries, transfer in ((1, 13), (1, 1), (2, 2)):
        assert read_image(make(primaries, transfer)).icc_profile is None


def test_embedded_profile_takes_precedence():
    embedded = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG", icc_profile=embedded)
    file = buffer.getvalue()
    chunk = png_of(12, 13)[33 : 33 + 16]
    assert read_image(file[:33] + chunk + file[33:]).icc_profile == embedded
