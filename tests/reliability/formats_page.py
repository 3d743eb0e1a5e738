"""Makes docs/formats.md by running files of every format through the command line: `python formats_page.py`."""

import contextlib
import io
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
import tifffile
import torch
from corpus import HEIGHT, WIDTH, XMP, colours, corpus, exif_block, profile, refused
from PIL import ExifTags, Image

from blinddiff.cli import main as cli
from blinddiff.models.mcformer import MCFormer
from blinddiff.sampling.pipeline import BlindDiffPipeline
from blinddiff.sampling.schedulers import default_scheduler

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
SCALE = 2

HEAD = """# Formats

Made by `python tests/reliability/formats_page.py`, which runs a file of each kind through `blinddiff upscale` and looks
at the results with other libraries; a test compares. Do not edit.

The format is detected from a file's contents, not from its name. Only single images are read; of a phone's JPEG with
several, the first.

"""

NOTES = """
Bits are those of one channel; "32 f" means floats from 0 (black) to 1 (white). Integers of 9 to 15 bits are read as 16.
"-": the file had none.

- **Grey** stays grey, but WebP, and AVIF with transparency, store three equal channels. A grey profile does not fit
  those: in WebP and AVIF, grey is written with the tone curve of sRGB and without a profile.
- **Alpha** is enlarged bicubically, without overshoot. Colours hidden under transparent parts do not bleed into visible
  ones: before the restoration they are replaced by the visible colours around them. Further channels of a TIFF that are
  not declared as transparency (such as a saved selection) are dropped.
- **16 bits and floats** are computed as 32-bit floats from end to end, and written with the bits of the input if the
  format has them: PNG 8 and 16, TIFF 8, 16 and floats, the others 8.
- **Colour profiles**: the pixels are converted to the tone curve of sRGB before the restoration, and back after it. The
  profile is written unchanged. The primaries are not converted, so that no colour is clipped. If a profile is damaged,
  or for another kind of pixel, it is kept and the values are not converted. Colour spaces that AVIF or PNG files name
  by code points (nclx, cICP), such as Display P3, become a profile. Images of high dynamic range (PQ, HLG) are refused.
  A PNG's gamma and primaries (gAMA, cHRM) are not read.
- **EXIF** is kept byte by byte (in TIFF: field by field), except for the orientation, which is applied to the pixels
  and set to upright, for width and height, and for the thumbnail of the old picture, which is removed.
- **XMP** is kept, with orientation, width and height set as in EXIF. Packets above 64 KiB, which JPEG splits, are not
  joined.

Not read, besides the refused kinds above: camera raw, PDF, PSD, SVG, ICO, TGA, JPEG XL.

Libraries: Pillow for JPEG, WebP, AVIF, GIF, BMP, PPM and for 8-bit PNG and JPEG 2000; tifffile for TIFF; imagecodecs
for PNG, JPEG 2000 and AVIF of more than 8 bits, the compressions inside of TIFF, and colour profiles in floating point.
"""


def tiny_weights(folder: Path) -> Path:
    """Weights of a small random network: formats and metadata do not depend on them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MCFormer(dim=8, num_blocks=[1, 1], heads=[1, 1], estimator_hidden=32, embedding_dim=16)
    BlindDiffPipeline(network, default_scheduler(network)).save_pretrained(folder)
    return folder


def make_page(weights: Path, folder: Path) -> str:
    """The page's text. `folder` is an empty one to work in."""
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
        "Each file was run with `--format same`: written in its own format where that is written, else as PNG.",
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
    import imagecodecs

    from blinddiff.imaging.write import encode_png

    source = folder / "everything.png"
    array = colours(3, np.uint16)
    source.write_bytes(encode_png(array, profile(1.8), exif_block(), XMP))
    transparent = folder / "transparent.png"
    transparent.write_bytes(imagecodecs.png_encode(colours(4, np.uint16)))
    lines = [
        "## What is written",
        "",
        "From a 16-bit PNG with everything, and one with transparency, by the output's extension:",
        "",
        "| written as | bits | alpha | ICC | EXIF | XMP |",
        "|---|---|---|---|---|---|",
    ]
    for suffix in (".png", ".tif", ".jpg", ".webp", ".avif"):
        result = folder / f"everything{suffix}"
        if suffix == ".png":
            result = folder / "result.png"
        _run("upscale", source, "-o", result, "--scale", 1, "--weights", weights)
        facts = _Kept(source.read_bytes(), result)
        other = folder / f"result-transparent{suffix}"
        code, output = _run("upscale", transparent, "-o", other, "--scale", 1, "--weights", weights, code=None)
        alpha = (
            _Kept(transparent.read_bytes(), other).alpha if code == 0 else f"refused: {output.split(': ')[-1].strip()}"
        )
        lines.append(f"| {suffix} | {_bits(facts.bits)} | {alpha} | {facts.icc} | {facts.exif} | {facts.xmp} |")
    return "\n".join(lines) + "\n"


class _Kept:
    """What a result kept of its source, read by libraries that did not write it."""

    def __init__(self, source: bytes, result: Path) -> None:
        data = result.read_bytes()
        if result.suffix == ".tif":
            with tifffile.TiffFile(io.BytesIO(data)) as tiff:
                page = tiff.pages.first
                array = page.asarray()
                icc = page.tags[34675].value if 34675 in page.tags else None
                xmp = page.tags[700].value if 700 in page.tags else None
            exif = Image.Exif()
            exif.load_from_fp(io.BytesIO(data))
        else:
            array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            with Image.open(io.BytesIO(data)) as picture:
                icc, xmp = picture.info.get("icc_profile"), picture.info.get("xmp")
                exif = picture.getexif()
            if data[1:4] == b"PNG" and data[25] == 4:
                array = array[..., 2:]  # grey with alpha, which OpenCV gives as four channels
        channels = 1 if array.ndim == 2 else array.shape[-1]
        self.bits = 8 * array.dtype.itemsize
        self.mode = ("L", "LA", "RGB", "RGBA")[channels - 1]
        with Image.open(io.BytesIO(source)) if _pillow_opens(source) else contextlib.nullcontext() as before:
            info = {} if before is None else before.info
            had_exif = before is not None and ExifTags.Base.Model in before.getexif()
            had_alpha = self.mode.endswith("A") or (before is not None and before.mode in ("LA", "RGBA"))
        self.alpha = "kept" if self.mode.endswith("A") else "lost" if had_alpha else "-"
        had_icc = info.get("icc_profile") or (profile(1.8) if profile(1.8) in source else None)  # JPEG 2000: as it is
        self.icc = _verdict(had_icc, icc == had_icc)
        self.exif = _verdict(had_exif, _exif_is_right(exif, array.shape))
        self.xmp = _verdict(info.get("xmp"), xmp is not None and _xmp_is_right(xmp, array.shape))


def _pillow_opens(data: bytes) -> bool:
    try:
        Image.open(io.BytesIO(data)).close()
    except OSError:
        return False
    return True


def _verdict(had: object, right: bool) -> str:
    return "-" if not had else "kept" if right else "lost"


def _exif_is_right(exif: Image.Exif, shape: tuple[int, ...]) -> bool:
    """The camera, the lens and the place are there, upright, with the new size."""
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
        ended = cli.main([str(argument) for argument in arguments])
    assert code in (None, ended), output.getvalue()
    return ended, output.getvalue()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        PAGE.write_text(make_page(tiny_weights(work / "weights"), work), encoding="utf-8")
