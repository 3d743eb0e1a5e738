"""`blinddiff.restore`: one call for a file, a picture or an array."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blinddiff.degradation.kernel_files import read_kernel
from blinddiff.files import FilePath
from blinddiff.imaging import Photograph, from_picture
from blinddiff.imaging.photograph import from_array
from blinddiff.restoring.engines import load_engine
from blinddiff.restoring.photograph import RestoreSettings, Result, read_restorable, restore_photograph

_load = lru_cache(maxsize=2)(load_engine)


def restore(
    image: FilePath | Image.Image | NDArray[Any],
    scale: float = 4,
    *,
    engine: str = "auto",
    mode: str | None = None,
    weights: str | None = None,
    device: str | None = None,
    **settings: Any,
) -> Result:
    """Restore a photograph.

    Args:
        image: a file, a PIL image, or an array (h, w), (h, w, 3) or (3, h, w) of uint8, uint16, or floats in [0, 1].
        scale, mode, weights, device: see `RestoreSettings`; None as mode for the engine's default.
        engine: ``"torch"``, ``"onnx"`` for graphs, which need no torch, or ``"auto"``. It is kept for the next call.
        **settings: the others of `RestoreSettings`.

    Raises ImageError, WeightsError, KernelError or ParameterError as `restore_photograph` and `load_engine` do.
    """
    photograph = _photograph(image)
    loaded = _load(engine, weights, device)
    settings |= {"scale": scale, "engine": engine, "weights": weights, "device": device}
    chosen = RestoreSettings(mode=mode or loaded.modes[0], **settings)
    chosen.check(loaded)
    kernel = None if chosen.kernel is None else read_kernel(chosen.kernel)
    return restore_photograph(loaded, photograph, chosen, kernel)


def _photograph(image: FilePath | Image.Image | NDArray[Any]) -> Photograph:
    if isinstance(image, np.ndarray):
        grey, deep = image.ndim == 2, image.dtype.name != "uint8"
        pixels, alpha, mode, icc_profile = from_array(image), None, "L" if grey else "RGB", None
    elif isinstance(image, Image.Image):
        grey, deep = image.mode[0] in "1LI", image.mode.startswith("I;16")
        (pixels, alpha), mode, icc_profile = from_picture(image), image.mode, image.info.get("icc_profile")
    else:
        return read_restorable(Path(image))
    return Photograph(pixels, alpha, grey, 16 if deep else 8, mode, "PNG", icc_profile, None, None, None)
