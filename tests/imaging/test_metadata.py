"""EXIF and XMP are kept unchanged, except for orientation, size and thumbnail. Read back by Pillow and tifffile."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, PngImagePlugin

from blinddiff.errors import ImageError
from blinddiff.imaging import encode_image, read_image
from blinddiff.imaging.metadata import (
    exif_with_size,
    patch,
    read_directory,
    write_directory,
)
from blinddiff.imaging.png import without_large_chunks
from blinddiff.imaging.xmp import properties, upright_xmp, xmp_with_size

Base = ExifTags.Base
MAKER_NOTE = b"maker\0" + bytes(range(200))


def block(endian="<", orientation=6):
    exif = Image.Exif()
    exif.endian = endian
    exif[Base.Orientation] = orientation
    exif[Base.Model] = "a camera"
    exif[Base.Artist] = "someone"
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {
            Base.ExifImageWidth: 22,
            Base.ExifImageHeight: 13,
            Base.MakerNote: MAKER_NOTE,
            Base.ExposureBiasValue: -0.5,
            Base.UserComment: b"ASCII\0\0\0words",
        }
    )
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "S", 2: (1.0, 2.0, 3.5)})
    return exif.tobytes()


def jpeg(exif, **settings):
    return file_of("JPEG", exif, **settings)


def file_of(kind, exif, **settings):
    buffer = io.BytesIO()
    Image.new("RGB", (22, 13), "red").save(buffer, kind, exif=exif, **settings)
    return buffer.getvalue()


def exif_in(data):
    exif = Image.open(io.BytesIO(data)).getexif()
    return exif, exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo)


@pytest.mark.parametrize("endian", "<>")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".tif"])
def test_every_field_arrives(endian, suffix):
    photograph = read_image(jpeg(block(endian)))
    written = encode_image(f"a{suffix}", np.tile(photograph.pixels, (1, 300, 1)), photograph)
    main, details, place = exif_in(written)
    assert main[Base.Model] == "a camera"
    assert main[Base.Artist] == "someone"
    assert main.get(Base.Orientation, 1) == 1
    assert details[Base.ExifImageWidth] == 13
    assert details[Base.ExifImageHeight] == 6600
    assert details[Base.MakerNote] == MAKER_NOTE
    assert float(details[Base.ExposureBiasValue]) == -0.5
    assert details[Base.UserComment] == b"ASCII\0\0\0words"
    assert place == {1: "S", 2: (1.0, 2.0, 3.5)}


def test_nothing_in_the_block_moves():
    """Camera makers' notes point to absolute places."""
    before = block()
    after = read_image(jpeg(before)).exif
    assert len(after) == len(before)
    assert after.index(MAKER_NOTE) == before.index(MAKER_NOTE)
    assert sum(a != b for a, b in zip(after, before, strict=True)) <= 4  # orientation: its type, its value


def test_short_numbers_are_widened():
    short = block()  # Pillow writes 22 and 13 as 16-bit numbers or as 32-bit ones
    wide = exif_with_size(short, (100_000, 70_000))
    exif = Image.Exif()
    exif.load(wide)
    details = exif.get_ifd(ExifTags.IFD.Exif)
    assert (details[Base.ExifImageWidth], details[Base.ExifImageHeight]) == (100_000, 70_000)


def test_the_thumbnail_is_cut_off():
    """A block as cameras write it: a second directory with a small JPEG of the old picture."""
    thumbnail = b"\xff\xd8 a small picture \xff\xd9"
    entries = [(0x0112, 3, 1, 8)]
    first = struct.pack("<H", 1) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    second_place = 8 + len(first) + 4
    second = struct.pack("<H", 2)
    data_place = second_place + 2 + 24 + 4
    second += struct.pack("<HHII", 0x0201, 4, 1, data_place) + struct.pack("<HHII", 0x0202, 4, 1, len(thumbnail))
    exif = (
        b"Exif\0\0II*\0"
        + struct.pack("<I", 8)
        + first
        + struct.pack("<I", second_place)
        + second
        + bytes(4)
        + thumbnail
    )
    assert Image.open(io.BytesIO(jpeg(exif))).getexif().get_ifd(ExifTags.IFD.IFD1)  # Pillow sees it
    photograph = read_image(jpeg(exif))
    assert photograph.pixels.shape == (3, 22, 13)
    kept = Image.open(io.BytesIO(encode_image("a.jpg", photograph.pixels, photograph))).getexif()
    assert kept[Base.Orientation] == 1
    assert not kept.get_ifd(ExifTags.IFD.IFD1)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_descriptive_fields_of_a_tiff_are_kept(bigtiff, suffix):
    buffer = io.BytesIO()
    tags = [(33432, "s", 0, "© someone".encode(), True), (282, 5, 1, (300, 1), True)]
    array = np.zeros((6, 8, 3), np.uint16)
    tifffile.imwrite(
        buffer,
        array,
        photometric="rgb",
        bigtiff=bigtiff,
        extratags=tags,
        description="a title",
        metadata=None,
        software="x",
    )
    photograph = read_image(buffer.getvalue())
    written = encode_image(f"a{suffix}", photograph.pixels, photograph)
    if suffix == ".tif":
        with tifffile.TiffFile(io.BytesIO(written)) as file:
            found = {tag.name: tag.value for tag in file.pages.first.tags}
        assert found["Copyright"] == "© someone"
        assert found["ImageDescription"] == "a title"
        assert found["ImageWidth"] == 8
    else:
        exif = Image.open(io.BytesIO(written)).getexif()
        assert exif[Base.ImageDescription] == "a title"
        assert exif[Base.Copyright].encode("latin-1") == "© someone".encode()
        assert not {Base.StripOffsets, Base.Compression, Base.ImageWidth} & set(exif)


def test_structural_descriptions_are_dropped():
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((6, 8, 3), np.uint16), photometric="rgb")
    assert b"shape" in buffer.getvalue()
    photograph = read_image(buffer.getvalue())
    written = encode_image("a.tif", np.tile(photograph.pixels, (1, 2, 2)), photograph)
    assert b"shape" not in written
    assert tifffile.imread(io.BytesIO(written)).shape == (12, 16, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"Exif\0\0",
        b"Exif\0\0MM\0*\xff\xff\xff\xf0",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
        b"garbagegarbage",
        b"II*\0",
        b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0",  # BigTIFF
    ],
)
def test_images_with_damaged_exif_are_read(damage, kind):
    photograph = read_image(file_of(kind, damage))
    assert photograph.pixels.shape == (3, 13, 22)
    assert photograph.exif is None
    assert encode_image("a.jpg", photograph.pixels, photograph)


def test_loops_of_pointers_end():
    """The EXIF directory is the first one again."""
    entries = struct.pack("<HHII", 0x8769, 4, 1, 8)
    loop = b"II*\0" + struct.pack("<IH", 8, 1) + entries + struct.pack("<I", 8)
    directory = read_directory(loop)
    below = directory.fields[0x8769].directory
    assert below is not None
    assert 0x8769 not in below.fields
    assert patch(loop, lambda _, values: values) == loop[:-4] + bytes(4)  # the link to the thumbnail is removed
    assert write_directory(directory, 8)


def packet(style):
    if style == "attributes":
        body = (
            b'<rdf:Description tiff:Orientation="8" exif:PixelXDimension = "22" tiff:ImageLength=\'13\' x:Other="8"/>'
        )
    else:
        body = b"<tiff:Orientation>8</tiff:Orientation><exif:PixelXDimension> 22</exif:PixelXDimension><x>8</x>"
    return b"<x:xmpmeta>" + body + b"</x:xmpmeta>"


@pytest.mark.parametrize("style", ["attributes", "elements"])
def test_xmp_is_upright_and_of_the_new_size(style):
    upright = upright_xmp(packet(style), properties(packet(style)), 8)
    assert upright == packet(style).replace(b'Orientation="8"', b'Orientation="1"').replace(b">8</tiff", b">1</tiff")
    sized = xmp_with_size(upright, (88, 52))
    expected = upright.replace(b'"22"', b'"88"').replace(b"> 22<", b"> 88<").replace(b"'13'", b"'52'")
    assert sized == expected


@pytest.mark.parametrize("source", ["JPEG", "WEBP", "AVIF", "PNG", "TIFF"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".tif"])
def test_xmp_from_and_to_every_format(source, suffix):
    picture, buffer = Image.new("RGB", (22, 13), "red"), io.BytesIO()
    text = packet("elements").replace(b">8</tiff", b">1</tiff")  # Pillow would take it for the file's orientation
    if source == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", text.decode())
        picture.save(buffer, "PNG", pnginfo=info)
    elif source == "TIFF":
        tifffile.imwrite(buffer, np.asarray(picture), photometric="rgb", extratags=[(700, 1, len(text), text, True)])
    else:
        picture.save(buffer, source, xmp=text)
    photograph = read_image(buffer.getvalue())
    assert photograph.xmp == text
    written = Image.open(io.BytesIO(encode_image(f"a{suffix}", np.tile(photograph.pixels, (1, 1, 2)), photograph)))
    assert written.info["xmp"] == text.replace(b"> 22<", b"> 44<")


def test_a_profile_with_a_large_table_is_kept():
    large = b"profile" + np.random.default_rng(0).bytes(3 << 20)
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG", icc_profile=large)
    assert read_image(buffer.getvalue()).icc_profile == large


@pytest.mark.parametrize("kind", ["zTXt", "iTXt"])
@pytest.mark.parametrize("size", [1000, 3 << 20])
def test_a_long_compressed_text_beside_the_xmp(kind, size):
    info = PngImagePlugin.PngInfo()
    long = ("words " * size)[:size]
    info.add_itxt("XML:com.adobe.xmp", f"<x:xmpmeta>{long}</x:xmpmeta>", zip=True)
    if kind == "iTXt":
        info.add_itxt("Comment", long, "en", "Kommentar", zip=True)
    else:
        info.add_text("Comment", long, zip=True)
    buffer = io.BytesIO()
    Image.new("RGB", (4, 5), (9, 99, 199)).save(buffer, "PNG", pnginfo=info)
    photograph = read_image(buffer.getvalue())
    assert photograph.xmp == f"<x:xmpmeta>{long}</x:xmpmeta>".encode()
    assert (photograph.pixels[:, 4, 3] * 255).tolist() == [9, 99, 199]
    whole, profile = without_large_chunks(buffer.getvalue())
    assert profile is None
    assert (whole == buffer.getvalue()) == (size == 1000)
    with Image.open(io.BytesIO(whole)) as picture:  # checks the sums of the chunks
        picture.load()
        assert picture.text["Comment"] == long
        if kind == "iTXt":
            assert (picture.text["Comment"].lang, picture.text["Comment"].tkey) == ("en", "Kommentar")


def test_many_long_texts_are_not_all_unpacked():
    body = b"zTXtComment\0\0" + zlib.compress(bytes(15 << 20))
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    file = imagecodecs.png_encode(np.zeros((5, 4, 3), np.uint8))
    whole, _ = without_large_chunks(file[:33] + 50 * chunk + file[33:])
    assert 4 * (15 << 20) < len(whole) < 66 << 20
    with pytest.raises(ImageError, match="too large"):
        read_image(file[:33] + 50 * chunk + file[33:])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("early", ["", "eXIf", "iTXt"])
def test_png_metadata_after_the_pixels(kind, early):
    """As ExifTool writes them; and with one of the two before."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    file = imagecodecs.png_encode(np.zeros((5, 4, 3), kind))
    chunks = {
        "eXIf": chunk(b"eXIf", block().removeprefix(b"Exif\0\0")),
        "iTXt": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta>words</x:xmpmeta>"),
    }
    end = file.index(b"IEND") - 4
    before = chunks.pop(early, b"")
    photograph = read_image(file[:33] + before + file[33:end] + b"".join(chunks.values()) + file[end:])
    assert photograph.bit_depth == 8 * np.dtype(kind).itemsize
    assert photograph.pixels.shape == (3, 4, 5)  # rotated
    assert photograph.xmp == b"<x:xmpmeta>words</x:xmpmeta>"
    assert b"a camera" in photograph.exif
