"""Small files of every format that is read, with all kinds of metadata that are parsed."""

import functools
import io
import zlib
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

WIDTH, HEIGHT = 24, 18
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/" '
    b'tiff:Orientation="6" tiff:ImageWidth="24"><exif:PixelXDimension>24</exif:PixelXDimension>'
    b"<exif:PixelYDimension>18</exif:PixelYDimension></rdf:Description></rdf:RDF></x:xmpmeta>"
)


def colours(channels: int = 3, kind: type[np.generic] = np.uint8) -> npt.NDArray[Any]:
    """Smooth colours, with some noise so that no two rows are the same."""
    row, column = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [(row * 9 + column * 3, column * 9, row * 5 + 60, 255 - column * 10)[c] for c in range(channels)]
    noisy = np.stack(planes, -1) + np.random.default_rng(0).integers(0, 12, (HEIGHT, WIDTH, channels))
    values = noisy.clip(0, 255) / 255
    return values.astype(kind) if kind == np.float32 else (values * np.iinfo(kind).max).astype(kind)


def exif_block(orientation: int = 6) -> bytes:
    """An EXIF block with a camera, a lens, a place and the size."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Model] = "a camera"
    exif[ExifTags.Base.Copyright] = "someone"
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {
            ExifTags.Base.ExifImageWidth: WIDTH,
            ExifTags.Base.ExifImageHeight: HEIGHT,
            ExifTags.Base.LensModel: "a lens",
            ExifTags.Base.FNumber: 2.8,
        }
    )
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (52.0, 31.0, 12.5)})
    return exif.tobytes()


def srgb_profile() -> bytes:
    """LittleCMS's own sRGB profile."""
    return _undated(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())


def _undated(icc_profile: bytes) -> bytes:
    """Without date and checksum, so that the files, and what is done to them, are the same in every run."""
    header = bytearray(icc_profile)
    header[24:36] = bytes(12)
    header[84:100] = bytes(16)
    return bytes(header)


@functools.cache
def profile(gamma: float, grey: bool = False) -> bytes:
    """A colour profile with the primaries of Display P3, or a grey one, and a power law."""
    white = [0.3127, 0.3290, 1]
    if grey:
        return _undated(imagecodecs.cms_profile("gray", whitepoint=white, gamma=gamma))
    primaries = [0.680, 0.320, 1, 0.265, 0.690, 1, 0.150, 0.060, 1]
    return _undated(imagecodecs.cms_profile("rgb", whitepoint=white, primaries=primaries, gamma=gamma))


def by_pillow(array: npt.NDArray[Any], kind: str, **settings: Any) -> bytes:
    """A file that Pillow writes; grey where there is one channel."""
    picture = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **settings)
    return buffer.getvalue()


def by_tifffile(array: npt.NDArray[Any], **settings: Any) -> bytes:
    """A TIFF file that tifffile writes."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **{"photometric": "rgb", **settings})
    return buffer.getvalue()


def jpeg2000_with_profile(data: bytes, icc_profile: bytes) -> bytes:
    """A JP2 file with a colour profile in place of the name of its colour space, which no library here can write."""
    header, box = data.index(b"jp2h") - 4, data.index(b"colr") - 4
    end = box + int.from_bytes(data[box : box + 4], "big")
    colour = (11 + len(icc_profile)).to_bytes(4, "big") + b"colr\2\0\0" + icc_profile
    length = int.from_bytes(data[header : header + 4], "big") + len(colour) - (end - box)
    return data[:header] + length.to_bytes(4, "big") + data[header + 4 : box] + colour + data[end:]


def png_with_gamma(data: bytes, gamma: float) -> bytes:
    """A PNG file that declares a power law (gAMA)."""
    chunk = b"gAMA" + round(1e5 / gamma).to_bytes(4, "big")
    return data[:33] + b"\0\0\0\4" + chunk + zlib.crc32(chunk).to_bytes(4, "big") + data[33:]


def jpegxl_with_boxes(array: npt.NDArray[Any]) -> bytes:
    """A JPEG XL file with EXIF and XMP."""
    data = imagecodecs.jpegxl_encode(array, usecontainer=True)
    for kind, contents in ((b"Exif", bytes(4) + exif_block().removeprefix(b"Exif\0\0")), (b"xml ", XMP)):
        data += (8 + len(contents)).to_bytes(4, "big") + kind + contents
    return data


def animation(kind: str) -> bytes:
    """A file of three frames or pages."""
    frames = [Image.fromarray(np.roll(colours(), shift, 1)) for shift in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def corpus() -> dict[str, bytes]:
    """Name and contents of files that can be read."""
    everything = {"icc_profile": profile(1.8), "exif": exif_block(), "xmp": XMP}
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    grey, rgb, rgba, deep = colours(1), colours(3), colours(4), colours(3, np.uint16)
    palette = Image.fromarray(rgb).quantize(16)
    buffers = {kind: io.BytesIO() for kind in ("PNG", "GIF", "TIFF")}
    for kind, buffer in buffers.items():
        palette.save(buffer, kind, **({} if kind == "TIFF" else {"transparency": 3}))
    bits = Image.fromarray(grey[..., 0] > 128)
    cmyk = {"JPEG": io.BytesIO(), "TIFF": io.BytesIO()}
    for kind, buffer in cmyk.items():
        Image.fromarray(rgb).convert("CMYK").save(buffer, kind)
    ycbcr = np.asarray(Image.fromarray(rgb).convert("YCbCr"))
    avif = by_pillow(rgb, "AVIF")
    xmp_tag = [(700, 7, len(XMP), XMP, True)]
    return {
        "PNG, 1 bit.png": by_pillow(np.asarray(bits), "PNG"),
        "PNG, palette with transparency.png": buffers["PNG"].getvalue(),
        "PNG, grey.png": by_pillow(grey, "PNG", icc_profile=profile(1.8, grey=True)),
        "PNG, grey with alpha.png": by_pillow(colours(2), "PNG"),
        "PNG, RGB.png": by_pillow(rgb, "PNG", pnginfo=text, icc_profile=profile(1.8), exif=exif_block()),
        "PNG, RGB with alpha.png": by_pillow(rgba, "PNG"),
        "PNG, grey, 16 bits.png": imagecodecs.png_encode(colours(1, np.uint16)[..., 0]),
        "PNG, grey with alpha, 16 bits.png": imagecodecs.png_encode(colours(2, np.uint16)),
        "PNG, RGB, 16 bits.png": imagecodecs.png_encode(deep),
        "PNG, RGB with alpha, 16 bits.png": imagecodecs.png_encode(colours(4, np.uint16)),
        "PNG, RGB with a declared gamma of 1.png": png_with_gamma(by_pillow(rgb, "PNG"), 1.0),
        "JPEG, grey.jpg": by_pillow(grey, "JPEG"),
        "JPEG, colour.jpg": by_pillow(rgb, "JPEG", **everything),
        "JPEG, progressive.jpg": by_pillow(rgb, "JPEG", progressive=True, subsampling=2),
        "JPEG, CMYK.jpg": cmyk["JPEG"].getvalue(),
        "TIFF, 1 bit.tif": by_pillow(np.asarray(bits), "TIFF", compression="group4"),
        "TIFF, palette.tif": buffers["TIFF"].getvalue(),
        "TIFF, CMYK.tif": cmyk["TIFF"].getvalue(),
        "TIFF, YCbCr.tif": by_tifffile(ycbcr, photometric="ycbcr", metadata=None),
        "TIFF, grey, LZW.tif": by_pillow(grey, "TIFF", compression="tiff_lzw"),
        "TIFF, RGB.tif": by_pillow(rgb, "TIFF", exif=exif_block(), icc_profile=profile(1.8)),
        "TIFF, RGB, JPEG inside.tif": by_pillow(rgb, "TIFF", compression="jpeg"),
        "TIFF, RGB with alpha.tif": by_pillow(rgba, "TIFF"),
        "TIFF, grey, 16 bits.tif": by_tifffile(colours(1, np.uint16)[..., 0], photometric="minisblack"),
        "TIFF, RGB, 16 bits, LZW.tif": by_tifffile(
            deep, compression="lzw", predictor=True, iccprofile=profile(1.8), extratags=xmp_tag, metadata=None
        ),
        "TIFF, RGB, 16 bits, tiles.tif": by_tifffile(
            np.pad(deep, ((0, 14), (0, 8), (0, 0))), tile=(16, 16), compression="deflate"
        ),
        "TIFF, RGB with multiplied alpha, 16 bits, BigTIFF.tif": by_tifffile(
            colours(4, np.uint16), bigtiff=True, extrasamples=["assocalpha"]
        ),
        "TIFF, grey, floats.tif": by_tifffile(colours(1, np.float32)[..., 0], photometric="minisblack"),
        "TIFF, RGB, floats.tif": by_tifffile(colours(3, np.float32)),
        "WebP, lossy.webp": by_pillow(rgb, "WEBP", **everything),
        "WebP, lossless with alpha.webp": by_pillow(rgba, "WEBP", lossless=True),
        "AVIF.avif": by_pillow(rgb, "AVIF", **everything),
        "AVIF with the major brand mif1.avif": avif[:8] + b"mif1" + avif[12:],
        "AVIF with alpha.avif": by_pillow(rgba, "AVIF"),
        "AVIF, 10 bits.avif": imagecodecs.avif_encode(deep >> 6, level=90, bitspersample=10),
        "JPEG 2000.jp2": by_pillow(rgb, "JPEG2000"),
        "JPEG 2000 with alpha.jp2": by_pillow(rgba, "JPEG2000"),
        "JPEG 2000 with a profile.jp2": jpeg2000_with_profile(by_pillow(rgb, "JPEG2000"), profile(1.8)),
        "JPEG 2000, 16 bits.j2k": imagecodecs.jpeg2k_encode(deep, level=0, reversible=True, codecformat="j2k"),
        "JPEG XL.jxl": jpegxl_with_boxes(rgb),
        "JPEG XL, grey with alpha, 16 bits.jxl": imagecodecs.jpegxl_encode(colours(2, np.uint16)),
        "JPEG XL, floats.jxl": imagecodecs.jpegxl_encode(colours(3, np.float32)),
        "GIF.gif": buffers["GIF"].getvalue(),
        "BMP.bmp": by_pillow(rgb, "BMP"),
        "PPM.ppm": by_pillow(rgb, "PPM"),
        "PGM, 16 bits.pgm": b"P5 24 18 65535\n" + colours(1, np.uint16).byteswap().tobytes(),
    }


def refused() -> dict[str, bytes]:
    """Name and contents of undamaged files that are refused."""
    nan = colours(1, np.float32)[..., 0].copy()
    nan[3, 5], nan[4, 5] = np.nan, np.inf
    lab = io.BytesIO()
    Image.fromarray(colours()).convert("LAB").save(lab, "TIFF")
    return {
        "TIFF, Lab.tif": lab.getvalue(),
        "TIFF, floats that are not finite.tif": by_tifffile(nan, photometric="minisblack"),
        "TIFF, floats beyond 0 to 1.tif": by_tifffile(9 * colours(3, np.float32)),
        "TIFF, 32-bit whole numbers.tif": by_tifffile(
            colours(1, np.uint16)[..., 0].astype(np.uint32), photometric="minisblack"
        ),
        "TIFF, 16-bit signed whole numbers.tif": by_tifffile(
            colours(1, np.uint16)[..., 0].view(np.int16), photometric="minisblack"
        ),
        "TIFF, several pages.tif": animation("TIFF"),
        "GIF, animated.gif": animation("GIF"),
        "PNG, animated.png": animation("PNG"),
        "WebP, animated.webp": animation("WEBP"),
        "AVIF, animated.avif": animation("AVIF"),
        "JPEG XL, animated.jxl": imagecodecs.jpegxl_encode(np.stack([colours()] * 3)),
        "PPM, 16 bits.ppm": b"P6 24 18 65535\n" + colours(3, np.uint16).byteswap().tobytes(),
    }
