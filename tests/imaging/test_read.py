"""What `read_image` returns, against arrays and files made by other libraries."""

import io
import os
import struct
import subprocess
import sys
import threading
import zlib

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import ExifTags, Image, ImageOps, PngImagePlugin

from blinddiff.degradation.processing import quantisation_step
from blinddiff.errors import ImageError
from blinddiff.imaging import from_picture, read_8bit, read_image


def as_array(pixels, levels=255):
    """Integer (H, W, C) array of a tensor in [0, 1]."""
    return (pixels.transpose(1, 2, 0).astype(np.float64) * levels).round().astype(np.int64)


def test_rgb(colours, encode, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode(Image.fromarray(colours)))
    photograph = read_image(path)
    assert photograph.pixels.shape == (3, 13, 22)
    assert photograph.pixels.dtype == np.float32
    np.testing.assert_array_equal(as_array(photograph.pixels), colours)
    assert (photograph.mode, photograph.bit_depth, photograph.grey, photograph.alpha) == ("RGB", 8, False, None)
    assert photograph.path == path
    assert read_image(str(path)).path == path


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000"])
def test_lossless_formats_from_bytes(kind, colours, encode):
    settings = {"lossless": True} if kind == "WEBP" else {}
    photograph = read_image(encode(Image.fromarray(colours), kind, **settings))
    np.testing.assert_array_equal(as_array(photograph.pixels), colours)
    assert photograph.path is None


def test_format_is_detected_from_content(colours, encode, tmp_path):
    (tmp_path / "a.jpg").write_bytes(encode(Image.fromarray(colours), "PNG"))
    np.testing.assert_array_equal(as_array(read_image(tmp_path / "a.jpg").pixels), colours)


def test_grey_is_three_equal_channels(colours, encode):
    photograph = read_image(encode(Image.fromarray(colours[..., 0])))
    np.testing.assert_array_equal(as_array(photograph.pixels), np.repeat(colours[..., :1], 3, axis=-1))
    assert photograph.grey


def test_one_bit(encode):
    bits = np.eye(9, dtype=bool)
    photograph = read_image(encode(Image.fromarray(bits)))
    np.testing.assert_array_equal(photograph.pixels[0], bits.astype(np.float32))
    assert (photograph.mode, photograph.grey, photograph.bit_depth) == ("1", True, 8)


def test_transparency(colours, encode):
    alpha = colours[..., 1]
    rgba = read_image(encode(Image.fromarray(np.dstack([colours, alpha]))))
    np.testing.assert_array_equal(as_array(rgba.pixels), colours)
    np.testing.assert_array_equal(as_array(rgba.alpha)[..., 0], alpha)
    grey = read_image(encode(Image.fromarray(np.dstack([colours[..., 0], alpha]))))
    assert grey.grey
    np.testing.assert_array_equal(as_array(grey.pixels)[..., 2], colours[..., 0])
    np.testing.assert_array_equal(as_array(grey.alpha)[..., 0], alpha)


def test_palette_with_a_transparent_entry(encode):
    picture = Image.new("P", (4, 2), 1)
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putpixel((3, 1), 0)
    photograph = read_image(encode(picture, transparency=0))
    assert as_array(photograph.pixels)[0, 0].tolist() == [40, 50, 60]
    assert photograph.alpha is not None
    assert photograph.alpha[0].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]


def test_16_bit_grey_png_is_read_without_loss():
    levels = np.random.default_rng(1).integers(0, 65536, (11, 6), dtype=np.uint16)
    photograph = read_image(cv2.imencode(".png", levels)[1].tobytes())
    assert (photograph.bit_depth, photograph.grey) == (16, True)
    np.testing.assert_array_equal(as_array(photograph.pixels, 65535)[..., 0], levels)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_16_bit_tiff_is_read_without_loss(channels, byteorder, planar):
    levels = np.random.default_rng(channels).integers(0, 65536, (11, 6, channels), dtype=np.uint16)
    buffer = io.BytesIO()
    if channels == 1:
        tifffile.imwrite(buffer, levels[..., 0], byteorder=byteorder, photometric="minisblack")
    else:
        tifffile.imwrite(
            buffer,
            levels if planar == "contig" else levels.transpose(2, 0, 1),
            byteorder=byteorder,
            photometric="rgb",
            planarconfig=planar,
            extrasamples=["unassalpha"] * (channels - 3),
        )
    photograph = read_image(buffer.getvalue())
    assert photograph.bit_depth == 16
    np.testing.assert_array_equal(as_array(photograph.pixels, 65535)[..., : min(channels, 3)], levels[..., :3])
    if channels == 4:
        np.testing.assert_array_equal(as_array(photograph.alpha, 65535)[..., 0], levels[..., 3])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_orientation_is_applied_once(orientation, kind, colours, encode):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Model] = "a camera"
    data = encode(Image.fromarray(colours), kind, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    photograph = read_image(data)
    np.testing.assert_array_equal(as_array(photograph.pixels), upright)
    kept = Image.Exif()
    kept.load(photograph.exif)
    assert kept[ExifTags.Base.Model] == "a camera"
    assert kept.get(ExifTags.Base.Orientation, 1) == 1


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_orientation_of_16_bit_tiff(orientation, colours):
    deep = colours.astype(np.uint16) * 257
    plain, rotated = io.BytesIO(), io.BytesIO()
    tifffile.imwrite(rotated, deep, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    tifffile.imwrite(plain, colours, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    np.testing.assert_array_equal(
        as_array(read_image(rotated.getvalue()).pixels, 255), as_array(read_image(plain.getvalue()).pixels, 255)
    )


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_impossible_orientation_is_none(orientation, colours, encode):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    np.testing.assert_array_equal(as_array(read_image(encode(Image.fromarray(colours), exif=exif)).pixels), colours)


def test_colour_profile_and_damaged_exif(colours, encode):
    photograph = read_image(
        encode(Image.fromarray(colours), icc_profile=b"a profile, kept as it is", exif=b"Exif\0\0MM\0*\xff\xff\xff\xf0")
    )
    assert photograph.icc_profile == b"a profile, kept as it is"
    assert photograph.exif is None
    np.testing.assert_array_equal(as_array(photograph.pixels), colours)


def test_first_picture_of_a_phone_file(colours, encode):
    pictures = [Image.fromarray(colours), Image.fromarray(255 - colours)]
    data = encode(pictures[0], "MPO", save_all=True, append_images=pictures[1:], quality=100, subsampling=0)
    assert np.abs(as_array(read_image(data).pixels) - colours).max() < 20


def png_of_claimed_size(width, height):
    """A PNG whose header promises far more pixels than its data hold."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def animation(encode, kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:])


REFUSED = {
    "text.png": (lambda _: b"this is not a picture\n" * 40, "not an image of a known format"),
    "empty.jpg": (lambda _: b"", "empty"),
    "cut.png": (lambda encode: encode(Image.effect_noise((64, 64), 50))[:1500], "damaged or cut short"),
    "cut.jpg": (lambda encode: encode(Image.effect_noise((64, 64), 50), "JPEG")[:1500], "damaged or cut short"),
    "cut.webp": (lambda encode: encode(Image.effect_noise((64, 64), 50), "WEBP")[:900], "damaged or cut short"),
    "cut.tif": (lambda encode: encode(Image.effect_noise((64, 64), 50), "TIFF")[:1500], "damaged or cut short"),
    "large.png": (lambda _: png_of_claimed_size(12_000, 10_000), "more than the 89,478,485 pixels"),
    "larger.png": (lambda _: png_of_claimed_size(60_000, 60_000), "more than the 89,478,485 pixels"),
    "moving.gif": (lambda encode: animation(encode, "GIF"), "animated"),
    "moving.png": (lambda encode: animation(encode, "PNG"), "animated"),
    "moving.webp": (lambda encode: animation(encode, "WEBP"), "animated"),
    "pages.tif": (lambda encode: animation(encode, "TIFF"), "3 pages"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_line_that_names_the_file(name, encode, tmp_path, recwarn):
    make, reason = REFUSED[name]
    path = tmp_path / "a folder" / name
    path.parent.mkdir()
    path.write_bytes(make(encode))
    with pytest.raises(ImageError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert "\n" not in message
    assert len(recwarn) == 0


def test_paths_without_a_regular_file(tmp_path):
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    for name, reason in {
        "missing.png": "there is no such file",
        ".": "is a folder",
        "pipe.png": "is not a regular file",
        "loop.png": "cannot be opened",
        "null\0.png": "cannot be opened",
    }.items():
        with pytest.raises(ImageError, match=reason) as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_unreadable_file(tmp_path):
    (tmp_path / "a.png").touch(mode=0o000)
    with pytest.raises(ImageError, match="Permission denied"):
        read_image(tmp_path / "a.png")


def test_from_picture(colours):
    pixels, alpha = from_picture(Image.fromarray(colours))
    np.testing.assert_array_equal(as_array(pixels), colours)
    assert alpha is None
    with pytest.raises(ImageError, match="HSV"):
        from_picture(Image.fromarray(colours).convert("HSV"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_read_8bit_returns_stored_values(mode, colours, encode, tmp_path):
    picture = Image.fromarray(colours).convert(mode)
    (tmp_path / "a.png").write_bytes(encode(picture, icc_profile=b"ignored"))
    np.testing.assert_array_equal(read_8bit(tmp_path / "a.png"), np.asarray(picture.convert("RGB")))


def test_read_8bit_refuses_in_one_line(colours, encode, tmp_path):
    (tmp_path / "deep.png").write_bytes(encode(Image.fromarray(colours[..., 0].astype(np.uint16))))
    (tmp_path / "text.png").write_text("words")
    (tmp_path / "cut.png").write_bytes(encode(Image.effect_noise((64, 64), 50))[:1500])
    for name, reason in {
        "deep.png": "grey of more than 8 bits",
        "text.png": "no known image format",
        "cut.png": "image file is truncated",
        "missing.png": "no such file",
    }.items():
        with pytest.raises(ImageError, match=rf"{name}: cannot be read as an image \({reason}") as caught:
            read_8bit(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_name_that_is_not_ascii(colours, encode, tmp_path):
    path = tmp_path / "Übung 図 .png"
    path.write_bytes(encode(Image.fromarray(colours)))
    np.testing.assert_array_equal(as_array(read_image(path).pixels), colours)


def test_import_stays_light():
    code = "import sys, blinddiff; print({'torch', 'PIL', 'diffusers'} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout == "set()\n"


MUTATED = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "JPEG2000", "PPM")


@pytest.mark.parametrize("kind", MUTATED)
def test_mutated_files_are_read_or_refused(kind, colours, encode):
    """Every outcome is an image in [0, 1] or a one-line error."""
    whole = encode(Image.fromarray(colours), kind)
    random = np.random.default_rng(MUTATED.index(kind))
    images, refusals = [], []
    for _ in range(120):
        data = bytearray(whole)
        for _ in range(random.integers(1, 6)):
            data[random.integers(len(data) if random.random() < 0.5 else 64)] = random.integers(256)
        try:
            images.append(read_image(bytes(data)).pixels)
        except ImageError as error:
            refusals.append(str(error))
    assert all(pixels.min() >= 0 and pixels.max() <= 1 for pixels in images)
    assert len(refusals) > 0
    assert not any("\n" in line for line in refusals)


@pytest.mark.parametrize("quality", [40, 90])
def test_the_quantisation_of_a_jpeg_file_is_read(tmp_path, quality):
    picture = Image.new("RGB", (16, 16), "red")
    picture.save(tmp_path / "a.jpg", quality=quality)
    picture.save(tmp_path / "a.png")
    expected = float(quantisation_step(torch.tensor([float(quality)])))
    assert read_image(tmp_path / "a.jpg").jpeg_step == pytest.approx(expected)
    assert read_image(tmp_path / "a.png").jpeg_step == 0


def test_other_threads_keep_pillows_limits(tmp_path, monkeypatch):
    """The limits of Pillow are settings of the whole process, for its other images too."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 11)
    seen, stop = set(), threading.Event()

    def watch():
        while not stop.is_set():
            seen.add((Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        for suffix in (".png", ".jpg", ".webp", ".avif", ".jp2", ".gif", ".bmp", ".ppm", ".tif"):
            Image.new("RGB", (40, 30)).save(tmp_path / f"a{suffix}")
            assert read_image(tmp_path / f"a{suffix}").pixels.shape == (3, 30, 40)
            with pytest.raises(ImageError, match="more than the 1,000 pixels"):
                read_image(tmp_path / f"a{suffix}", max_pixels=1000)
    finally:
        stop.set()
        watching.join()
    assert seen == {(10, 11)}
