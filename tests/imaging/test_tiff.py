"""TIFF files of all kinds, and more than 8 bits in every format: compared with what other libraries write and read."""

import io
import struct
import zlib

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from blinddiff.errors import ImageError, OutputError
from blinddiff.imaging import check_output, encode_image, read_image, write_image


def levels(channels, seed=0):
    return np.random.default_rng(seed).integers(0, 65536, (11, 14, channels), dtype=np.uint16)


def as_levels(photograph, white=65535):
    planes = [photograph.pixels[:1] if photograph.grey else photograph.pixels]
    planes += [] if photograph.alpha is None else [photograph.alpha]
    return (np.concatenate(planes).astype(np.float64).transpose(1, 2, 0) * white).round().astype(np.int64)


def tiff(array, **settings):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **settings)
    return buffer.getvalue()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_go_in_and_out_without_loss(channels, suffix, tmp_path):
    array = levels(channels)
    source = cv2.imencode(".png", array[..., ::-1] if channels == 3 else array[..., 0])[1].tobytes()
    if channels in (2, 4):
        source = imagecodecs.png_encode(array)
    photograph = read_image(source)
    assert (photograph.bit_depth, photograph.grey) == (16, channels < 3)
    np.testing.assert_array_equal(as_levels(photograph), array)

    path = tmp_path / f"out{suffix}"
    write_image(path, photograph.pixels, photograph, photograph.alpha)

    back = tifffile.imread(path) if suffix == ".tif" else cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if suffix == ".png" and channels > 1:
        back = (
            back[..., 2:]
            if channels == 2
            else cv2.cvtColor(back, [None, cv2.COLOR_BGR2RGB, cv2.COLOR_BGRA2RGBA][channels - 2])
        )
    np.testing.assert_array_equal(np.atleast_3d(back), array)


def test_a_16_bit_colour_declared_transparent():
    array = levels(3)
    data = imagecodecs.png_encode(array)
    place = data.index(b"IDAT") - 4
    value = struct.pack(">HHH", *array[2, 3])
    chunk = struct.pack(">I", 6) + b"tRNS" + value + struct.pack(">I", zlib.crc32(b"tRNS" + value))
    photograph = read_image(data[:place] + chunk + data[place:])
    assert photograph.alpha[0, 2, 3] == 0
    assert photograph.alpha.sum() == 11 * 14 - 1


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_deep_jpeg_2000(bits, channels):
    array = levels(channels) >> (16 - bits)
    data = imagecodecs.jpeg2k_encode(array.squeeze(), level=0, reversible=True, bitspersample=bits)
    np.testing.assert_array_equal(as_levels(read_image(data), 2**bits - 1), array)


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("channels", [3, 4])
def test_deep_avif(bits, channels):
    array = levels(channels) >> (16 - bits)
    data = imagecodecs.avif_encode(array, level=100, bitspersample=bits)
    np.testing.assert_array_equal(as_levels(read_image(data), 2**bits - 1), array)


def test_grey_avif_is_grey():
    grey = (levels(1) >> 8).astype(np.uint8)[..., 0]
    photograph = read_image(imagecodecs.avif_encode(grey, level=100, pixelformat="400"))
    assert photograph.grey
    assert np.abs(as_levels(photograph, 255)[..., 0] - grey).max() <= 1
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([grey] * 3)).save(buffer, "AVIF")
    assert not read_image(buffer.getvalue()).grey


TIFF_KINDS = {
    "rgb": ((13, 9, 3), "RGB", {}),
    "rgb lzw": ((13, 9, 3), "RGB", {"compression": "tiff_lzw"}),
    "rgb deflate": ((13, 9, 3), "RGB", {"compression": "tiff_adobe_deflate"}),
    "rgb packbits": ((13, 9, 3), "RGB", {"compression": "packbits"}),
    "rgb jpeg": ((16, 32, 3), "RGB", {"compression": "jpeg"}),
    "grey": ((13, 9), "L", {}),
    "grey jpeg": ((16, 32), "L", {"compression": "jpeg"}),
    "alpha": ((13, 9, 4), "RGBA", {}),
    "grey alpha": ((13, 9, 2), "LA", {}),
    "bits": ((13, 9), "1", {}),
    "fax 3": ((13, 9), "1", {"compression": "group3"}),
    "fax 4": ((13, 9), "1", {"compression": "group4"}),
    "palette": ((13, 9, 3), "P", {}),
}


@pytest.mark.parametrize("name", TIFF_KINDS)
def test_8_bit_tiff_is_what_pillow_reads(name):
    shape, mode, settings = TIFF_KINDS[name]
    picture = Image.fromarray(np.random.default_rng(4).integers(0, 256, shape, dtype=np.uint8))
    if mode == "P":
        picture = picture.quantize(8)
    elif mode == "1":
        picture = picture.point(lambda value: 255 * (value > 99), "1")
    buffer = io.BytesIO()
    picture.save(buffer, "TIFF", **settings)
    expected = np.atleast_3d(np.asarray(Image.open(buffer).convert({"P": "RGB", "1": "L"}.get(mode, mode))))
    photograph = read_image(buffer.getvalue())
    assert (photograph.mode, photograph.bit_depth, photograph.grey) == (mode, 8, expected.shape[-1] < 3)
    # Two JPEG decoders may differ by rounding.
    assert np.abs(as_levels(photograph, 255) - expected).max() <= (3 if "jpeg" in name else 0)


@pytest.mark.parametrize("tag", [34665, 34853])
def test_a_directory_beyond_the_end_does_not_cost_the_pixels(tag):
    array = np.random.default_rng(0).integers(0, 256, (10, 12), dtype=np.uint8)
    data = tiff(array, photometric="minisblack", extratags=[(tag, "I", 1, 10**6, True)])
    np.testing.assert_array_equal(as_levels(read_image(data), 255)[..., 0], array)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 12])
def test_unusual_bit_depths(bits):
    array = np.random.default_rng(bits).integers(0, 2**bits, (10, 12), dtype=np.uint8 if bits < 8 else np.uint16)
    data = tiff(array, photometric="minisblack", bitspersample=bits)
    np.testing.assert_array_equal(as_levels(read_image(data), 2**bits - 1)[..., 0], array)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_white_is_zero(kind):
    array = np.linspace(0, 1, 60).reshape(6, 10)
    stored = array.astype(kind) if kind == np.float32 else (array * np.iinfo(kind).max).round().astype(kind)
    white = 1 if kind == np.float32 else np.iinfo(kind).max
    found = read_image(tiff(stored, photometric="miniswhite")).pixels[0]
    np.testing.assert_allclose(found, 1 - stored.astype(np.float64) / white, atol=1e-6)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats(kind, tmp_path):
    array = np.random.default_rng(2).random((9, 7, 3)).astype(kind)
    photograph = read_image(tiff(array, photometric="rgb"))
    assert photograph.bit_depth == 32
    np.testing.assert_array_equal(photograph.pixels.transpose(1, 2, 0), array.astype(np.float32))
    write_image(tmp_path / "a.tif", photograph.pixels, photograph)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), array.astype(np.float32))
    write_image(tmp_path / "a.png", photograph.pixels, photograph)
    assert cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED).dtype == np.uint16


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.nan, "has 1 values that are not finite"),
        (np.inf, "has 1 values that are not finite"),
        (-np.inf, "has 1 values that are not finite"),
        (1.5, "has floats from 0 to 1.5; accepted are 0"),
        (-0.25, "has floats from -0.25 to 0; accepted are 0"),
    ],
)
def test_floats_outside_the_range_are_refused(value, reason):
    array = np.zeros((6, 6), np.float32)
    array[2, 3] = value
    with pytest.raises(ImageError, match=reason):
        read_image(tiff(array, photometric="minisblack"))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_multiplied_alpha_is_divided_out(kind):
    white = np.iinfo(kind).max
    alpha = np.linspace(0, 1, 80).reshape(8, 10)
    colours = np.stack([np.full((8, 10), value) for value in (0.2, 0.5, 1.0)], -1)
    stored = (np.dstack([colours * alpha[..., None], alpha]) * white).round().astype(kind)
    photograph = read_image(tiff(stored, photometric="rgb", extrasamples=["assocalpha"]))
    np.testing.assert_allclose(photograph.alpha[0], alpha, atol=0.6 / white)
    visible = alpha > 0.2
    found = photograph.pixels.transpose(1, 2, 0)
    assert np.abs(found - colours)[visible].max() < 4 / white
    assert (found[alpha == 0] == 0).all()


def test_spare_channels_are_left_out():
    photograph = read_image(tiff(levels(5), photometric="rgb", extrasamples=["unspecified", "unassalpha"]))
    np.testing.assert_array_equal(as_levels(photograph), levels(5)[..., [0, 1, 2, 4]])
    assert read_image(tiff(levels(4), photometric="rgb", extrasamples=["unspecified"])).alpha is None


def test_thumbnails_are_not_pages_and_previews_are_not_photographs():
    array, small = (levels(3) >> 8).astype(np.uint8), np.zeros((4, 4, 3), np.uint8)
    for first, second, raw in ((array, small, False), (small, array, True)):
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer) as writer:
            writer.write(first, photometric="rgb", subfiletype=int(raw))
            writer.write(second, photometric="rgb", subfiletype=int(not raw))
        if raw:
            with pytest.raises(ImageError, match="raw file"):
                read_image(buffer.getvalue())
        else:
            np.testing.assert_array_equal(as_levels(read_image(buffer.getvalue()), 255), array)


def test_unsupported_pixel_formats_are_refused_by_name():
    for array, settings, reason in (
        (levels(4), {"photometric": "separated", "extratags": [(332, 3, 1, 2, True)]}, "inks other than CMYK"),
        (levels(3), {"photometric": "cielab"}, "Lab"),
        (levels(1)[..., 0].astype(np.uint32), {"photometric": "minisblack"}, "uint32"),
        (levels(1)[..., 0].view(np.int16), {"photometric": "minisblack"}, "int16 .signed integers"),
        (levels(1)[..., 0].astype(np.complex64), {"photometric": "minisblack"}, "complex64"),
    ):
        with pytest.raises(ImageError, match=reason):
            read_image(tiff(array, **settings))


def test_limit_of_pixels():
    data = tiff(levels(3), photometric="rgb")
    assert read_image(data, max_pixels=154).bit_depth == 16
    with pytest.raises(ImageError, match="has 14 x 11 pixels, more than the 153 pixels"):
        read_image(data, max_pixels=153)


def test_a_format_without_16_bits_gets_8(tmp_path):
    photograph = read_image(imagecodecs.png_encode(levels(3)))
    for name in ("a.jpg", "a.webp", "a.avif"):
        check_output(tmp_path / name, photograph, (14, 11))
        write_image(tmp_path / name, photograph.pixels, photograph)
        assert read_image(tmp_path / name).bit_depth == 8


def test_check_output_refuses_what_cannot_be_written(tmp_path):
    photograph = read_image(imagecodecs.png_encode(levels(4)))
    for name, size, reason in (
        ("a.jpg", (65_501, 10), "JPEG cannot hold this image of 65501 x 10 pixels; the longest side is 65,500"),
        ("a.webp", (10, 16_384), "the longest side is 16,383"),
        ("a.avif", (10, 65_536), "the longest side is 65,535"),
        ("a.png", (1_000_001, 1), "the longest side is 1,000,000"),
        ("a.jpg", (10, 10), "transparency"),
    ):
        with pytest.raises(OutputError, match=reason):
            check_output(tmp_path / name, photograph, size)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_in_strips_of_both_orders_of_bytes(order):
    """The order of the EXIF block is that of the file."""
    exif = Image.Exif()
    exif.endian = order
    exif[315] = "a person"
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "JPEG", exif=exif)
    photograph = read_image(buffer.getvalue())
    rows, columns = 500, 900
    pixels = np.random.default_rng(0).random((3, rows, columns), np.float32)
    for depth in (8, 16):
        like = read_image(imagecodecs.png_encode(levels(3))) if depth == 16 else photograph
        data = encode_image("a.tif", pixels, type(like)(**{**vars(like), "exif": photograph.exif, "grey": False}))
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            assert file.byteorder == order
            assert len(file.pages.first.dataoffsets) > 1
            expected = (pixels.transpose(1, 2, 0) * (2**depth - 1)).round()
            np.testing.assert_array_equal(file.asarray(), expected)
            assert file.pages.first.tags["Artist"].value == "a person"
