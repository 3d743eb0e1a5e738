"""Make docs/formats.md: `python scripts/formats_page.py` runs files of every format through the command line."""

import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile
import torch
from PIL import ExifTags, Image

from blinddiff.cli import main as cli
from blinddiff.models.mcformer import MCFormer
from blinddiff.sampling.pipeline import BlindDiffPipeline
from blinddiff.sampling.schedulers import default_scheduler

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "reliability"))
from corpus import HEIGHT, WIDTH, XMP, colours, corpus, exif_block, profile, refused  # noqa: E402 - of the tests

PAGE = ROOT / "docs" / "formats.md"
SCALE = 2
DPI, AUTHOR, IPTC = 300, "someone", b"\x1c\x02\x05\x00\x05title"

HEAD = """# Formats

`python scripts/formats_page.py` writes this page. The script restores one file of each kind with `blinddiff upscale`
and checks the results with other libraries. A test checks that the page is up to date. Do not edit it.

blinddiff detects the format from the content of a file, not from its name. It reads only files with a single image,
with two exceptions. A JPEG or HEIC file from a phone may contain several images: blinddiff reads the main one. The
option `--page 2` of `blinddiff upscale` and `blinddiff kernel` selects a page of a TIFF file.

"""

NOTES = """
The bits are bits per channel; "32 f" means floats from 0 (black) to 1 (white). Integers of more than 8 bits are read as
16 bits. "-" means that the input has no such data.

- **Grey** images stay grey, with two exceptions: WebP, and AVIF with transparency, have no grey mode. For these
  formats, the image gets three equal channels. A colour profile for grey does not fit three channels, so the pixels
  are converted to the tone curve of sRGB, and the profile is removed.
- **Alpha** is enlarged bicubically, without overshoot. Before the restoration, the colours of transparent pixels are
  replaced by those of visible neighbours, so that they do not affect visible pixels. Extra TIFF channels that are not
  declared as transparency (such as a saved selection) are dropped.
- **16-bit integers and floats** are processed in 32-bit floats. The output has the bits of the input if the format
  supports them. PNG supports 8 and 16 bits, TIFF and JPEG XL support 8 bits, 16 bits and floats, and the other formats
  support 8 bits.
- **Colour profiles** are kept. For the restoration, the tone curve is converted to that of sRGB; for the output, it is
  converted back. Primaries are not converted, so no colour is clipped. A damaged profile, or a profile for another
  kind of pixel, is kept but not applied. If a file without a profile declares its colours (for example Display P3) by
  numbers (nclx in AVIF and HEIC, cICP, gAMA and cHRM in PNG, the header of JPEG XL), the output gets a profile for
  these colours. High dynamic range (PQ, HLG) is refused.
- **CMYK** in JPEG and TIFF is converted to sRGB: through the colour profile of the file (relative colorimetric, with
  black point compensation), or without one by the formula that Pillow uses. A message says which.
- **JPEG XL** is written without loss. Colour profiles that are embedded in a JPEG XL file are read with the extra `jxl`
  (`pip install 'blinddiff[jxl]'`). Without it, a message says that sRGB is assumed. Colours that the file declares by
  numbers need no extra.
- **HEIC** is read with the extra `heic` (`pip install 'blinddiff[heic]'`), with 8 or more bits, transparency, colour
  profile, EXIF and XMP. It is not written: with `--format same`, the result is a PNG file.
- **EXIF** is kept byte by byte (in TIFF: field by field), with these exceptions. The orientation is applied to the
  pixels and reset. Width, height, dots per inch and other numbers of pixels (of the focal plane, and of the subject's
  place) are updated. The thumbnail is removed, because it shows the old image.
- **XMP** is kept, with the same updates, also of the sizes to which regions (such as faces) refer, of the places of
  regions in rotated photographs, and of panoramas (GPano). What describes a part that the result does not have is
  removed: gain maps, videos, depth maps, thumbnails. Of XMP of more than 64 KiB, which JPEG splits into parts, the
  first is kept. A damaged packet is left out. A message says all of this.
- **Dots per inch** are read from JPEG, PNG, TIFF, BMP and JPEG 2000, and from EXIF. They are multiplied by the
  enlargement, so that the printed size stays; `--dpi keep` keeps the number. PNG and JPEG have fields for them; the
  other formats get them in EXIF.
- **Texts** are those of PNG (such as `Author`, or the parameters of a generator), and comments of JPEG and GIF. PNG
  keeps all texts with their keywords. JPEG keeps them as one comment, with one line for each text that has a keyword.
  The other formats keep them as the description in EXIF (ImageDescription), unless it has one already.
- **IPTC records** (title, keywords, credit) are read from JPEG, TIFF, and PNG as ImageMagick and ExifTool store them
  there. The same formats keep them.
- **Several images in one JPEG file.** The gain map of an Ultra HDR file is kept, at its own size, if the result is a
  JPEG file; HDR screens then show the result as they show the photograph. A message mentions other images, videos
  (motion photos) and gain maps that are left out.

Camera raw, PDF, PSD, SVG, ICO and TGA files are not read either.

The package uses Pillow for JPEG, WebP, AVIF, GIF, BMP, PPM, 8-bit PNG and JPEG 2000, and tifffile for TIFF. It uses
imagecodecs for PNG, JPEG 2000 and AVIF of more than 8 bits, for JPEG XL, for TIFF compression, and for colour profiles
in floating point. Without imagecodecs, four libraries would be needed for these tasks.
"""


def tiny_weights(folder: Path) -> Path:
    """Weights of a small random network: the page does not depend on them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MCFormer(dim=8, num_blocks=[1, 1], heads=[1, 1], estimator_hidden=32, embedding_dim=16)
    BlindDiffPipeline(network, default_scheduler(network)).save_pretrained(folder)
    return folder


def make_page(weights: Path, folder: Path) -> str:
    """The text of the page. `folder` is an empty working folder."""
    return HEAD + _read_table(weights, folder) + "\n" + _written_table(weights, folder) + NOTES


def _read_table(weights: Path, folder: Path) -> str:
    files = {**corpus(), **refused()}
    source, results = folder / "in", folder / "out"
    source.mkdir()
    for name, data in files.items():
        (source / name).write_bytes(data)
    options = ("--format", "same", "--scale", SCALE, "--weights", weights, "--jobs", 1, "--json", folder / "records")
    _run("upscale", source, "-o", results, *options, code=1)
    records = {}
    for line in (folder / "records").read_text().splitlines():
        record = json.loads(line)
        records[record["input"]] = record
    lines = [
        "## What is read",
        "",
        "Each file was restored with `--format same`: the result has the input's format if possible, else PNG.",
        'In the column ICC, "made" means that the result got a profile for colours that the file declares without one.',
        "",
        "| file | read | pixels | bits | alpha | ICC | EXIF | XMP | written as |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, data in files.items():
        record = records[name]
        kind = name.rsplit(".", 1)[0]
        if record["status"] == "failed":
            reason = record["error"].split(f"{name}: ")[1]
            lines.append(f"| {kind} | no: {reason} | | | | | | | |")
            continue
        result = results / record["output"]
        facts = _Kept(data, result)
        pixels = f"{record['mode'].split(';')[0].replace('I', 'L')} to {facts.mode}"
        bits = f"{_bits(record['bit_depth'])} to {_bits(facts.bits)}"
        columns = (kind, "yes", pixels, bits, facts.alpha, facts.icc, facts.exif, facts.xmp, result.suffix)
        lines.append("| " + " | ".join(columns) + " |")
    return "\n".join(lines) + "\n"


def _written_table(weights: Path, folder: Path) -> str:
    from blinddiff.imaging.photograph import Metadata
    from blinddiff.imaging.write import encode_png

    source = folder / "everything.png"
    array = colours(3, np.uint16)
    metadata = Metadata(profile(1.8), exif_block(), XMP, dpi=(DPI, DPI), texts={"Author": AUTHOR}, iptc=IPTC)
    source.write_bytes(encode_png(array, metadata))
    transparent = folder / "transparent.png"
    transparent.write_bytes(imagecodecs.png_encode(colours(4, np.uint16)))
    lines = [
        "## What is written",
        "",
        "The input is a 16-bit PNG with colour profile, EXIF, XMP, dots per inch, a text and IPTC records; for the",
        "column alpha, one with transparency. A message names metadata for which a format has no room.",
        "",
        "| written as | bits | alpha | ICC | EXIF | XMP | dpi | texts | IPTC |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for suffix in (".png", ".tif", ".jpg", ".webp", ".avif", ".jxl"):
        result = folder / f"everything{suffix}"
        if suffix == ".png":
            result = folder / "result.png"
        _, notes = _run("upscale", source, "-o", result, "--scale", 1, "--weights", weights)
        facts = _Kept(source.read_bytes(), result)
        assert ("no room for its IPTC records" in notes) == (not facts.iptc), notes
        words = [facts.dpi, facts.texts, "kept" if facts.iptc else "no room"]
        other = folder / f"result-transparent{suffix}"
        code, message = _run("upscale", transparent, "-o", other, "--scale", 1, "--weights", weights, code=None)
        alpha = (
            _Kept(transparent.read_bytes(), other).alpha if code == 0 else f"refused: {message.split(': ')[-1].strip()}"
        )
        columns = [suffix, _bits(facts.bits), alpha, facts.icc, facts.exif, facts.xmp, *words]
        lines.append("| " + " | ".join(columns) + " |")
    return "\n".join(lines) + "\n"


class _Kept:
    """What a result kept of its source, checked with libraries that did not write it."""

    def __init__(self, source: bytes, result: Path) -> None:
        data = result.read_bytes()
        info: dict[Any, Any] = {}
        if result.suffix == ".tif":
            with tifffile.TiffFile(io.BytesIO(data)) as tiff:
                page = tiff.pages.first
                array: npt.NDArray[Any] = page.asarray()
                icc = page.tags[34675].value if 34675 in page.tags else None
                xmp = page.tags[700].value if 700 in page.tags else None
                info["IPTC"] = page.tags[33723].value if 33723 in page.tags else b""
            exif = Image.Exif()
            exif.load_from_fp(io.BytesIO(data))
        elif result.suffix == ".jxl":
            array = imagecodecs.jpegxl_decode(data)
            block, xmp = (_box(data, kind) for kind in (b"Exif", b"xml "))
            exif = Image.Exif()
            exif.load(block[4:] if block else b"")
            icc = profile(1.8) if _has_coded_profile(data, profile(1.8)) else None
        else:
            decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            assert decoded is not None
            array = decoded
            with Image.open(io.BytesIO(data)) as picture:
                icc, xmp = picture.info.get("icc_profile"), picture.info.get("xmp")
                exif, info = picture.getexif(), picture.info
            if data[1:4] == b"PNG" and data[25] == 4:
                array = array[..., 2:]  # OpenCV decodes grey with alpha to four channels
        channels = 1 if array.ndim == 2 else array.shape[-1]
        inches = info.get("dpi") or [exif.get(tag, 0) for tag in (ExifTags.Base.XResolution, ExifTags.Base.YResolution)]
        self.dpi = _verdict(True, all(abs(float(number) - DPI) < 0.01 for number in inches))
        comment = info.get("comment", b"").decode() + str(exif.get(ExifTags.Base.ImageDescription, ""))
        self.texts = _verdict(True, info.get("Author") == AUTHOR or comment == f"Author: {AUTHOR}")
        raw = "".join(info.get("Raw profile type iptc", "").split()[2:])
        self.iptc = IPTC in (info.get("IPTC") or info.get("photoshop", {}).get(0x0404) or bytes.fromhex(raw))
        self.bits = 8 * array.dtype.itemsize
        self.mode = ("L", "LA", "RGB", "RGBA")[channels - 1]
        with Image.open(io.BytesIO(source)) if _pillow_opens(source) else contextlib.nullcontext() as before:
            stated = {} if before is None else before.info
            had_exif = b"Exif" in source if before is None else ExifTags.Base.Model in before.getexif()
            had_alpha = self.mode.endswith("A") or (before is not None and before.mode in ("LA", "RGBA"))
        self.alpha = "kept" if self.mode.endswith("A") else "lost" if had_alpha else "-"
        stored = profile(1.8) if profile(1.8) in source else None  # JPEG 2000 stores it unchanged
        had_icc = stated.get("icc_profile") or stored
        self.icc = _verdict(had_icc, icc == had_icc) if had_icc or not icc else "made"
        self.exif = _verdict(had_exif, _exif_is_right(exif, array.shape))
        self.xmp = _verdict(
            stated.get("xmp") or _box(source, b"xml "), xmp is not None and _xmp_is_right(xmp, array.shape)
        )


def _box(data: bytes, kind: bytes) -> bytes | None:
    """The contents of a box of a JPEG XL file."""
    at = data.find(kind) if data.startswith(b"\0\0\0\x0cJXL ") else -1
    return None if at < 0 else data[at + 4 : at - 4 + int.from_bytes(data[at - 4 : at], "big")]


def _has_coded_profile(data: bytes, icc_profile: bytes) -> bool:
    """Whether a JPEG XL codestream has the bytes of a profile, each in 8 bits, which start at any bit."""
    bits = "".join(f"{byte:08b}"[::-1] for byte in _box(data, b"jxlc") or b"")
    return "".join(f"{byte:08b}" for byte in icc_profile[128:]) in bits


def _pillow_opens(data: bytes) -> bool:
    try:
        Image.open(io.BytesIO(data)).close()
    except OSError:
        return False
    return True


def _verdict(had: object, right: bool) -> str:
    return "-" if not had else "kept" if right else "lost"


def _exif_is_right(exif: Image.Exif, shape: tuple[int, ...]) -> bool:
    """Camera, lens and location are kept, the orientation is reset, the size is updated."""
    details, place = exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo)
    return (
        exif.get(ExifTags.Base.Model) == "a camera"
        and exif.get(ExifTags.Base.Orientation, 1) == 1
        and details.get(ExifTags.Base.LensModel) == "a lens"
        and details.get(ExifTags.Base.ExifImageWidth) == shape[1]
        and details.get(ExifTags.Base.ExifImageHeight) == shape[0]
        and place.get(1) == "N"
        and [float(value) for value in place.get(2, ())] == [52.0, 31.0, 12.5]
    )


def _xmp_is_right(packet: bytes, shape: tuple[int, ...]) -> bool:
    height, width = shape[:2]
    wanted = XMP.replace(b'Orientation="6"', b'Orientation="1"')
    wanted = wanted.replace(b'ImageWidth="24"', b'ImageWidth="%d"' % width)
    wanted = wanted.replace(b">%d</exif:PixelX" % WIDTH, b">%d</exif:PixelX" % width)
    return packet == wanted.replace(b">%d</exif:PixelY" % HEIGHT, b">%d</exif:PixelY" % height)


def _bits(bits: int) -> str:
    return "32 f" if bits == 32 else str(bits)


def _run(*arguments: object, code: int | None = 0) -> tuple[int, str]:
    output = io.StringIO()
    with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
        exit_code = cli.main([str(argument) for argument in arguments])
    assert code in (None, exit_code), output.getvalue()
    return exit_code, output.getvalue()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        PAGE.write_text(make_page(tiny_weights(work / "weights"), work), encoding="utf-8")
