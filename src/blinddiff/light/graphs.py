"""Runs exported graphs by ONNX Runtime: the estimate from y, and the restoration with an estimate, in tiles."""

import json
import math
import os
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from blinddiff.errors import ParameterError, WeightsError
from blinddiff.sampling.spans import spans

Array = NDArray[np.float32]
DESCRIPTION = "blinddiff.json"
ESTIMATES = ("kernel", "noise_level", "expected_kernel_error", "noise_spectrum")
TILE = 1024
"""Largest side of a tile of the result, in pixels."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """Kernel and noise of one image.

    Attributes:
        kernel: (n, n), in pixels of the result; sums to 1.
        noise_level: standard deviation of the noise in grey levels.
        expected_kernel_error: expected sum |k_hat - k|, 0 to 2.
        noise_spectrum: power relative to white noise, (16, 16).
    """

    kernel: Array
    noise_level: float
    expected_kernel_error: float
    noise_spectrum: Array

    def with_kernel(self, kernel: Array, noise_level: float) -> "Estimate":
        """The same with another kernel and noise level."""
        return replace(self, kernel=kernel, noise_level=noise_level)

    def inputs(self) -> dict[str, Array]:
        """The inputs of a graph."""
        return {name: np.asarray(getattr(self, name), np.float32)[None] for name in ESTIMATES}


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
        x: (3, s * h, s * w), in [0, 1].
        kernel, noise_level: as refined with x.
        residual: y minus the degraded x, (3, h, w), grey levels.
    """

    x: Array
    kernel: Array
    noise_level: float
    residual: Array


class Graphs:
    """A folder of graphs, written by `blinddiff export`. Raises WeightsError if it holds none."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        try:
            self.description: dict[str, Any] = json.loads((self.folder / DESCRIPTION).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise WeightsError(f"{folder}: holds no exported graphs: {DESCRIPTION} cannot be read") from error
        self._session = cache(self._load)

    @property
    def scales(self) -> list[int]:
        """The scales that have graphs."""
        return list(self.description["scales"])

    def check_scale(self, scale: int) -> None:
        """Raise ParameterError if there are no graphs for a scale."""
        if scale not in self.scales:
            raise ParameterError(f"scale {scale} is not one of {', '.join(map(str, self.scales))}")

    def estimate(self, y: Array, scale: int, jpeg_step: float = 0.0) -> tuple[Estimate, Kind]:
        """Kernel, noise and kind of an image (3, h, w) in [0, 1]. jpeg_step: see `Observation`."""
        out = self._run("estimate", scale, y=y[None], jpeg_step=np.array([jpeg_step], np.float32))
        kinds = dict(zip(self.description["picture_kinds"], map(float, out["picture_probabilities"][0]), strict=True))
        numbers = float(out["noise_level"][0]), float(out["expected_kernel_error"][0])
        return Estimate(out["kernel"][0], *numbers, out["noise_spectrum"][0]), Kind(kinds, float(out["enlarged_by"][0]))

    def restore(self, y: Array, scale: int, estimate: Estimate) -> Restored:
        """Restore an image (3, h, w) in [0, 1] with an estimate; a large one in tiles, which are blended."""
        unit = math.lcm(scale, self.description["size_multiple"])
        rows, columns = (spans(side * scale, unit, TILE) for side in y.shape[-2:])
        x = np.zeros((3, y.shape[-2] * scale, y.shape[-1] * scale), np.float32)
        residual = np.zeros_like(y)
        kernel, noise_level, total = np.zeros_like(estimate.kernel), 0.0, 0.0
        for row in rows:
            for column in columns:
                hr = np.s_[:, row.start : row.stop, column.start : column.stop]
                lr = np.s_[:, row.start // scale : row.stop // scale, column.start // scale : column.stop // scale]
                out = self._run("restore", scale, y=np.ascontiguousarray(y[lr])[None], **estimate.inputs())
                weights = row.weights[:, None] * column.weights
                x[hr] += weights * out["x"][0]
                residual[lr] += weights[scale // 2 :: scale, scale // 2 :: scale] * out["residual"][0]
                share = _gradient_energy(y[lr])
                kernel += share * out["refined_kernel"][0]
                noise_level += share * float(out["refined_noise_level"][0])
                total += share
        return Restored(x, kernel / np.float32(total), noise_level / total, residual)

    def _run(self, part: str, scale: int, **inputs: Array) -> dict[str, Array]:
        session = self._session(part, scale)
        return dict(zip((each.name for each in session.get_outputs()), session.run(None, inputs), strict=True))

    def _load(self, part: str, scale: int) -> Any:
        path = self.folder / f"{part}_x{scale}.onnx"
        options = onnxruntime.SessionOptions()
        if (threads := os.environ.get("OMP_NUM_THREADS", "")).isdigit():  # as torch does
            options.intra_op_num_threads = int(threads)
        try:
            return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises errors of many kinds
            raise WeightsError(f"{path}: cannot be loaded: {' '.join(str(error).split())[:300]}") from error


def _gradient_energy(image: Array) -> float:
    """Sum of squared differences of neighbouring pixels; above 0, so that flat tiles weigh alike."""
    return float(sum(np.square(np.diff(image.mean(0), axis=axis)).sum() for axis in (0, 1))) + 1e-30
