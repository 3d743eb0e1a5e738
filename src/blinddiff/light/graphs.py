"""Runs exported graphs by ONNX Runtime: the estimate from y, and the restoration with an estimate, in tiles."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from blinddiff.errors import WeightsError
from blinddiff.files import file_hash, release_pages, zeros_on_disk
from blinddiff.sampling.modes import DESCRIPTION
from blinddiff.sampling.spans import Span, spans

Array = NDArray[np.float32]
ESTIMATES = ("kernel", "noise_level", "expected_kernel_error", "noise_spectrum")
TILE = 1024
"""Largest side of a tile of the result, in pixels."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """Kernel and noise of one image.

    Attributes:
        kernel: (1, n, n), in pixels of the result; sums to 1.
        noise_level: standard deviation of the noise in grey levels, (1,).
        expected_kernel_error: expected sum |k_hat - k|, 0 to 2, (1,).
        noise_spectrum: power relative to white noise, (1, 16, 16).
    """

    kernel: Array
    noise_level: Array
    expected_kernel_error: Array
    noise_spectrum: Array

    def with_estimate(self, kernel: Array, noise_level: Array) -> "Estimate":
        """The same with another kernel and noise level."""
        return replace(self, kernel=kernel, noise_level=noise_level)

    def inputs(self) -> dict[str, Array]:
        """The inputs of a graph."""
        return {name: getattr(self, name) for name in ESTIMATES}


@dataclass(frozen=True, eq=False)
class Kind:
    """What a picture is.

    Attributes:
        probabilities: of each kind, by name.
        factor: by which it was enlarged, if it was.
    """

    probabilities: dict[str, float]
    factor: float


@dataclass(frozen=True, eq=False)
class Restored:
    """A restored image.

    Attributes:
        x: (1, 3, s * h, s * w), in [0, 1].
        kernel, noise_level: those of `Estimate`, refined with x.
        residual: y minus the degraded x, (1, 3, h, w), grey levels.
    """

    x: Array
    kernel: Array
    noise_level: Array
    residual: Array


class Graphs:
    """A folder of graphs, written by `blinddiff export`.

    Raises WeightsError if it holds none, or its graphs read their weights from a file that has changed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        try:
            self.description: dict[str, Any] = json.loads((self.folder / DESCRIPTION).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise WeightsError(f"{folder}: holds no exported graphs: {DESCRIPTION} cannot be read") from error
        linked = self.description.get("weights")
        try:
            if linked is not None and file_hash(self.folder / linked["file"]) != linked["sha256"]:
                raise WeightsError(f"{folder}: its graphs were made from other weights; export them again")
        except OSError as error:
            raise WeightsError(f"{folder}: the weights of its graphs cannot be read: {linked['file']}") from error
        self._session = cache(self._load)

    @property
    def scales(self) -> list[int]:
        """The scales that have graphs."""
        return list(self.description["scales"])

    def estimate(self, y: Array, scale: int, jpeg_step: float = 0.0) -> tuple[Estimate, Kind]:
        """Kernel, noise and kind of an image (1, 3, h, w) in [0, 1]. jpeg_step: see `Observation`."""
        out = self._run("estimate", scale, y=y, jpeg_step=np.array([jpeg_step], np.float32))
        kinds = dict(zip(self.description["picture_kinds"], map(float, out["picture_probabilities"][0]), strict=True))
        return Estimate(*(out[name] for name in ESTIMATES)), Kind(kinds, float(out["enlarged_by"][0]))

    def tiles(self, height: int, width: int, scale: int) -> tuple[list[Span], list[Span]]:
        """Rows and columns of the tiles of an image of height x width pixels."""
        unit = math.lcm(scale, self.description["size_multiple"])
        return spans(height * scale, unit, TILE), spans(width * scale, unit, TILE)

    def restore(
        self,
        y: Array,
        scale: int,
        mode: str,
        estimate: Estimate,
        on_tile: Callable[[int, int], object] = lambda *_: None,
        on_disk: bool = False,
    ) -> Restored:
        """Restore an image (1, 3, h, w) in [0, 1] with an estimate; a large one in tiles, which are blended.

        on_tile: called after each tile with (finished tiles, all tiles). on_disk: where x is made, see `zeros_on_disk`.
        """
        rows, columns = self.tiles(y.shape[-2], y.shape[-1], scale)
        x = (zeros_on_disk if on_disk else np.zeros)((1, 3, y.shape[-2] * scale, y.shape[-1] * scale), np.float32)
        residual = np.zeros_like(y)
        kernel, noise_level, total = np.zeros_like(estimate.kernel), np.zeros_like(estimate.noise_level), 0.0
        for index, (row, column) in enumerate(product(rows, columns), 1):
            hr = np.s_[..., row.start : row.stop, column.start : column.stop]
            lr = np.s_[..., row.start // scale : row.stop // scale, column.start // scale : column.stop // scale]
            out = self._run(f"restore_{mode}", scale, y=np.ascontiguousarray(y[lr]), **estimate.inputs())
            weights = row.weights[:, None] * column.weights
            x[hr] += weights * out["x"]
            residual[lr] += weights[scale // 2 :: scale, scale // 2 :: scale] * out["residual"]
            share = _gradient_energy(y[lr])
            kernel += share * out["refined_kernel"]
            noise_level += share * out["refined_noise_level"]
            total += share
            release_pages()
            on_tile(index, len(rows) * len(columns))
        return Restored(x, kernel / np.float32(total), noise_level / np.float32(total), residual)

    def _run(self, part: str, scale: int, **inputs: Array) -> dict[str, Array]:
        session = self._session(part, scale)
        try:
            outputs = session.run(None, inputs)
        except Exception as error:  # ONNX Runtime raises errors of its own
            if "allocate" in str(error):
                raise MemoryError(str(error)) from error
            raise
        return dict(zip((each.name for each in session.get_outputs()), outputs, strict=True))

    def _load(self, part: str, scale: int) -> Any:
        path = self.folder / f"{part}_x{scale}.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; it warns of every node that it cannot compute in advance
        if (threads := os.environ.get("OMP_NUM_THREADS", "")).isdigit():  # as torch does
            options.intra_op_num_threads = int(threads)
        try:
            return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises errors of many kinds
            raise WeightsError(f"{path}: cannot be loaded: {' '.join(str(error).split())[:300]}") from error


def _gradient_energy(image: Array) -> float:
    """Sum of squared differences of neighbouring pixels; above 0, so that flat tiles weigh alike."""
    return float(sum(np.square(np.diff(image[0].mean(0), axis=axis)).sum() for axis in (0, 1))) + 1e-30
