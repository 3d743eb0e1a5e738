"""Colours declared by numbers: the profile that stands for them, as LittleCMS reads it."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms

from blinddiff.errors import ImageError
from blinddiff.imaging import encode_image, read_image

PIXELS = np.random.default_rng(3).integers(0, 256, (9, 12, 3), dtype=np.uint8)
# Red as XYZ under D50, as Apple's and other makers' profiles of these colours have it
RED = {12: (0.5151, 0.2412, -0.0011), 9: (0.6735, 0.2790, -0.0019)}


def avif(primaries, transfer, pixels=PIXELS):
    return imagecodecs.avif_encode(pixels, level=100, primaries=primaries, transfer=transfer)


def png(primaries, transfer, pixels=PIXELS):
    file = imagecodecs.png_encode(pixels)
    chunk = b"cICP" + bytes([primaries, transfer, 0, 1])
    return file[:33] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + file[33:]


def red_of(profile):
    return ImageCms.getOpenProfile(io.BytesIO(profile)).profile.red_colorant[0]


@pytest.mark.parametrize("make", [avif, png])
@pytest.mark.parametrize("primaries", RED)
def test_wide_colours_stay_wide(make, primaries):
    photograph = read_image(make(primaries, 13))
    written = Image.open(io.BytesIO(encode_image("a.png", photograph.pixels, photograph)))
    np.testing.assert_allclose(red_of(written.info["icc_profile"]), RED[primaries], atol=2e-3)
    # The tone is that of sRGB: the numbers stay.
    assert np.abs(np.asarray(written).astype(int) - np.asarray(Image.open(io.BytesIO(make(primaries, 13))))).max() <= 1


def test_linear_light_is_honoured():
    ramp = np.repeat(np.linspace(0, 255, 12).astype(np.uint8)[None, :, None], 9, 0).repeat(3, 2)
    photograph = read_image(png(1, 8, ramp))
    light = ramp[0, 6, 0] / 255
    expected = 0.95 * (1.055 * light ** (1 / 2.4) - 0.055) + 0.05 * light  # see `tone.LEAST_SLOPE`
    assert float(photograph.pixels[0, 0, 6]) == pytest.approx(expected, abs=3e-3)
    written = Image.open(io.BytesIO(encode_image("a.png", photograph.pixels, photograph)))
    np.testing.assert_array_equal(np.asarray(written), ramp)


@pytest.mark.parametrize("make", [avif, png])
@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_refused_by_name(make, transfer, name):
    with pytest.raises(ImageError, match=f"high dynamic range \\({name}\\)"):
        read_image(make(9, transfer))


@pytest.mark.parametrize("make", [avif, png])
def test_ordinary_colours_need_no_profile(make):
    for primaries, transfer in ((1, 13), (1, 1), (2, 2)):
        assert read_image(make(primaries, transfer)).icc_profile is None


def test_a_profile_of_the_file_counts_first():
    embedded = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG", icc_profile=embedded)
    file = buffer.getvalue()
    chunk = png(12, 13)[33 : 33 + 16]
    assert read_image(file[:33] + chunk + file[33:]).icc_profile == embedded
