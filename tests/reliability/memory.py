"""Peak memory of reading one image of each kind, in bytes a pixel beyond the file: `python memory.py`. Linux only."""

import io
import json
import multiprocessing
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from corpus import profile
from PIL import Image

from blinddiff.imaging import read_image

SIDE = 1200


def files(side: int) -> Iterator[tuple[str, bytes]]:
    """Images of side x side pixels, smooth with a little noise."""
    random = np.random.default_rng(0)
    rgba = np.repeat(np.linspace(0, 250, side, dtype=np.uint8)[None, :, None], side, 0).repeat(4, 2)
    rgba = rgba + random.integers(0, 5, rgba.shape, dtype=np.uint8)
    rgb, deep = rgba[..., :3], rgba.astype(np.uint16) * 257
    settings: dict[str, dict[str, Any]] = {
        "PNG": {},
        "JPEG": {},
        "WEBP": {"method": 0},
        "AVIF": {"speed": 10},
        "JPEG2000": {},
        "BMP": {},
        "PPM": {},
    }
    for kind, options in settings.items():
        buffer = io.BytesIO()
        picture = Image.fromarray(rgb if kind in ("JPEG", "PPM") else rgba)
        picture.save(buffer, kind, icc_profile=profile(1.8), **options)
        yield kind, buffer.getvalue()
    yield "PNG, 16 bits", imagecodecs.png_encode(deep, level=1)
    yield "JPEG 2000, 16 bits", imagecodecs.jpeg2k_encode(deep[..., :3], level=0, reversible=True)
    tiffs: dict[str, tuple[np.ndarray[Any, Any], dict[str, Any]]] = {
        "TIFF": (rgb, {}),
        "TIFF, 16 bits, deflate": (deep, {"compression": "deflate", "extrasamples": ["unassalpha"]}),
        "TIFF, 16 bits, multiplied alpha": (deep, {"extrasamples": ["assocalpha"]}),
        "TIFF, floats of 64 bits": (rgb / 255, {}),
    }
    for kind, (array, options) in tiffs.items():
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, array, photometric="rgb", **options)
        yield kind, buffer.getvalue()


def measured(path: Path) -> dict[str, float]:
    """Figures of reading one file, in a process of its own: what another read has freed must not count."""
    data = path.read_bytes()
    read_image((path.parent / f"small {path.name}").read_bytes())  # what is only loaded once does not count either
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")
    before = _status("VmRSS")
    read_image(data)
    grown = _status("VmHWM") - before
    return {"file_mib": round(len(data) / 2**20, 1), "bytes_a_pixel": round(grown / SIDE**2, 1)}


def _status(name: str) -> int:
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith(name))
    return int(line.split()[1]) * 1024


def _write_files(folder: Path) -> None:
    for side, prefix in ((SIDE, ""), (16, "small ")):
        for name, data in files(side):
            (folder / f"{prefix}{name}").write_bytes(data)


def main() -> None:
    """Print a JSON object."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        fork = multiprocessing.get_context("fork")
        with fork.Pool(1, maxtasksperchild=1) as pool:
            pool.apply(_write_files, (folder,))
            names = [path.name for path in folder.iterdir() if not path.name.startswith("small ")]
            figures = {name: pool.apply(measured, (folder / name,)) for name in sorted(names)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
