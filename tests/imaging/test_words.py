"""Pixels per inch, texts and IPTC records, read back by Pillow and tifffile, and from bytes made by hand."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, PngImagePlugin

from blinddiff.imaging import encode_image, left_out, read_image

Base = ExifTags.Base
RECORDS = b"\x1c\x02\x05\x00\x07Harbour\x1c\x02\x50\x00\x03Ada"  # title and author; an odd number of bytes
SUFFIXES = (".png", ".jpg", ".tif", ".webp", ".avif", ".jxl")


def file_of(kind, **settings):
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(buffer, kind, **settings)
    return buffer.getvalue()


def jpeg_with(marker, contents, **settings):
    data = file_of("JPEG", **settings)
    return data[:2] + b"\xff" + marker + struct.pack(">H", len(contents) + 2) + contents + data[2:]


def jpeg_with_iptc(records=RECORDS):
    other = b"8BIM\x04\x25\x00\x00" + struct.pack(">I", 3) + b"abc\0"  # a resource before it, padded
    block = b"Photoshop 3.0\0" + other + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(records)) + records
    return jpeg_with(b"\xed", block + b"\0" * (len(records) % 2))


def written_as(suffix, photograph, factor=(3, 2), **options):
    pixels = photograph.pixels.repeat(factor[0], 2).repeat(factor[1], 1)
    return encode_image(f"a{suffix}", pixels, photograph, **options)


def opened(data):
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def exif_of(suffix, data):
    exif = Image.Exif()
    if suffix == ".jxl":
        at = data.index(b"Exif")
        exif.load(data[at + 8 : at - 4 + int.from_bytes(data[at - 4 : at], "big")])
        return exif
    return opened(data).getexif()


def dpi_of(suffix, data):
    if suffix in (".png", ".jpg"):
        assert suffix == ".png" or opened(data).info["jfif_unit"] == 1
        return opened(data).info["dpi"]
    exif = exif_of(suffix, data)
    assert exif[Base.ResolutionUnit] == 2
    return float(exif[Base.XResolution]), float(exif[Base.YResolution])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF"])
def test_the_printed_size_stays(kind, suffix):
    photograph = read_image(file_of(kind, dpi=(300, 300)))
    assert photograph.dpi == (300, 300)
    assert dpi_of(suffix, written_as(suffix, photograph)) == pytest.approx((900, 600), abs=0.01)
    assert dpi_of(suffix, written_as(suffix, photograph, dpi="keep")) == pytest.approx((300, 300), abs=0.01)


def exif_with(orientation=1, **fields):
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    for name, value in fields.items():
        exif[Base[name]] = value
    return exif


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_pixels_per_centimetre_in_exif_alone(kind, suffix):
    exif = exif_with(XResolution=100.0, YResolution=50.0, ResolutionUnit=3)
    photograph = read_image(file_of(kind, exif=exif))
    assert photograph.dpi == pytest.approx((254, 127))
    written = written_as(suffix, photograph)
    if suffix in (".png", ".jpg"):
        assert opened(written).info["dpi"] == pytest.approx((762, 254), abs=0.01)
    kept = exif_of(suffix, written)
    assert (kept[Base.XResolution], kept[Base.YResolution], kept[Base.ResolutionUnit]) == (300, 100, 3)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_a_rotated_photograph_exchanges_them(kind):
    exif = exif_with(6, XResolution=200.0, YResolution=100.0, ResolutionUnit=2)
    photograph = read_image(file_of(kind, exif=exif, **({"dpi": (200, 100)} if kind == "JPEG" else {})))
    assert photograph.pixels.shape == (3, 20, 10)
    assert photograph.dpi == (100, 200)
    kept = exif_of(".tif", written_as(".tif", photograph, (1, 1)))
    assert (kept[Base.XResolution], kept[Base.YResolution]) == (100, 200)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "PPM"])
def test_nothing_is_stated_if_nothing_was(kind, suffix):
    """Pillow assumes 72 for a JPEG file whose EXIF states none."""
    photograph = read_image(file_of(kind, **({"exif": exif_with(Model="a camera")} if kind == "JPEG" else {})))
    assert photograph.dpi is None
    written = written_as(suffix, photograph)
    if suffix in (".png", ".jpg"):
        assert opened(written).info.get("jfif_unit", 0) == 0
        assert b"pHYs" not in written
    elif b"Exif" in written:
        assert Base.XResolution not in exif_of(suffix, written)


def test_a_field_is_added_without_moving_a_maker_note():
    """Makers' notes have absolute offsets into the block."""
    exif = exif_with(Model="a camera")
    note = b"maker\0" + bytes(range(200))
    exif.get_ifd(ExifTags.IFD.Exif)[Base.MakerNote] = note
    photograph = read_image(file_of("JPEG", exif=exif, dpi=(300, 300), comment=b"roll 7"))
    written = written_as(".webp", photograph)
    block = opened(written).info["exif"]
    assert block.index(note) == photograph.exif.removeprefix(b"Exif\0\0").index(note)
    kept = opened(written).getexif()
    assert kept[Base.ImageDescription] == "roll 7"
    assert kept[Base.Model] == "a camera"
    assert kept.get_ifd(ExifTags.IFD.Exif)[Base.MakerNote] == note
    at = int.from_bytes(block[4:8], "big")
    tags = [
        entry[0]
        for entry in struct.iter_unpack(">H10x", block[at + 2 :][: 12 * int.from_bytes(block[at : at + 2], "big")])
    ]
    assert tags == sorted({*exif, 270, 282, 283, 296, 34665})  # TIFF requires that order


def png_with_texts():
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "A. Nonymous", zip=True)
    info.add_text("parameters", "steps 20")
    info.add_itxt("Title", "Hafen – für Anna", "de", "Titel")
    info.add_text("Raw profile type exif", "\nexif\n 2\n0000\n")
    info.add_itxt("XML:com.adobe.xmp", "<x/>")
    return file_of("PNG", pnginfo=info)


TEXTS = {"Author": "A. Nonymous", "parameters": "steps 20", "Title": "Hafen – für Anna"}
LINES = "Author: A. Nonymous\nparameters: steps 20\nTitle: Hafen – für Anna"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_png_texts(suffix):
    photograph = read_image(png_with_texts())
    assert photograph.texts == TEXTS
    assert left_out(f"a{suffix}", photograph) == []
    written = written_as(suffix, photograph)
    if suffix == ".png":
        texts = opened(written).text
        assert {key: texts[key] for key in TEXTS} == TEXTS
        assert set(texts) - set(TEXTS) == {"XML:com.adobe.xmp"}
        assert (texts["Title"].lang, texts["Title"].tkey) == ("de", "Titel")
    elif suffix == ".jpg":
        assert opened(written).info["comment"].decode() == LINES
    else:
        assert exif_of(suffix, written)[Base.ImageDescription].encode("latin-1").decode() == LINES


@pytest.mark.parametrize("kind", ["JPEG", "GIF"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_comments(kind, suffix):
    data = file_of(kind, comment="für Anna".encode("latin-1"))
    if kind == "JPEG":
        data = data[:2] + b"\xff\xfe\0\x09roll 7\0" + data[2:]
    expected = "roll 7\nfür Anna" if kind == "JPEG" else "für Anna"
    photograph = read_image(data)
    written = written_as(suffix, photograph)
    if suffix == ".png":
        assert opened(written).text == {"Comment": expected}
    elif suffix == ".jpg":
        assert opened(written).info["comment"].decode() == expected
    else:
        assert exif_of(suffix, written)[Base.ImageDescription].encode("latin-1").decode() == expected
    assert read_image(written).dpi is None


@pytest.mark.parametrize("suffix", [".tif", ".webp", ".avif", ".jxl"])
def test_a_description_is_not_replaced(suffix):
    exif = exif_with(ImageDescription="a title")
    photograph = read_image(file_of("JPEG", exif=exif, comment=b"roll 7"))
    (line,) = left_out(f"a{suffix}", photograph)
    assert "no room for its texts (Comment)" in line
    assert exif_of(suffix, written_as(suffix, photograph))[Base.ImageDescription] == "a title"
    empty = read_image(file_of("JPEG", exif=exif_with(ImageDescription="    "), comment=b"roll 7"))  # some cameras
    assert left_out(f"a{suffix}", empty) == []
    assert exif_of(suffix, written_as(suffix, empty))[Base.ImageDescription] == "roll 7"


def iptc_in(suffix, data):
    if suffix == ".tif":
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            return bytes(tiff.pages.first.tags[33723].value)
    if suffix == ".jpg":
        return opened(data).info["photoshop"][0x0404]
    kind, length, *digits = opened(data).text["Raw profile type iptc"].split()
    block = bytes.fromhex("".join(digits))
    assert (kind, int(length)) == ("iptc", len(block))
    assert block.startswith(b"8BIM\x04\x04\0\0" + struct.pack(">I", len(RECORDS)))
    return block[12 : 12 + len(RECORDS)]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "TIFF, words", "PNG"])
def test_iptc(kind, suffix):
    data = jpeg_with_iptc()
    if kind == "PNG":
        data = written_as(".png", read_image(data), (1, 1))
    elif kind.startswith("TIFF"):
        array, buffer = np.zeros((6, 8, 3), np.uint8), io.BytesIO()
        padded = RECORDS + bytes(-len(RECORDS) % 4)
        swapped = b"".join(padded[at : at + 4][::-1] for at in range(0, len(padded), 4))  # as old versions of libtiff
        tag = (33723, 4, len(padded) // 4, swapped, True) if "," in kind else (33723, 7, len(RECORDS), RECORDS, True)
        tifffile.imwrite(buffer, array, photometric="rgb", metadata=None, extratags=[tag])
        data = buffer.getvalue()
    photograph = read_image(data)
    assert left_out(f"a{suffix}", photograph) == []
    assert iptc_in(suffix, written_as(suffix, photograph)).rstrip(b"\0") == RECORDS


@pytest.mark.parametrize("suffix", [".webp", ".avif", ".jxl"])
def test_one_line_says_what_has_no_room(suffix):
    block = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(RECORDS)) + RECORDS + b"\0"
    exif = exif_with(ImageDescription="a title")
    photograph = read_image(jpeg_with(b"\xed", block, exif=exif, comment=b"roll 7"))
    name = {".webp": "WebP", ".avif": "AVIF", ".jxl": "JPEG XL"}[suffix]
    assert left_out(f"a{suffix}", photograph) == [f"{name} has no room for its texts (Comment) and its IPTC records"]


def test_segments_of_a_jpeg_file_hold_64_kib():
    photograph = read_image(file_of("PNG"))
    for length, lines in ((65_533, 0), (65_534, 1)):
        long = type(photograph)(**{**vars(photograph), "texts": {"Comment": "x" * length}})
        assert len(left_out("a.jpg", long)) == lines
        assert opened(written_as(".jpg", long)).info.get("comment") == (None if lines else b"x" * length)


@pytest.mark.parametrize(
    "profile", ["", "\niptc\n", "\niptc\n 4\nzz", "\niptc\n 8\n3842494d04040000ffffffff", "\niptc\n 2\n0000"]
)
def test_damaged_iptc_is_ignored(profile):
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type iptc", profile)
    assert read_image(file_of("PNG", pnginfo=info)).iptc is None
