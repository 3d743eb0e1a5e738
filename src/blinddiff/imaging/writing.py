"""Image files out: whole, with what the input's file held besides its pixels."""

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from torch import Tensor

from blinddiff.errors import OutputError, ParameterError
from blinddiff.imaging.atomic import check_writable, write_file
from blinddiff.imaging.photograph import Photograph
from blinddiff.imaging.pixels import to_bytes


@dataclass(frozen=True)
class _Encoder:
    """How Pillow writes one format."""

    name: str
    keeps_alpha: bool
    settings: Mapping[str, object] = field(default_factory=dict)


_JPEG = _Encoder("JPEG", keeps_alpha=False, settings={"quality": 95, "subsampling": 0})
_ENCODERS = {
    ".png": _Encoder("PNG", keeps_alpha=True),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": _Encoder("WEBP", keeps_alpha=True, settings={"quality": 95, "method": 4}),
}


def write_image(
    path: str | os.PathLike[str],
    pixels: Tensor,
    like: Photograph | None = None,
    alpha: Tensor | None = None,
) -> None:
    """Write `pixels` as an 8-bit image; the extension chooses PNG, JPEG (quality 95, 4:4:4) or WebP (quality 95).

    The file appears whole or not at all (see `write_file`).

    Args:
        path: the file to make, `.png`, `.jpg`, `.jpeg` or `.webp`; one of that name is replaced.
        pixels: (3, H, W) or (1, H, W) in [0, 1], RGB or grey; values beyond are clipped.
        like: the photograph that this one was made from. Its colour profile and EXIF block are kept (with the new
            width and height), grey stays grey, and its file is never overwritten.
        alpha: (1, H, W) in [0, 1], the transparency, of the size of `pixels`.

    Raises:
        ParameterError: a shape does not fit, or `like` has transparency and `alpha` is not given.
        ImageError: `pixels` or `alpha` holds values that are not finite.
        OutputError: the extension is unknown, the format cannot hold the image, or the place cannot be written.
    """
    path = Path(path)
    _refuse_name(path, like)
    if like is not None and like.alpha is not None and alpha is None:
        raise ParameterError("alpha: the photograph is transparent in places; its enlarged transparency is needed")
    if like is not None and like.grey:
        pixels = pixels.mean(dim=0, keepdim=True)
    write_file(path, _encode(path, _picture(pixels, alpha), like))


def write_picture(path: str | os.PathLike[str], picture: Image.Image) -> None:
    """Write a Pillow picture, such as a comparison sheet, whole or not at all; errors as `write_image`."""
    path = Path(path)
    _refuse_name(path, None)
    write_file(path, _encode(path, picture, None))


def check_output(path: str | os.PathLike[str], like: Photograph | None = None) -> None:
    """Raise now what `write_image(path, ..., like)` would raise for this name after minutes of work.

    Raises:
        OutputError: as `write_image`.
    """
    path = Path(path)
    _refuse_name(path, like)
    if like is not None and like.alpha is not None:
        _refuse_transparency(path, np.asarray(to_bytes(like.alpha)))
    check_writable(path)


def _refuse_name(path: Path, like: Photograph | None) -> None:
    """Refuse an unknown extension, and the input's own file under whatever name."""
    if path.suffix.lower() not in _ENCODERS:
        raise OutputError(f"{path}: unknown extension {path.suffix!r}; accepted are {', '.join(_ENCODERS)}")
    if like is None or like.path is None:
        return
    try:
        same = os.path.samefile(path, like.path)
    except (OSError, ValueError):  # one of them is not there
        return
    if same:
        raise OutputError(f"{path}: is the input itself, which is never overwritten; choose another name")


def _refuse_transparency(path: Path, alpha: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    if not _ENCODERS[path.suffix.lower()].keeps_alpha and bool((alpha < 255).any()):
        raise OutputError(f"{path}: JPEG cannot hold the image's transparency; choose .png or .webp")


def _picture(pixels: Tensor, alpha: Tensor | None) -> Image.Image:
    array = to_bytes(pixels)
    if alpha is not None:
        if alpha.shape != (1, *pixels.shape[1:]):
            raise ParameterError(f"alpha: shape {tuple(alpha.shape)}; accepted is {(1, *pixels.shape[1:])}")
        array = np.concatenate([array, to_bytes(alpha)], axis=-1)
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def _encode(path: Path, picture: Image.Image, like: Photograph | None) -> bytes:
    """Return the bytes of the whole file, made in memory so that the disk sees a finished one."""
    encoder = _ENCODERS[path.suffix.lower()]
    if not encoder.keeps_alpha and picture.mode in ("LA", "RGBA"):
        _refuse_transparency(path, np.asarray(picture.getchannel("A")))
        picture = picture.convert(picture.mode[:-1])
    settings = dict(encoder.settings)
    if like is not None and like.icc_profile is not None:
        settings["icc_profile"] = like.icc_profile
    if like is not None and like.exif is not None:
        settings["exif"] = _exif_of_size(like.exif, picture.size)
    buffer = io.BytesIO()
    try:
        picture.save(buffer, format=encoder.name, **settings)
    except (OSError, ValueError) as error:  # sides over 65,535 (JPEG) or 16,383 (WebP), EXIF over 64 KiB (JPEG)
        width, height = picture.size
        raise OutputError(f"{path}: {encoder.name} cannot hold this {width}x{height} image: {error}") from error
    return buffer.getvalue()


def _exif_of_size(block: bytes, size: tuple[int, int]) -> bytes:
    """Return the EXIF block with the width and height it states, if it does, replaced."""
    exif = Image.Exif()
    exif.load(block)
    if ExifTags.IFD.Exif not in exif:
        return block
    details = exif.get_ifd(ExifTags.IFD.Exif)
    for tag, side in zip((ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight), size, strict=True):
        if tag in details:
            details[tag] = side
    return exif.tobytes()
