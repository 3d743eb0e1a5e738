"""What a file says of its photograph: EXIF and XMP, kept as they are but for orientation and size."""

import re
import struct

from PIL import ExifTags, Image

from blinddiff.imaging.directory import Directory, header, patch, read_directory, write_directory

EXIF_MARK = b"Exif\0\0"
XMP_TAG, ICC_TAG, ORIENTATION_TAG = 700, 34675, 274  # of a TIFF file
_UPRIGHT = 1
_WIDTHS = (ExifTags.Base.ImageWidth, ExifTags.Base.ExifImageWidth)
_HEIGHTS = (ExifTags.Base.ImageLength, ExifTags.Base.ExifImageHeight)

# A TIFF's EXIF block is the file's whole directory: these describe the photograph, the rest the storing of pixels.
DESCRIPTIVE_TAGS = frozenset(
    {
        ExifTags.Base.ImageDescription,
        ExifTags.Base.Make,
        ExifTags.Base.Model,
        ExifTags.Base.XResolution,
        ExifTags.Base.YResolution,
        ExifTags.Base.ResolutionUnit,
        ExifTags.Base.Software,
        ExifTags.Base.DateTime,
        ExifTags.Base.Artist,
        ExifTags.Base.HostComputer,
        ExifTags.Base.Rating,
        ExifTags.Base.RatingPercent,
        ExifTags.Base.Copyright,
        ExifTags.Base.ExifOffset,
        ExifTags.Base.GPSInfo,
        ExifTags.Base.XPTitle,
        ExifTags.Base.XPComment,
        ExifTags.Base.XPAuthor,
        ExifTags.Base.XPKeywords,
        ExifTags.Base.XPSubject,
    }
)


def exif_orientation(picture: Image.Image) -> object:
    """Return the orientation that a picture's EXIF block states, of whatever type; None if none can be read.

    As for `upright_exif`, a damaged block must not cost the photograph.
    """
    try:
        return picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # noqa: BLE001 - Pillow's reader fails in any way
        return None


def upright_exif(picture: Image.Image) -> bytes | None:
    """Return the EXIF block of a picture that is not a TIFF, its orientation set to upright, without its thumbnail.

    None if there is none, or if it cannot be read: a damaged block, however it fails, must not cost the photograph.
    """
    try:
        block = picture.info.get("exif")
        if not block:
            exif = picture.getexif()  # such as the hexadecimal text of ImageMagick's PNG files
            block = exif.tobytes() if len(exif) else b""
        block = bytes(block).removeprefix(EXIF_MARK)
        if not block:
            return None
        read_directory(block)
        return EXIF_MARK + patch(block, {int(ExifTags.Base.Orientation): _UPRIGHT}, unlink_next=True)
    except Exception:  # noqa: BLE001 - Pillow's reader fails in any way
        return None


# What ImageDescription holds where it describes an array, of another shape than the result's.
_STRUCTURAL_DESCRIPTIONS = (b'{"shape"', b"ImageJ=", b"<?xml", b"<OME")


def exif_of_tiff(data: bytes) -> bytes | None:
    """Return what a TIFF file says of its photograph as an EXIF block; None if nothing, or if it is damaged."""
    try:
        directory = descriptive(read_directory(data))
    except (ValueError, struct.error):
        return None
    return EXIF_MARK + header(directory.order) + write_directory(directory, 8) if directory.fields else None


def descriptive(directory: Directory) -> Directory:
    """Return the directory without the fields that tell how pixels are stored."""
    kept = {tag: found for tag, found in directory.fields.items() if tag in DESCRIPTIVE_TAGS}
    title = kept.get(ExifTags.Base.ImageDescription)
    if title is not None and title.value.startswith(_STRUCTURAL_DESCRIPTIONS):
        del kept[ExifTags.Base.ImageDescription]
    return Directory(directory.order, kept)


def exif_of_size(block: bytes, size: tuple[int, int]) -> bytes:
    """Return an EXIF block with the width and height it states, if it does, replaced."""
    width, height = size
    numbers: dict[int, int] = {**dict.fromkeys(_WIDTHS, width), **dict.fromkeys(_HEIGHTS, height)}
    return EXIF_MARK + patch(block.removeprefix(EXIF_MARK), numbers)


def upright_xmp(packet: object) -> bytes | None:
    """Return an XMP packet with its orientation set to upright; None if there is none."""
    if isinstance(packet, str):
        packet = packet.encode()
    if not isinstance(packet, bytes) or not packet.strip(b"\0 "):
        return None
    return _replaced(packet, "tiff:Orientation", _UPRIGHT)


def xmp_of_size(packet: bytes, size: tuple[int, int]) -> bytes:
    """Return an XMP packet with the width and height it states, if it does, replaced."""
    for names, side in zip((("ImageWidth", "PixelXDimension"), ("ImageLength", "PixelYDimension")), size, strict=True):
        for name in names:
            packet = _replaced(packet, f"(?:tiff|exif):{name}", side)
    return packet


def _replaced(packet: bytes, name: str, number: int) -> bytes:
    """Replace a number that stands as an attribute or as an element."""
    pattern = rf"""(\b{name}\s*=\s*["']|<{name}>\s*)\d+""".encode()
    return re.sub(pattern, rb"\g<1>" + str(number).encode(), packet)
