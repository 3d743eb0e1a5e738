"""Containers and pixels that need more than a decoder: brands, palettes, inks, chroma, declared colours, pages."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from blinddiff.errors import ImageError
from blinddiff.imaging import encode_image, image_format, read_image


def as_bytes(photograph):
    return (photograph.pixels.transpose(1, 2, 0) * 255).round().astype(int)


def plain_tiff(strip, **tags):
    """A TIFF file of one strip. Tags are numbers or tuples of 16-bit numbers, by name."""
    names = {name: tifffile.TIFF.TAGS[name] for name in tags}
    fields = {names[name]: np.atleast_1d(value) for name, value in tags.items()}
    fields |= {273: np.array([8]), 279: np.array([len(strip)])}
    end = 8 + len(strip) + len(strip) % 2
    values, directory = b"", struct.pack("<H", len(fields))
    for tag, numbers in sorted(fields.items()):
        kind, layout = (4, "<I") if tag in (273, 279, 513, 514) else (3, "<H")
        packed = b"".join(struct.pack(layout, number) for number in numbers)
        if len(packed) > 4:
            offset = end + 2 + 12 * len(fields) + 4 + len(values)
            packed, values = struct.pack("<I", offset), values + packed
        directory += struct.pack("<HHI", tag, kind, len(numbers)) + packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", end) + strip + bytes(len(strip) % 2) + directory + bytes(4) + values


@pytest.mark.parametrize("brand", [b"avif", b"mif1", b"miaf"])
def test_avif_is_known_by_its_compatible_brands(brand, colours, encode):
    data = encode(Image.fromarray(colours), "AVIF", quality=100, subsampling="4:4:4")
    assert data[4:12] == b"ftypavif"
    other = read_image(data[:8] + brand + data[12:])
    assert other.file_format == "AVIF"
    np.testing.assert_array_equal(as_bytes(other), as_bytes(read_image(data)))


def test_brands_of_other_files():
    def name(*brands):
        data = struct.pack(">I", 12 + 4 * len(brands)) + b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
        kind = image_format(data + b"avif")  # behind the box
        return kind and kind.name

    assert name(b"heic", b"mif1", b"avif") == "HEIF"
    assert name(b"mif1", b"miaf", b"heix") == "HEIF"
    assert name(b"mif1", b"miaf") == "HEIF"
    assert name(*[b"mif1"] * 12, b"avis") == "AVIF"
    assert name(b"isom", b"mp41") is None


def test_tiff_with_a_palette_of_two_colours():
    bits = np.zeros((24, 32), np.uint8)
    bits[4:20, 6:26] = 1
    palette = (0, 65535, 0, 40000, 20000, 0)
    size = {"ImageWidth": 32, "ImageLength": 24, "RowsPerStrip": 24, "BitsPerSample": 1, "SamplesPerPixel": 1}
    kind = {"PhotometricInterpretation": 3, "Compression": 1, "ColorMap": palette}
    data = plain_tiff(np.packbits(bits, axis=1).tobytes(), **size, **kind)
    photograph = read_image(data)
    np.testing.assert_array_equal(as_bytes(photograph), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert (photograph.mode, photograph.grey) == ("P", False)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_ycbcr_tiff_with_subsampled_chroma(orientation):
    y, cb, cr = (np.random.default_rng(seed).integers(60, 190, (3, 4)) for seed in range(3))
    blocks = [[*[value] * 4, blue, red] for value, blue, red in zip(y.flat, cb.flat, cr.flat, strict=True)]
    data = plain_tiff(
        bytes(np.array(blocks, np.uint8)),
        ImageWidth=8,
        ImageLength=6,
        RowsPerStrip=6,
        BitsPerSample=(8, 8, 8),
        SamplesPerPixel=3,
        PhotometricInterpretation=6,
        Compression=1,
        YCbCrSubSampling=(2, 2),
        Orientation=orientation,
    )
    red = y + 1.402 * (cr - 128)
    blue = y + 1.772 * (cb - 128)
    green = (y - 0.299 * red - 0.114 * blue) / 0.587  # CCIR 601
    expected = np.stack([red, green, blue], -1).clip(0, 255).repeat(2, 0).repeat(2, 1)
    expected = {1: expected, 3: expected[::-1, ::-1], 6: np.rot90(expected, -1)}[orientation]
    assert np.abs(as_bytes(read_image(data)) - expected).max() <= 2


def test_old_style_jpeg_tiff(encode):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (2, 3, 3), np.uint8)).resize((48, 32))
    jpeg = encode(picture, "JPEG", quality=95, subsampling=0)
    size = {"ImageWidth": 48, "ImageLength": 32, "RowsPerStrip": 32, "BitsPerSample": (8, 8, 8), "SamplesPerPixel": 3}
    kind = {"PhotometricInterpretation": 6, "Compression": 6, "YCbCrSubSampling": (1, 1), "JPEGProc": 1}
    data = plain_tiff(jpeg, **size, **kind, JPEGInterchangeFormat=8, JPEGInterchangeFormatLength=len(jpeg))
    assert np.abs(as_bytes(read_image(data)) - as_bytes(read_image(jpeg))).max() <= 3


def test_ycbcr_of_16_bits_is_refused_by_name():
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((8, 8, 3), np.uint16), photometric="ycbcr")
    with pytest.raises(ImageError, match="YCBCR of 16 bits"):
        read_image(buffer.getvalue())


INKS = np.array(np.meshgrid([0, 1], [0, 1], [0, 1], [0, 1], indexing="ij")).reshape(4, 16).T
LAB = np.stack(
    [
        100 - INKS @ [15, 12, 5, 55] + 0.0,
        12.0 * (INKS[:, 1] - INKS[:, 0]) * (1 - INKS[:, 3]),
        14.0 * (INKS[:, 2] - INKS[:, 0] / 2) * (1 - INKS[:, 3]),
    ],
    -1,
)
"""CIE Lab, under D50, of each combination of full inks in `ink_profile`."""


def ink_profile():
    """An ICC profile for CMYK with the colours `LAB`, in a table of 2 x 2 x 2 x 2 entries (mft1)."""
    identity, stored = bytes(range(256)), np.stack([LAB[:, 0] * 2.55, LAB[:, 1] + 128, LAB[:, 2] + 128], -1).round()
    matrix = struct.pack(">9i", *(65536 * np.eye(3)).astype(int).ravel())
    table = (
        b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + identity * 4 + bytes(stored.astype(np.uint8)) + identity * 3
    )
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"inks\0" + bytes(78)
    entries, body = b"", b""
    for tag, data in ((b"A2B0", table), (b"wtpt", white), (b"desc", text)):
        entries += struct.pack(">4sII", tag, 128 + 4 + 36 + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = bytearray(128)
    head[0:4] = struct.pack(">I", 128 + 40 + len(body))
    head[8:12], head[12:24], head[36:40] = b"\2\x10\0\0", b"prtrCMYKLab ", b"acsp"
    head[68:80] = white[8:]
    return bytes(head) + struct.pack(">I", 3) + entries + body


def srgb_of_lab(lab):
    """8-bit sRGB of (N, 3) Lab under D50, by the formulas of CIE and Bradford's adaptation to D65."""
    fy = (lab[:, 0] + 16) / 116
    f = np.stack([fy + lab[:, 1] / 500, fy, fy - lab[:, 2] / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1, 0.8249]
    matrix = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    light = (xyz @ np.transpose(matrix)).clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_cmyk_tiff_is_converted_through_its_profile(kind):
    array = (INKS.reshape(4, 4, 4) * np.iinfo(kind).max).astype(kind)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, photometric="separated", iccprofile=ink_profile(), planarconfig="contig")
    photograph = read_image(buffer.getvalue())
    assert np.abs(as_bytes(photograph).reshape(16, 3) - srgb_of_lab(LAB)).max() <= 3
    assert (photograph.mode, photograph.icc_profile, photograph.grey) == ("CMYK", None, False)
    assert photograph.notes == ("CMYK was converted to sRGB through its colour profile",)


def test_cmyk_jpeg_is_converted_through_its_profile(encode):
    inks = Image.fromarray((INKS.reshape(4, 4, 4) * 255).astype(np.uint8).repeat(16, 0).repeat(16, 1), "CMYK")
    data = encode(inks, "JPEG", quality=100, icc_profile=ink_profile())
    found = as_bytes(read_image(data))[8::16, 8::16].reshape(16, 3)
    assert np.abs(found - srgb_of_lab(LAB)).max() <= 4
    managed = ImageCms.profileToProfile(
        Image.open(io.BytesIO(data)), io.BytesIO(ink_profile()), ImageCms.createProfile("sRGB"), 1, outputMode="RGB"
    )
    assert np.abs(as_bytes(read_image(data)) - np.asarray(managed)).max() <= 2


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
@pytest.mark.parametrize("profile", [None, b"damaged"])
def test_cmyk_without_a_profile_is_what_pillow_makes_of_it(kind, profile, colours, encode):
    picture = Image.fromarray(np.dstack([colours, colours[..., 0] // 2]), "CMYK")
    data = encode(picture, kind, **({} if profile is None else {"icc_profile": profile}))
    photograph = read_image(data)
    assert np.abs(as_bytes(photograph) - np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))).max() <= 1
    (note,) = photograph.notes
    assert ("has no colour profile" if profile is None else "damaged") in note


def png_with(chunks, array):
    data = imagecodecs.png_encode(array)
    added = [
        struct.pack(">I", len(value)) + kind + value + struct.pack(">I", zlib.crc32(kind + value))
        for kind, value in chunks
    ]
    return data[:33] + b"".join(added) + data[33:]


def gamma_chunk(value):
    return b"gAMA", struct.pack(">I", value)


P3 = (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))
BT709 = (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))


@pytest.mark.parametrize("channels", [1, 3])
def test_gamma_of_png_becomes_a_profile(channels):
    ramp = np.repeat(np.arange(0, 256, 5, dtype=np.uint8)[None, :, None], 9, 0).repeat(channels, 2).squeeze()
    photograph = read_image(png_with([gamma_chunk(100000)], ramp))
    light = np.arange(0, 256, 5) / 255
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(photograph.pixels[0, 0], 0.95 * srgb + 0.05 * light, atol=3e-3)  # see `MIN_SLOPE`
    written = Image.open(io.BytesIO(encode_image("a.png", photograph.pixels, photograph)))
    np.testing.assert_array_equal(np.asarray(written), ramp)
    # A viewer that honours the profile shows the light that the file declared.
    profile = ImageCms.getOpenProfile(io.BytesIO(written.info["icc_profile"]))
    shown = ImageCms.profileToProfile(written, profile, ImageCms.createProfile("sRGB"), 1, outputMode="RGB")
    # The 8-bit conversion of grey is inexact near black.
    assert np.abs(np.asarray(shown)[0, :, 0] - 255 * srgb)[2:].max() <= 2


def test_primaries_of_png_become_a_profile():
    array = np.random.default_rng(1).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    photograph = read_image(png_with([gamma_chunk(45455), P3], array))
    profile = ImageCms.getOpenProfile(io.BytesIO(photograph.icc_profile)).profile
    np.testing.assert_allclose(profile.red_colorant[0], (0.5151, 0.2412, -0.0011), atol=2e-3)  # Apple's Display P3
    written = Image.open(io.BytesIO(encode_image("a.png", photograph.pixels, photograph)))
    np.testing.assert_array_equal(np.asarray(written), array)


@pytest.mark.parametrize(
    "chunks",
    [
        [gamma_chunk(45455)],
        [gamma_chunk(45455), BT709],
        [BT709],
        [(b"sRGB", b"\0"), gamma_chunk(100000), P3],
        [(b"cICP", bytes([1, 13, 0, 1])), gamma_chunk(100000)],
        [gamma_chunk(0)],
        [(b"cHRM", bytes(32))],
    ],
)
def test_chunks_that_declare_srgb_or_nothing(chunks):
    array = np.random.default_rng(1).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    assert read_image(png_with(chunks, array)).icc_profile is None


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_one_page_of_several(bigtiff, byteorder):
    pages = [np.random.default_rng(seed).integers(0, 256, (9 + seed, 12, 3), dtype=np.uint8) for seed in range(3)]
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=bigtiff, byteorder=byteorder) as writer:
        for number, page in enumerate(pages, 1):
            compression = "lzw" if number == 2 else None
            writer.write(page, photometric="rgb", software=f"page {number}", compression=compression, metadata=None)
            writer.write(page[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
    data = buffer.getvalue()
    for number, page in enumerate(pages, 1):
        photograph = read_image(data, page=number)
        np.testing.assert_array_equal(as_bytes(photograph), page)
        assert b"page %d" % number in photograph.exif
    for number in (0, 4):
        with pytest.raises(ImageError, match=f"has no page {number}: it has 3 pages"):
            read_image(data, page=number)
    with pytest.raises(ImageError, match="has 3 pages"):
        read_image(data)


def test_pages_of_other_formats(colours, encode):
    data = encode(Image.fromarray(colours))
    np.testing.assert_array_equal(as_bytes(read_image(data, page=1)), colours)
    with pytest.raises(ImageError, match="has no page 2: only TIFF"):
        read_image(data, page=2)


def test_heic_without_the_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"is a HEIC file; .*pip install 'blinddiff\[heic\]'"):
        read_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [8, 10])
def test_heic(channels, bits, tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    smooth = np.linspace(0.1, 0.9, 64 * 48 * channels).reshape(48, 64, channels).squeeze()
    kind = np.uint8 if bits == 8 else np.uint16
    array = (smooth * np.iinfo(kind).max).round().astype(kind)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels] + ("" if bits == 8 else ";16")
    file = pillow_heif.from_bytes(mode, (64, 48), array.tobytes())
    exif = Image.Exif()
    exif[274], exif[272] = 6, "a camera"
    file.save(tmp_path / "a.heic", quality=100, chroma=444, exif=exif.tobytes(), icc_profile=ink_profile())
    photograph = read_image(tmp_path / "a.heic")
    assert (photograph.file_format, photograph.grey) == ("HEIF", channels == 1)
    assert photograph.bit_depth == {8: 8, 10: 16}[bits]
    planes = smooth[None] if channels == 1 else smooth.transpose(2, 0, 1)
    turned = np.rot90(planes, -1, (1, 2))  # as the orientation says
    found = photograph.pixels[:1] if channels == 1 else photograph.pixels
    np.testing.assert_allclose(found, turned[:3], atol=0.02)
    if channels == 4:
        np.testing.assert_allclose(photograph.alpha, turned[3:], atol=0.02)
    assert photograph.icc_profile == ink_profile()
    assert b"a camera" in photograph.exif
