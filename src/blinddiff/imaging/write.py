"""PNG files of 8 and 16 bits, which Pillow cannot both write, with everything that comes with the pixels."""

import io
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import MappingProxyType

import numpy as np
from PIL import Image
from torch import Tensor

from blinddiff.errors import OutputError, ParameterError
from blinddiff.files import check_writable, write_file
from blinddiff.imaging.colour import tone_curve
from blinddiff.imaging.metadata import EXIF_MARK, exif_of_size, xmp_of_size
from blinddiff.imaging.photograph import Photograph, Samples, to_array
from blinddiff.imaging.tiff import encode_tiff

_HEADER_END = 8 + 25  # signature, IHDR


def encode_png(array: Samples, icc_profile: bytes | None, exif: bytes | None, xmp: bytes | None) -> bytes:
    """Return a PNG file of (H, W, C) uint8 or uint16, C from 1 to 4. (PNG, third edition, section 11.)"""
    import imagecodecs

    bare = imagecodecs.png_encode(np.ascontiguousarray(array[..., 0] if array.shape[-1] == 1 else array))
    chunks = []
    if icc_profile is not None:
        chunks.append(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile)))
    if exif is not None:
        chunks.append(_chunk(b"eXIf", exif.removeprefix(EXIF_MARK)))
    if xmp is not None:
        chunks.append(_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    return b"".join((bare[:_HEADER_END], *chunks, bare[_HEADER_END:]))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


Encode = Callable[[Samples, bytes | None, bytes | None, bytes | None], bytes]
"""From pixels, colour profile, EXIF block and XMP packet to a file."""


@dataclass(frozen=True)
class OutputFormat:
    """A format that is written.

    Attributes:
        name: for messages.
        encode: makes the file.
        bit_depths: bits of a channel that it can hold; 32 for floats.
        keeps_alpha: whether it can hold transparency.
        keeps_grey: whether it can hold grey, with and without transparency, and so the profile of a grey image.
        longest_side: in pixels, where it has a limit.
    """

    name: str
    encode: Encode
    bit_depths: tuple[int, ...] = (8,)
    keeps_alpha: bool = True
    keeps_grey: bool = True
    longest_side: int = 2**31 - 1


def _by_pillow(name: str, settings: Mapping[str, object]) -> Encode:
    fixed = MappingProxyType(dict(settings))

    def encode(array: Samples, icc_profile: bytes | None, exif: bytes | None, xmp: bytes | None) -> bytes:
        extra = {"icc_profile": icc_profile, "exif": exif, "xmp": xmp}
        picture = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
        buffer = io.BytesIO()
        picture.save(buffer, format=name, **fixed, **{key: value for key, value in extra.items() if value is not None})
        return buffer.getvalue()

    return encode


_JPEG = OutputFormat(
    "JPEG", _by_pillow("JPEG", {"quality": 95, "subsampling": 0}), keeps_alpha=False, longest_side=65_500
)
_TIFF = OutputFormat("TIFF", encode_tiff, bit_depths=(8, 16, 32))
OUTPUT_FORMATS: Mapping[str, OutputFormat] = MappingProxyType(
    {
        ".png": OutputFormat("PNG", encode_png, bit_depths=(8, 16), longest_side=1_000_000),
        ".tif": _TIFF,
        ".tiff": _TIFF,
        ".jpg": _JPEG,
        ".jpeg": _JPEG,
        ".webp": OutputFormat(
            "WebP", _by_pillow("WEBP", {"quality": 95, "method": 4}), keeps_grey=False, longest_side=16_383
        ),
        ".avif": OutputFormat("AVIF", _by_pillow("AVIF", {"quality": 90}), keeps_grey=False, longest_side=65_535),
    }
)
"""What is written, by extension."""


def write_image(
    path: str | os.PathLike[str],
    pixels: Tensor,
    like: Photograph | None = None,
    alpha: Tensor | None = None,
) -> None:
    """Write `pixels` as an image file; the extension chooses the format, see `OUTPUT_FORMATS`.

    The file appears whole or not at all (see `write_file`).

    Args:
        path: the file to make; one of that name is replaced.
        pixels: (3, H, W) or (1, H, W) in [0, 1], RGB or grey, in the tone of sRGB; values beyond are clipped.
        like: the photograph that this one was made from. Its bit depth, its colour profile (with its tone), and its
            EXIF and XMP (with the new width and height) are kept as far as the format can hold them, grey stays grey,
            and its file is never overwritten. Without it, 8 bits are written.
        alpha: (1, H, W) in [0, 1], the transparency, of the size of `pixels`.

    Raises:
        ParameterError: a shape does not fit, or `like` has transparency and `alpha` is not given.
        ImageError: `pixels` or `alpha` holds values that are not finite.
        OutputError: the extension is unknown, the format cannot hold the image, or the place cannot be written.
    """
    path = Path(path)
    _refuse_name(path, like)
    write_file(path, encode_image(path, pixels, like, alpha))


def encode_image(
    path: str | os.PathLike[str], pixels: Tensor, like: Photograph | None = None, alpha: Tensor | None = None
) -> bytes:
    """Return the bytes of the file that `write_image` would write there; arguments and errors as there."""
    path = Path(path)
    if like is not None and like.alpha is not None and alpha is None:
        raise ParameterError("alpha: the photograph is transparent in places; its enlarged transparency is needed")
    if alpha is not None and alpha.shape != (1, *pixels.shape[1:]):
        raise ParameterError(f"alpha: shape {tuple(alpha.shape)}; accepted is {(1, *pixels.shape[1:])}")
    depth = written_bit_depth(path, like)
    tone = None
    if like is not None:
        tone = tone_curve(_profile_kept(path, like), like.grey)
        pixels = pixels.mean(dim=0, keepdim=True) if like.grey else pixels
    array = to_array(pixels, depth, tone)
    if alpha is not None:
        array = np.concatenate([array, to_array(alpha, depth)], axis=-1)
    return _encode(path, array, like)


def write_picture(path: str | os.PathLike[str], picture: Image.Image) -> None:
    """Write an 8-bit Pillow picture, such as a comparison sheet, whole or not at all; errors as `write_image`."""
    path = Path(path)
    _refuse_name(path, None)
    array = np.asarray(picture)
    write_file(path, _encode(path, array[..., None] if array.ndim == 2 else array, None))


def check_output(
    path: str | os.PathLike[str], like: Photograph | None = None, size: tuple[int, int] | None = None
) -> None:
    """Raise now what `write_image(path, ..., like)` would raise after minutes of work.

    Args:
        path: the file to make.
        like: as in `write_image`.
        size: width and height of the image to write.

    Raises:
        OutputError: as `write_image`.
    """
    path = Path(path)
    _refuse_name(path, like)
    check_format(path, like, size)
    check_writable(path)


def check_format(path: PurePath, like: Photograph | None, size: tuple[int, int] | None) -> None:
    """Raise now what `encode_image(path, ..., like)` would raise after minutes of work; see `check_output`.

    Raises:
        OutputError: the extension is unknown, or the format cannot hold the image.
    """
    kind = output_format(path)
    if size is not None and max(size) > kind.longest_side:
        raise OutputError(
            f"{path}: {kind.name} cannot hold this image of {size[0]} x {size[1]} pixels: "
            f"sides of {kind.longest_side:,} are its limit"
        )
    if like is not None:
        if like.alpha is not None and not kind.keeps_alpha and bool((like.alpha < 1).any()):
            raise OutputError(_no_transparency(path, kind))
        # What comes with the pixels may not fit either, such as over 64 KiB of EXIF in a JPEG.
        _encode(path, np.zeros((1, 1, 1 if like.grey else 3), np.uint8), like)


def output_format(path: PurePath) -> OutputFormat:
    """Return the format that a file's extension chooses.

    Raises:
        OutputError: it is unknown.
    """
    kind = OUTPUT_FORMATS.get(path.suffix.lower())
    if kind is None:
        raise OutputError(f"{path}: unknown extension {path.suffix!r}; accepted are {', '.join(OUTPUT_FORMATS)}")
    return kind


def written_bit_depth(path: PurePath, like: Photograph | None) -> int:
    """Return the bits of a channel, 32 for floats, with which `write_image(path, ..., like)` writes."""
    wanted = 8 if like is None else like.bit_depth
    depths = output_format(path).bit_depths
    return wanted if wanted in depths else max(depths)


def _profile_kept(path: PurePath, like: Photograph) -> bytes | None:
    """The colour profile for the file: none where grey becomes three channels, which one for grey does not describe."""
    return like.icc_profile if output_format(path).keeps_grey or not like.grey else None


def _refuse_name(path: Path, like: Photograph | None) -> None:
    """Refuse an unknown extension, and the input's own file under whatever name."""
    output_format(path)
    if like is None or like.path is None:
        return
    try:
        same = os.path.samefile(path, like.path)
    except (OSError, ValueError):  # one of them is not there
        return
    if same:
        raise OutputError(f"{path}: is the input itself, which is never overwritten; choose another name")


def _no_transparency(path: PurePath, kind: OutputFormat) -> str:
    return f"{path}: {kind.name} cannot hold the image's transparency; choose .png, .tif, .webp or .avif"


def _encode(path: PurePath, array: Samples, like: Photograph | None) -> bytes:
    """Return the bytes of the whole file, made in memory so that the disk sees a finished one."""
    kind = output_format(path)
    if not kind.keeps_alpha and array.shape[-1] in (2, 4):
        if bool((array[..., -1] < np.iinfo(array.dtype).max).any()):
            raise OutputError(_no_transparency(path, kind))
        array = array[..., :-1]
    height, width = array.shape[:2]
    profile = exif = xmp = None
    if like is not None:
        profile = _profile_kept(path, like)
        exif = None if like.exif is None else exif_of_size(like.exif, (width, height))
        xmp = None if like.xmp is None else xmp_of_size(like.xmp, (width, height))
    try:
        return kind.encode(array, profile, exif, xmp)
    except MemoryError as error:
        raise OutputError(f"{path}: this image of {width} x {height} pixels does not fit the memory") from error
    except Exception as error:  # encoders raise errors of their own types: too large, too much EXIF, ...
        raise OutputError(f"{path}: {kind.name} cannot hold this {width}x{height} image: {error}") from error
