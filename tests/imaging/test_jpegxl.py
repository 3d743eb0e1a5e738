"""JPEG XL, against files that imagecodecs writes, and against libjxl's other binding where it is installed."""

import io
import struct
import sys

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from blinddiff.errors import ImageError, OutputError
from blinddiff.imaging import check_output, encode_image, read_image

WHITE = [0.3127, 0.3290, 1]
PROFILE = imagecodecs.cms_profile(
    "rgb", whitepoint=WHITE, primaries=[0.680, 0.320, 1, 0.265, 0.690, 1, 0.150, 0.060, 1], gamma=1.8
)
PLATFORMS = [PROFILE[:40] + name + PROFILE[44:] for name in (b"APPL", b"MSFT", b"SGI ", b"SUNW", b"*nix")]
EXIF = Image.Exif()
EXIF[274], EXIF[272] = 6, "a camera"
BLOCK = EXIF.tobytes().removeprefix(b"Exif\0\0")


def levels(kind, channels, height=11, width=14):
    values = np.random.default_rng(channels).random((height, width, channels))
    return values.astype(kind) if kind == np.float32 else (values * np.iinfo(kind).max).round().astype(kind)


def stored_values(photograph, kind):
    planes = [photograph.pixels[:1] if photograph.grey else photograph.pixels]
    planes += [] if photograph.alpha is None else [photograph.alpha]
    values = np.concatenate(planes).astype(np.float64).transpose(1, 2, 0)
    return values.astype(kind) if kind == np.float32 else (values * np.iinfo(kind).max).round().astype(kind)


def photograph_of(array, **boxes):
    """A photograph with these pixels, as sRGB."""
    kind, channels = array.dtype.type, array.shape[-1]
    buffer = io.BytesIO()
    Image.new("LA" if channels < 3 else "RGBA", (8, 8)).save(buffer, "PNG", **boxes)
    like = read_image(buffer.getvalue())
    colours = np.moveaxis(array[..., : 1 if channels < 3 else 3].astype(np.float32), -1, 0)
    scale = 1 if kind == np.float32 else np.iinfo(kind).max
    alpha = np.moveaxis(array[..., -1:].astype(np.float32), -1, 0) / scale if channels in (2, 4) else None
    depth = {np.uint8: 8, np.uint16: 16, np.float32: 32}[kind]
    fields = {**vars(like), "bit_depth": depth, "alpha": alpha, "pixels": colours / scale, "grey": channels < 3}
    return type(like)(**fields)


def written(array, **boxes):
    photograph = photograph_of(array, **boxes)
    return encode_image("a.jxl", photograph.pixels, photograph, photograph.alpha)


KINDS = [(np.uint8, 8), (np.uint16, 16), (np.float32, 32)]


@pytest.mark.parametrize(("kind", "depth"), KINDS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_written_without_loss_as_srgb_and_read_again(kind, depth, channels):
    array = levels(kind, channels)
    data = written(array, exif=EXIF)
    np.testing.assert_array_equal(np.atleast_3d(imagecodecs.jpegxl_decode(data)), array)
    photograph = read_image(data)
    assert (photograph.file_format, photograph.bit_depth, photograph.grey) == ("JPEGXL", depth, channels < 3)
    np.testing.assert_array_equal(stored_values(photograph, kind), array)
    assert photograph.icc_profile is None
    assert b"a camera" in photograph.exif


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_8_bits_are_coded_as_imagecodecs_does(channels):
    """It declares 8 bits as sRGB, so the header must be the same."""
    array = levels(np.uint8, channels)
    assert written(array).endswith(imagecodecs.jpegxl_encode(array.squeeze(), lossless=True, numthreads=1))


@pytest.mark.parametrize("channels", [1, 3])
def test_declared_linear_light_is_honoured(channels):
    """As imagecodecs declares 16 bits and floats."""
    array = levels(np.uint16, channels)
    photograph = read_image(imagecodecs.jpegxl_encode(array.squeeze()))
    light = array.transpose(2, 0, 1) / 65535
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(photograph.pixels[:channels], 0.95 * srgb + 0.05 * light, atol=2e-3)  # see `MIN_SLOPE`


@pytest.mark.parametrize("bits", [10, 12])
def test_unusual_bit_depths(bits):
    array = levels(np.uint16, 4) >> (16 - bits)
    photograph = read_image(imagecodecs.jpegxl_encode(array, bitspersample=bits))
    np.testing.assert_array_equal((photograph.alpha[0].astype(np.float64) * (2**bits - 1)).round(), array[..., 3])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_lossy(kind):
    smooth = np.linspace(0, 1, 40 * 30 * 3, dtype=np.float32).reshape(30, 40, 3)
    array = smooth if kind == np.float32 else (smooth * np.iinfo(kind).max).astype(kind)
    linear = kind != np.uint8
    photograph = read_image(imagecodecs.jpegxl_encode(array, distance=0.5))
    srgb = np.where(smooth <= 0.0031308, 12.92 * smooth, 1.055 * np.maximum(smooth, 1e-9) ** (1 / 2.4) - 0.055)
    expected = 0.95 * srgb + 0.05 * smooth if linear else smooth
    assert np.abs(photograph.pixels.transpose(1, 2, 0) - expected).mean() < 0.02


@pytest.mark.parametrize("size", [(64, 48), (256, 256), (13, 7), (1600, 9), (120, 100), (54, 96), (600, 400)])
def test_the_size_is_known_before_decoding(size):
    width, height = size
    data = imagecodecs.jpegxl_encode(np.zeros((height, width), np.uint8))
    assert read_image(data, max_pixels=width * height).pixels.shape[1:] == (height, width)
    with pytest.raises(ImageError, match=f"has {width} x {height} pixels, more than"):
        read_image(data, max_pixels=width * height - 1)


@pytest.mark.parametrize("compressed", [False, True])
def test_metadata_boxes(compressed):
    array = levels(np.uint8, 3)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    data = imagecodecs.jpegxl_encode(array, usecontainer=True)
    for kind, contents in ((b"Exif", bytes(4) + BLOCK), (b"xml ", xmp)):
        if compressed:
            kind, contents = b"brob", kind + imagecodecs.brotli_encode(contents)
        data += struct.pack(">I", 8 + len(contents)) + kind + contents
    photograph = read_image(data)
    np.testing.assert_array_equal(stored_values(photograph, np.uint8), array)  # the EXIF orientation has no effect
    kept = Image.Exif()
    kept.load(photograph.exif)
    assert (kept[272], kept[274]) == ("a camera", 1)
    assert photograph.xmp == xmp.replace(b'"6"', b'"1"')


def test_animation_and_damage_are_refused():
    with pytest.raises(ImageError, match="is animated"):
        read_image(imagecodecs.jpegxl_encode(np.zeros((3, 16, 16, 3), np.uint8)))
    data = imagecodecs.jpegxl_encode(levels(np.uint8, 3, 40, 40))
    random = np.random.default_rng(0)
    for length in (2, 3, 12, len(data) // 2):
        with pytest.raises(ImageError, match="damaged or cut short"):
            read_image(data[:length])
    refusals = []
    for _ in range(60):
        mutated = bytearray(data)
        mutated[random.integers(2, 40)] = random.integers(256)
        try:
            pixels = read_image(bytes(mutated), max_pixels=10**6).pixels
        except ImageError as error:
            refusals.append(str(error))
        else:
            assert pixels.min() >= 0
            assert pixels.max() <= 1
    assert len(refusals) > 0
    assert not any("\n" in line for line in refusals)


def test_a_profile_that_cannot_be_read_is_mentioned(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    photograph = read_image(written(levels(np.uint8, 3), icc_profile=PROFILE))
    assert photograph.icc_profile is None
    (note,) = photograph.notes
    assert "pip install 'blinddiff[jxl]'" in note


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("profile", [PROFILE, *PLATFORMS, PROFILE + bytes(40_000)])
def test_profiles_are_embedded_unchanged(kind, profile):
    pytest.importorskip("pillow_jxl", reason="the extra jxl is not installed")
    data = written(levels(kind, 3), icc_profile=profile)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.info["icc_profile"] == profile
    photograph = read_image(data)
    assert (photograph.icc_profile, photograph.notes) == (profile, ())
    # A second time, with the tone curve of the profile applied and inverted
    again = encode_image("a.jxl", photograph.pixels, photograph)
    decoded = [imagecodecs.jpegxl_decode(file).astype(float) for file in (data, again)]
    np.testing.assert_allclose(*decoded, atol=1e-6 if kind == np.float32 else 0)


def test_the_largest_side(tmp_path):
    photograph = photograph_of(levels(np.uint8, 3))
    with pytest.raises(OutputError, match="the longest side is 262,144"):
        check_output(tmp_path / "a.jxl", photograph, (262_145, 10))
