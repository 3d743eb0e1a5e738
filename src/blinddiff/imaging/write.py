"""Writes image files with the bit depth, colour profile and metadata of the photograph they were made from."""

import contextlib
import io
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from blinddiff.errors import OutputError, ParameterError
from blinddiff.files import FilePath, check_writable, write_file
from blinddiff.imaging.colour import tone_curve
from blinddiff.imaging.gain_map import announce_gain_map, append_gain_map
from blinddiff.imaging.jpegxl import encode_jpegxl
from blinddiff.imaging.metadata import EXIF_PREFIX, describe_in_exif, exif_description, exif_with_size
from blinddiff.imaging.photograph import Metadata, Photograph, PixelArray, channels_last, picture_of, to_array
from blinddiff.imaging.tiff import encode_tiff
from blinddiff.imaging.words import (
    APP13,
    COM,
    SEGMENT_LIMIT,
    as_one_text,
    photoshop_block,
    raw_profile,
    segment,
    text_chunks,
)
from blinddiff.imaging.xmp import xmp_with_size

DPI_RULES = ("scale", "keep")
"""What an enlargement does to the pixels per inch: multiply them, so that the printed size stays, or keep them."""


def encode_png(array: PixelArray, metadata: Metadata) -> bytes:
    """Return a PNG file of (H, W, C) uint8 or uint16, C from 1 to 4. (PNG, third edition, section 11.)"""
    # imagecodecs, because Pillow cannot write 16-bit colours
    bare = imagecodecs.png_encode(np.ascontiguousarray(array[..., 0] if array.shape[-1] == 1 else array))
    chunks = []
    if metadata.icc_profile is not None:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc_profile)))
    if metadata.dpi is not None:
        per_metre = [min(max(round(side / 0.0254), 1), 2**31 - 1) for side in metadata.dpi]
        chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if metadata.exif is not None:
        chunks.append((b"eXIf", metadata.exif.removeprefix(EXIF_PREFIX)))
    if metadata.xmp is not None:
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp))
    chunks += text_chunks({**metadata.texts, **({} if metadata.iptc is None else raw_profile(metadata.iptc))})
    file = bytes(bare[:33])  # signature and header
    for kind, data in chunks:
        file += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return file + bare[33:]


def _encode_jpeg(array: PixelArray, metadata: Metadata, **settings: Any) -> bytes:
    if metadata.dpi is not None and max(metadata.dpi) < 65_535.5:
        settings["dpi"] = [max(1, side) for side in metadata.dpi]
    words = {COM: as_one_text(metadata.texts).encode()}
    if metadata.iptc is not None:
        words[APP13] = photoshop_block(metadata.iptc)
    # Not as Pillow's setting "comment", for which its buffer may be too short
    settings["extra"] = b"".join(segment(kind, block) for kind, block in words.items() if block and _fits_jpeg(block))
    if metadata.gain_map is None:
        return _by_pillow(array, metadata, format="JPEG", **settings)
    xmp = announce_gain_map(metadata.xmp, metadata.gain_map)
    return append_gain_map(_by_pillow(array, metadata._replace(xmp=xmp), format="JPEG", **settings), metadata.gain_map)


def _fits_jpeg(contents: bytes) -> bool:
    return len(contents) <= SEGMENT_LIMIT


def _by_pillow(array: PixelArray, metadata: Metadata, **settings: Any) -> bytes:
    blocks = {"icc_profile": metadata.icc_profile, "exif": metadata.exif, "xmp": metadata.xmp}
    settings |= {key: value for key, value in blocks.items() if value is not None}
    buffer = io.BytesIO()
    picture_of(array).save(buffer, **settings)
    return buffer.getvalue()


@dataclass(frozen=True)
class OutputFormat:
    """An image format that can be written.

    `encode` takes (H, W, C) pixels and `Metadata`, and `options` as keyword arguments.
    """

    name: str
    media_type: str
    encode: Callable[..., bytes]
    longest_side: int = 2**31 - 1  # in pixels
    bit_depths: tuple[int, ...] = (8,)  # per channel; 32 for floats
    keeps_alpha: bool = True
    keeps_grey: bool = True  # grey, and grey with alpha; if false, grey is written as RGB
    options: tuple[str, ...] = ()  # of lossy formats
    words_in_exif: bool = True  # whether pixels per inch and texts have no other place
    keeps_iptc: bool = False


_PNG = OutputFormat("PNG", "image/png", encode_png, 1_000_000, bit_depths=(8, 16), words_in_exif=False, keeps_iptc=True)
_TIFF = OutputFormat("TIFF", "image/tiff", encode_tiff, bit_depths=(8, 16, 32), keeps_iptc=True)
_BOTH = ("quality", "subsampling")
_JPEG = OutputFormat(
    "JPEG",
    "image/jpeg",
    partial(_encode_jpeg, quality=95, subsampling=0),
    65_500,
    keeps_alpha=False,
    options=_BOTH,
    words_in_exif=False,
    keeps_iptc=True,
)
_WEBP = OutputFormat(
    "WebP",
    "image/webp",
    partial(_by_pillow, format="WEBP", quality=95, method=4),
    16_383,
    keeps_grey=False,
    options=("quality",),
)
_AVIF = OutputFormat(
    "AVIF",
    "image/avif",
    partial(_by_pillow, format="AVIF", quality=90),
    65_535,
    keeps_grey=False,
    options=_BOTH,
)
_JPEGXL = OutputFormat("JPEG XL", "image/jxl", encode_jpegxl, 2**18, bit_depths=(8, 16, 32))
OUTPUT_FORMATS: Mapping[str, OutputFormat] = MappingProxyType(
    {".png": _PNG, ".tif": _TIFF, ".tiff": _TIFF, ".jpg": _JPEG, ".jpeg": _JPEG, ".webp": _WEBP, ".avif": _AVIF}
    | {".jxl": _JPEGXL}
)
"""The output formats by file extension."""


def write_image(
    path: FilePath, pixels: ArrayLike, like: Photograph | None = None, alpha: ArrayLike | None = None
) -> None:
    """Write an image file atomically (see `write_file`). The extension selects one of `OUTPUT_FORMATS`.

    Args:
        path: the file; an existing one is replaced.
        pixels: (3, H, W) or (1, H, W) in [0, 1], RGB or grey, with the tone curve of sRGB; values outside are clipped.
        like: the original photograph. Its bit depth, colour profile and tone curve, EXIF and XMP (with the new size)
            and the other metadata are kept if the format supports them, see `left_out`, and grey stays grey. Pixels per
            inch are multiplied by the enlargement. Its file is never overwritten.
        alpha: (1, H, W) in [0, 1]; required if `like` has alpha.

    Raises ParameterError for other shapes, ImageError for non-finite values, and OutputError if the extension is
    unknown, the format does not support the image, or the file cannot be written.
    """
    path = Path(path)
    _refuse_input(path, like)
    write_file(path, encode_image(path, pixels, like, alpha))


def encoder_options(
    path: PurePath, quality: int | None, subsampling: str | None, strict: bool = True
) -> dict[str, int | str]:
    """Return the given options that a file's format has, for `encode_image`.

    quality is 1 to 100; subsampling is "4:4:4", "4:2:2" or "4:2:0". Raises OutputError if ``strict`` and the format
    lacks one.
    """
    kind, options = _output_format(path), {}
    for name, value in (("quality", quality), ("subsampling", subsampling)):
        if value is not None and name in kind.options:
            options[name] = value
        elif value is not None and strict:
            raise OutputError(f"{path}: {kind.name} files have no {name} to choose")
    return options


def encode_image(
    path: FilePath,
    pixels: ArrayLike,
    like: Photograph | None = None,
    alpha: ArrayLike | None = None,
    options: Mapping[str, int | str] | None = None,
    dpi: str = "scale",
) -> bytes:
    """Return the bytes that `write_image` would write, with the same errors; ``options``: see `encoder_options`.

    ``dpi`` is ``"scale"`` to multiply the pixels per inch by the enlargement, so that the printed size stays, or
    ``"keep"``.
    """
    path = Path(path)
    planes: NDArray[Any] = np.asarray(pixels)
    alpha = None if alpha is None else np.asarray(alpha)
    if like is not None and like.alpha is not None and alpha is None:
        raise ParameterError("alpha: is required, because the original photograph has alpha")
    if alpha is not None and alpha.shape != (1, *planes.shape[1:]):
        raise ParameterError(f"alpha: shape {alpha.shape}; it must be {(1, *planes.shape[1:])}")
    if like is not None and like.grey:
        planes = planes.mean(0, keepdims=True)
    depth = written_bit_depth(path, like)
    array = to_array(planes, depth, None if like is None else tone_curve(_profile_kept(path, like), like.grey))
    if alpha is not None:
        array = np.concatenate([array, to_array(alpha, depth)], axis=-1)
    return _encode(path, array, like, dpi, **(options or {}))


def write_picture(path: FilePath, picture: Image.Image) -> None:
    """Write an 8-bit Pillow picture, such as a comparison sheet, atomically, with the errors of `write_image`."""
    write_file(path, _encode(Path(path), channels_last(np.asarray(picture)), None))


def check_output(path: FilePath, like: Photograph | None = None, size: tuple[int, int] | None = None) -> None:
    """Raise the OutputError that `write_image(path, ..., like)` would raise for an image of size (width, height)."""
    path = Path(path)
    _refuse_input(path, like)
    check_format(path, like, size)
    check_writable(path)


def check_format(path: PurePath, like: Photograph | None, size: tuple[int, int] | None) -> None:
    """Raise the OutputError that `encode_image(path, ..., like)` would raise for an image of size (width, height)."""
    kind = _output_format(path)
    if size is not None and max(size) > kind.longest_side:
        pixels = f"{size[0]} x {size[1]} pixels; the longest side is {kind.longest_side:,}"
        raise OutputError(f"{path}: {kind.name} cannot hold this image of {pixels}")
    if like is not None:
        # Encode one pixel to check the metadata, which may not fit either: a JPEG holds at most 64 KiB of EXIF.
        transparent = like.alpha is not None and bool((like.alpha < 1).any())
        _encode(path, np.zeros((1, 1, (1 if like.grey else 3) + transparent), np.uint8), like)


def written_bit_depth(path: PurePath, like: Photograph | None) -> int:
    """Return the bits per channel, 32 for floats, that `write_image(path, ..., like)` writes."""
    depth = 8 if like is None else like.bit_depth
    depths = _output_format(path).bit_depths
    return depth if depth in depths else max(depths)


def _output_format(path: PurePath) -> OutputFormat:
    kind = OUTPUT_FORMATS.get(path.suffix.lower())
    if kind is None:
        raise OutputError(f"{path}: unknown extension {path.suffix!r}; accepted are {', '.join(OUTPUT_FORMATS)}")
    return kind


def _profile_kept(path: PurePath, like: Photograph) -> bytes | None:
    """Return the colour profile to write; None if grey is written as RGB, which a grey profile cannot describe."""
    return like.icc_profile if _output_format(path).keeps_grey or not like.grey else None


def _refuse_input(path: Path, like: Photograph | None) -> None:
    """Raise OutputError if the extension is unknown or `path` is the file of `like`, also by another name."""
    _output_format(path)
    with contextlib.suppress(OSError, ValueError):  # one of the files does not exist
        if like is not None and like.path is not None and os.path.samefile(path, like.path):
            raise OutputError(f"{path}: is the input itself, which is never overwritten; choose another name")


def left_out(path: FilePath, like: Photograph) -> list[str]:
    """Return a line on the metadata of ``like`` for which the format has no room; none if it keeps everything."""
    kind, lost = _output_format(Path(path)), []
    text = as_one_text(like.texts)
    has_title = kind.words_in_exif and exif_description(like.exif) not in ("", text)
    if text and (has_title or (kind is _JPEG and not _fits_jpeg(text.encode()))):
        lost.append(f"texts ({', '.join(like.texts)})")
    if like.iptc is not None and not (
        kind.keeps_iptc and (kind is not _JPEG or _fits_jpeg(photoshop_block(like.iptc)))
    ):
        lost.append("IPTC records")
    if like.gain_map is not None and kind is not _JPEG:
        lost.append("HDR gain map")
    return [f"{kind.name} has no room for its {' and its '.join(lost)}"] if lost else []


def _encode(
    path: PurePath, array: PixelArray, like: Photograph | None, dpi: str = "scale", **options: int | str
) -> bytes:
    """Return the bytes of the whole file. Raises OutputError if the format does not support the image."""
    kind = _output_format(path)
    if not kind.keeps_alpha and array.shape[-1] in (2, 4):
        if bool((array[..., -1] < np.iinfo(array.dtype).max).any()):
            choices = "choose .png, .tif, .webp, .avif or .jxl"
            raise OutputError(f"{path}: {kind.name} cannot hold the image's transparency; {choices}")
        array = array[..., :-1]
    height, width = array.shape[:2]
    profile = None if like is None else _profile_kept(path, like)
    metadata = Metadata() if like is None else _metadata_for(kind, like, (width, height), dpi)
    try:
        return kind.encode(array, metadata._replace(icc_profile=profile), **options)
    except MemoryError as error:
        raise OutputError(f"{path}: this image of {width} x {height} pixels does not fit in memory") from error
    except Exception as error:  # encoders raise many types, such as for too much EXIF
        raise OutputError(f"{path}: {kind.name} cannot hold this {width}x{height} image: {error}") from error


def _metadata_for(kind: OutputFormat, like: Photograph, size: tuple[int, int], dpi: str) -> Metadata:
    """The metadata of a result of a size (width, height) in a format, without colour profile."""
    factors = size[0] / like.pixels.shape[-1], size[1] / like.pixels.shape[-2]
    dpi_factors = factors if dpi == "scale" else (1.0, 1.0)
    resolution = None if like.dpi is None else (like.dpi[0] * dpi_factors[0], like.dpi[1] * dpi_factors[1])
    exif = None if like.exif is None else exif_with_size(like.exif, size, factors, dpi_factors)
    xmp = None if like.xmp is None else xmp_with_size(like.xmp, size, factors, dpi_factors)
    if kind.words_in_exif:
        exif = describe_in_exif(exif, resolution, as_one_text(like.texts))
    return Metadata(None, exif, xmp, resolution, like.texts, like.iptc, like.gain_map)
