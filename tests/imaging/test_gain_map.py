"""Ultra HDR JPEG files: libultrahdr, which does not share code with the package, makes and decodes them."""

import io
import re
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from blinddiff.imaging import encode_image, left_out, read_image

HEIGHT, WIDTH = 48, 96


@pytest.fixture(scope="module")
def ultra_hdr():
    """A file with light up to three times white on the right, and metadata of ISO 21496-1 alone."""
    row, column = np.mgrid[0:HEIGHT, 0:WIDTH]
    light = np.ones((HEIGHT, WIDTH, 4), np.float16)
    light[..., :3] = np.stack([0.1 + column / WIDTH * 3, 0.1 + row / HEIGHT * 2, 0.2 + 0 * row], -1)
    return imagecodecs.ultrahdr_encode(light)


def pieces(data):
    """The photograph and the gain map, by the second start of a JPEG file."""
    at = data.index(b"\xff\xd8\xff", 2)
    return data[:at], data[at:]


def bare(jpeg):
    """A JPEG file without APP2 segments, so without what announces a gain map."""
    at, parts = 2, [jpeg[:2]]
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        parts += [jpeg[at:end]] * (jpeg[at + 1] != 0xE2)
        at = end
    return b"".join([*parts, jpeg[at:]])


def with_xmp(jpeg, body):
    rdf = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    packet = (
        b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/">' + rdf + body + b"</rdf:RDF></x:xmpmeta>"
    )
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(packet) + 2) + packet + jpeg[2:]


def as_android_writes_it(ultra_hdr):
    """A file whose gain map is announced by XMP alone, without an index."""
    first, gain_map = pieces(ultra_hdr)
    limits = (
        b'hdrgm:GainMapMin="0" hdrgm:GainMapMax="5.622" hdrgm:Gamma="1" hdrgm:OffsetSDR="0" '
        b'hdrgm:OffsetHDR="0" hdrgm:HDRCapacityMin="0" hdrgm:HDRCapacityMax="5.622" '
        b'hdrgm:BaseRenditionIsHDR="False"'
    )
    gain_map = with_xmp(
        bare(gain_map), b'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" %s/>' % limits
    )
    items = (
        b'<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="Primary" Item:Mime="image/jpeg"/></rdf:li>'
        b'<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="GainMap" Item:Mime="image/jpeg" '
        b'Item:Length="%d"/></rdf:li>'
    ) % len(gain_map)
    spaces = (
        b'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" '
        b'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
        b'xmlns:Item="http://ns.google.com/photos/1.0/container/item/" hdrgm:Version="1.0">'
    )
    directory = b"<Container:Directory><rdf:Seq>" + items + b"</rdf:Seq></Container:Directory></rdf:Description>"
    return with_xmp(bare(first), spaces + directory) + gain_map


def enlarged(photograph, suffix=".jpg"):
    pixels = photograph.pixels.repeat(2, 1).repeat(2, 2)
    return encode_image(f"a{suffix}", pixels, photograph)


def light_of(data):
    return imagecodecs.ultrahdr_decode(data)[..., :3].astype(np.float64)


@pytest.mark.parametrize("kind", ["ISO", "XMP"])
def test_the_result_has_the_light_of_the_photograph(ultra_hdr, kind):
    data = ultra_hdr if kind == "ISO" else as_android_writes_it(ultra_hdr)
    before = light_of(data)
    assert before.max() > 2
    photograph = read_image(data)
    assert photograph.notes == ()
    written = enlarged(photograph)
    after = light_of(written)
    assert after.shape == (2 * HEIGHT, 2 * WIDTH, 3)
    means = after.reshape(HEIGHT, 2, WIDTH, 2, 3).mean((1, 3))
    assert np.abs(means - before).mean() < 0.02
    assert read_image(written).gain_map == photograph.gain_map == pieces(data)[1]  # also found in a result


def test_index_and_directory_lead_to_the_gain_map(ultra_hdr):
    written = enlarged(read_image(as_android_writes_it(ultra_hdr)))
    first, gain_map = pieces(written)
    index = Image.open(io.BytesIO(written))._getmp()[0xB002]
    assert [entry["Size"] for entry in index] == [len(first), len(gain_map)]
    assert written.index(b"MPF\0") + 4 + index[1]["DataOffset"] == len(first)
    xmp = Image.open(io.BytesIO(written)).info["xmp"]
    assert re.findall(rb'Item:Length="(\d+)"', xmp) == [b"%d" % len(gain_map)]
    assert xmp.count(b"Version=") == 1


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_rotated_gain_map(ultra_hdr, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    block = exif.tobytes()
    first, gain_map = pieces(ultra_hdr)
    rotated = first[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + first[2:] + gain_map
    shift = len(block) + 4  # behind the index or before it, the offset in the index counts from the index
    at = rotated.index(b"MPF\0")
    assert at - ultra_hdr.index(b"MPF\0") == shift
    photograph = read_image(rotated)
    turned = Image.open(io.BytesIO(photograph.gain_map))
    stored = Image.open(io.BytesIO(gain_map))
    expected = stored.transpose({3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270}[orientation])
    assert turned.size == expected.size
    assert np.abs(np.asarray(turned, float) - np.asarray(expected, float)).mean() < 2
    quarter_turns = {3: 2, 6: 3}[orientation]
    after, before = light_of(enlarged(photograph))[::2, ::2], np.rot90(light_of(ultra_hdr), quarter_turns)
    assert np.abs(after - before).mean() < 0.05


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".avif", ".jxl"])
def test_other_formats_have_no_room(ultra_hdr, suffix):
    photograph = read_image(as_android_writes_it(ultra_hdr))
    (line,) = left_out(f"a{suffix}", photograph)
    assert "HDR gain map" in line
    assert left_out("a.jpg", photograph) == []
    written = enlarged(photograph, suffix)
    assert b"GainMap" not in written
    assert b"Version=" not in (read_image(written).xmp or b"")


def test_a_gain_map_that_is_damaged_is_left_out(ultra_hdr):
    photograph = read_image(as_android_writes_it(ultra_hdr)[:-10])  # the length leads to another place
    assert photograph.gain_map is None
    assert photograph.notes == ("its HDR gain map is left out",)
    assert b"Version=" not in photograph.xmp
