"""XMP and EXIF say nothing that is true only of the photograph. Read back by another XML parser and Pillow."""

import io
import struct
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from blinddiff.imaging import encode_image, read_image
from blinddiff.imaging.metadata import exif_with_size
from blinddiff.imaging.xmp import properties, upright_xmp, xmp_with_size

WIDTH, HEIGHT = 20, 10
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
GOOGLE = "http://ns.google.com/photos/1.0/"
GONE = {
    "video": f'xmlns:g="{GOOGLE}camera/" g:MotionPhoto="1" g:MotionPhotoVersion="1" g:MicroVideoOffset="99"',
    "HDR gain map": 'xmlns:g="http://ns.adobe.com/hdr-gain-map/1.0/" g:Version="1.0"',
    "depth map": f'xmlns:g="{GOOGLE}depthmap/" g:Near="1.5"',
    "extended XMP": 'xmlns:g="http://ns.adobe.com/xmp/note/" g:HasExtendedXMP="0123456789ABCDEF"',
}


def packet(attributes="", elements=""):
    return (
        f'<?xpacket begin="\ufeff" id="W5M0"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="{RDF}">'
        f"<r:Description {attributes}><k:kept xmlns:k='a:b'>2 &lt; 3, für Anna</k:kept>{elements}"
        '</r:Description></r:RDF></x:xmpmeta>   <?xpacket end="w"?>'
    ).encode()


def photograph_with(xmp, orientation=1):
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", (WIDTH, HEIGHT), "red").save(buffer, "JPEG", xmp=xmp, exif=exif)
    return read_image(buffer.getvalue())


def enlarged(photograph):
    """The packet of a result that is three times as wide and twice as high."""
    pixels = photograph.pixels.repeat(3, 2).repeat(2, 1)
    return Image.open(io.BytesIO(encode_image("a.jpg", pixels, photograph))).info["xmp"]


def values_in(xmp):
    """Local names and values of all attributes and leaves, by a parser that is not the package's."""
    found = {}
    for element in ElementTree.fromstring(xmp.rstrip(b"\0")).iter():
        pairs = [*element.attrib.items(), (element.tag, element.text or "")]
        found.update({key.partition("}")[2]: value for key, value in pairs})
    return found


@pytest.mark.parametrize("part", GONE)
def test_parts_that_are_gone_are_no_longer_described(part):
    xmp = packet(GONE[part] + ' xmlns:o="a:c" o:Version="7"')
    photograph = photograph_with(xmp)
    assert photograph.notes == (f"its {part} is left out",)
    found = values_in(photograph.xmp)
    assert not {"MotionPhoto", "MotionPhotoVersion", "MicroVideoOffset", "Near", "HasExtendedXMP"} & set(found)
    assert found["Version"] == "7"
    assert found["kept"] == "2 < 3, für Anna"


def test_a_video_that_only_follows_is_mentioned():
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT)).save(buffer, "JPEG")
    assert read_image(buffer.getvalue()).notes == ()
    assert read_image(buffer.getvalue() + b"\0\0\0\x18ftypmp42" + bytes(90)).notes == ("its video is left out",)


def test_a_directory_of_items_and_thumbnails_are_removed():
    semantic = f'xmlns:I="{GOOGLE}container/item/" I:Semantic="MotionPhoto"'
    item = f'<r:li r:parseType="Resource"><C:Item {semantic} I:Length="9"/></r:li>'
    directory = f'<C:Directory xmlns:C="{GOOGLE}container/"><r:Seq>{item}</r:Seq></C:Directory>'
    thumbnails = '<p:Thumbnails xmlns:p="http://ns.adobe.com/xap/1.0/"><r:Alt><r:li>AAAA</r:li></r:Alt></p:Thumbnails>'
    photograph = photograph_with(packet(elements=directory + "<k:more xmlns:k='a:b'/>" + thumbnails))
    assert photograph.xmp == packet(elements="<k:more xmlns:k='a:b'/>")
    assert photograph.notes == ("its video is left out",)


def test_another_kind_of_image_behind_the_photograph_is_mentioned():
    """Two views of a stereo camera, as Pillow writes them; thumbnails in the index need no mention."""
    buffer = io.BytesIO()
    first, second = Image.new("RGB", (WIDTH, HEIGHT)), Image.new("RGB", (WIDTH, HEIGHT), "red")
    first.save(buffer, "MPO", save_all=True, append_images=[second])
    data = buffer.getvalue()
    assert read_image(data).notes == ("has 1 more image, which is not read",)
    entries = Image.open(io.BytesIO(data)).mpinfo[0xB002]
    assert len(entries) == 2
    entry = struct.pack("<II", 0, entries[1]["Size"])
    thumbnail = struct.pack("<II", 0x10001, entries[1]["Size"])
    assert data.count(entry) == 1
    assert read_image(data.replace(entry, thumbnail)).notes == ()


@pytest.mark.parametrize("style", ["attributes", "elements"])
def test_what_counts_pixels_is_scaled(style):
    spaces = f"""xmlns:P="{GOOGLE}panorama/" xmlns:m="http://www.metadataworkinggroup.com/schemas/regions/"
        xmlns:d="http://ns.adobe.com/xap/1.0/sType/Dimensions#" xmlns:t="http://ns.adobe.com/tiff/1.0/"
        xmlns:e="http://ns.adobe.com/exif/1.0/" """
    numbers = {
        "P:FullPanoWidthPixels": ("40", "120"),
        "P:FullPanoHeightPixels": ("20", "40"),
        "P:CroppedAreaLeftPixels": ("7", "21"),
        "P:CroppedAreaTopPixels": ("3", "6"),
        "P:CroppedAreaImageWidthPixels": ("20", "60"),
        "P:PoseHeadingDegrees": ("20", "20"),
        "t:ImageWidth": ("20", "60"),
        "e:PixelYDimension": ("10", "20"),
        "e:FocalPlaneXResolution": ("5000/2", "7500/1"),
        "t:XResolution": ("720000/10000", "216/1"),
        "t:YResolution": ("72", "144"),
        "e:SubjectDistance": ("20", "20"),
    }
    if style == "attributes":
        pairs = " ".join(f'{name}="{old}"' for name, (old, _) in numbers.items())
        sides = '<m:AppliedToDimensions d:w="20" d:h="10" d:unit="pixel"/>'
        xmp = packet(spaces + pairs, f'<m:Regions r:parseType="Resource">{sides}</m:Regions>')
    else:
        pairs = "".join(f"<{name}> {old}\n</{name}>" for name, (old, _) in numbers.items())
        sides = '<m:AppliedToDimensions r:parseType="Resource"><d:w>20</d:w><d:h>10</d:h></m:AppliedToDimensions>'
        xmp = packet(spaces, pairs + sides)
    photograph = photograph_with(xmp)
    assert photograph.xmp == xmp
    found = values_in(enlarged(photograph))
    for name, (_, new) in numbers.items():
        assert found[name[2:]].strip() == new, name
    assert (found["w"], found["h"]) == ("60", "20")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_regions_turn_with_the_pixels(orientation):
    """The centre of a region is the place of a white pixel."""
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[2, 15] = 255
    area = 'a:x="0.775" a:y="0.25" a:w="0.05" a:h="0.1" a:unit="normalized"'
    spaces = (
        'xmlns:a="http://ns.adobe.com/xmp/sType/Area#" xmlns:d="http://ns.adobe.com/xap/1.0/sType/Dimensions#" '
        'xmlns:m="http://www.metadataworkinggroup.com/schemas/regions/" xmlns:t="http://ns.adobe.com/tiff/1.0/"'
    )
    dimensions = '<m:AppliedToDimensions d:w="20" d:h="10"/>'
    xmp = packet(f'{spaces} t:Orientation="{orientation}"', dimensions + f"<m:Area {area}/>")
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.Exif)[0x9214] = (15, 2, 4, 6)  # the subject: place and size
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, xmp=xmp, exif=exif)
    photograph = read_image(buffer.getvalue())
    height, width = photograph.pixels.shape[1:]
    row, column = divmod(int(photograph.pixels[0].argmax()), width)
    found = values_in(photograph.xmp)
    assert found["Orientation"] == "1"
    assert (float(found["x"]) * width, float(found["y"]) * height) == pytest.approx((column + 0.5, row + 0.5))
    turned = orientation > 4
    assert (found["AppliedToDimensions"], float(found["w"])) == ("", 0.1 if turned else 0.05)
    assert f'd:w="{width}" d:h="{height}"'.encode() in photograph.xmp
    kept = Image.Exif()
    kept.load(photograph.exif)
    x, y, *sides = kept.get_ifd(ExifTags.IFD.Exif)[0x9214]
    assert abs(x - column) <= 1
    assert abs(y - row) <= 1
    assert sides == ([6, 4] if turned else [4, 6])


def test_exif_that_counts_pixels_is_scaled():
    exif = Image.Exif()
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[0x9214] = (15, 2, 4)  # a circle: place and diameter
    details[ExifTags.Base.SubjectLocation] = (15, 2)
    details[ExifTags.Base.FocalPlaneXResolution] = IFDRational(5001, 2)
    details[ExifTags.Base.ExposureTime] = 0.5
    scaled = Image.Exif()
    scaled.load(exif_with_size(exif.tobytes(), (60, 20), (3, 2), (3, 2)))
    details = scaled.get_ifd(ExifTags.IFD.Exif)
    assert details[0x9214] == (45, 4, 12)
    assert details[ExifTags.Base.SubjectLocation] == (45, 4)
    assert details[ExifTags.Base.FocalPlaneXResolution] == 7501.5
    assert details[ExifTags.Base.ExposureTime] == 0.5


@pytest.mark.parametrize(
    "damaged",
    [
        b"<x:xmpmeta",
        b"words",
        packet()[:-40],
        b"<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>",
        b"<a>" * 101 + b"</a>" * 101,
        packet().replace(b"f\xc3", b"f\xff"),
    ],
)
def test_a_damaged_packet_is_left_out(damaged):
    photograph = photograph_with(damaged)
    assert photograph.xmp is None
    assert photograph.notes == ("its XMP (it is damaged) is left out",)


def test_a_packet_that_says_nothing_of_the_kind_stays_byte_by_byte():
    xmp = packet("a:b = '1' c='>'", "<a/><b  c = 'd' />\n<!-- x:y='2' --><e>]]&gt;</e>") + b"  \0\0"
    assert upright_xmp(xmp, properties(xmp), 6) == xmp
    assert xmp_with_size(xmp, (9, 9), (2, 2)) == xmp
