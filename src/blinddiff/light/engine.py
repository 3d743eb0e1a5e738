"""Restores pictures without torch, with the decisions of `blinddiff.sampling.safety`."""

import math
import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blinddiff.errors import ImageError
from blinddiff.light.graphs import Array, Estimate, Graphs, Restored
from blinddiff.sampling.decision import (
    AS_ESTIMATED,
    CERTAIN,
    FALLBACK_NAMES,
    MIN_FACTOR,
    SMALLEST_SIDE,
    Decision,
    own_scale,
    own_size,
)

ROUNDING_VARIANCE = 1 / 12  # of rounding to whole grey levels
WHITE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0, "float64": 1.0}


@dataclass(frozen=True, eq=False)
class Result:
    """A restored picture with what was estimated.

    Attributes:
        image: (H, W, 3) in [0, 1].
        kernel: the blur kernel (n, n), in pixels of the result (of one restored from its own size: of that one's); sums
            to 1; entries may be negative.
        noise_level: standard deviation of the noise in grey levels.
        noise_spectrum: power relative to white noise, (16, 16), at the frequencies of `numpy.fft.fftfreq`.
        expected_kernel_error: expected sum |k_hat - k|, 0 to 2; unreliable from 0.75 on.
        residual: input minus degraded result, (h, w, 3), grey levels.
        consistency: RMS of the residual divided by that expected from noise and rounding; near 1 is good.
        decision: what the picture was taken for, and how it was restored; None if it was restored as it is.
    """

    image: Array
    kernel: Array
    noise_level: float
    noise_spectrum: Array
    expected_kernel_error: float
    residual: Array
    consistency: float
    decision: Decision | None

    @property
    def picture(self) -> Image.Image:
        """The image with 8 bits."""
        return Image.fromarray((self.image * 255).round().astype(np.uint8))


class Engine:
    """Restores pictures with a folder of graphs, written by `blinddiff export`.

    Raises WeightsError if the folder holds no graphs.
    """

    def __init__(self, graphs: str | os.PathLike[str]) -> None:
        self.graphs = Graphs(graphs)

    def estimate(self, image: Image.Image | NDArray[Any], scale: int = 4, jpeg_step: float = 0.0) -> Estimate:
        """Kernel and noise of a picture; arguments and errors as for `restore`."""
        self.graphs.check_scale(scale)
        return self.graphs.estimate(to_planes(image), scale, jpeg_step)[0]

    def restore(
        self, image: Image.Image | NDArray[Any], scale: int = 4, *, jpeg_step: float = 0.0, as_is: bool = False
    ) -> Result:
        """Restore a picture.

        Args:
            image: a PIL image, or an array (h, w) or (h, w, 3) of uint8, uint16, or floats in [0, 1].
            scale: one of those of the graphs.
            jpeg_step: mean luma quantisation step of the JPEG file that the image was read from; 0 if there is none.
            as_is: restore every picture as a photograph at its own size, exactly as estimated.

        Raises ImageError for an image that cannot be used, ParameterError for a scale without graphs.
        """
        self.graphs.check_scale(scale)
        y = to_planes(image)
        estimate, kind = self.graphs.estimate(y, scale, jpeg_step)
        if as_is:
            return _result(estimate, self.graphs.restore(y, scale, estimate), None)
        name = max(kind.probabilities, key=kind.probabilities.__getitem__)
        likeliest = name, kind.probabilities[name]
        if kind.probabilities["enlarged"] >= CERTAIN and kind.factor >= MIN_FACTOR:
            return self._restore_from_own_size(y, scale, Decision(*likeliest, kind.factor, AS_ESTIMATED))
        taken, restored = AS_ESTIMATED, self.graphs.restore(y, scale, estimate)
        for milder, change in FALLBACKS.items():
            if self._is_acceptable(y, restored):
                break
            taken, restored = milder, self.graphs.restore(y, scale, change(estimate, restored))
        return _result(estimate, restored, Decision(*likeliest, 1.0, taken))

    def _restore_from_own_size(self, y: Array, scale: int, decision: Decision) -> Result:
        """Reduce an enlarged picture by its factor, restore it, and resize the result to the size asked for."""
        height, width = y.shape[-2:]
        own = own_scale(scale, decision.factor, self.graphs.scales)
        reduced = resized(y, own_size(height, width, decision.factor)).clip(0, 1)
        estimate, _ = self.graphs.estimate(reduced, own)
        result = _result(estimate, self.graphs.restore(reduced, own, estimate), decision)
        image = _to_last(resized(_to_first(result.image), (height * scale, width * scale)).clip(0, 1))
        return replace(result, image=image, residual=_to_last(resized(_to_first(result.residual), (height, width))))

    def _is_acceptable(self, y: Array, restored: Restored) -> bool:
        """As `sampling.safety.is_acceptable`."""
        measured = {
            "consistency": consistency(restored),
            "colour_shift": 255 * float(np.abs(restored.x.mean((1, 2)) - y.mean((1, 2))).max()),
            "clipped": _clipped(restored.x) - _clipped(y),
        }
        return all(measured[name] <= most for name, most in self.graphs.description["acceptable"].items())


def milder_data_term(estimate: Estimate, restored: Restored) -> Estimate:
    """The same kernel; the noise is taken for twice as strong, or as strong as twice the residual."""
    residual = math.sqrt(float(np.square(restored.residual).mean()))
    return estimate.with_kernel(estimate.kernel, 2 * max(estimate.noise_level, residual))


def sharper_kernel(estimate: Estimate, restored: Restored) -> Estimate:
    """The kernel with half its width, and `milder_data_term`."""
    return milder_data_term(estimate.with_kernel(halved(estimate.kernel), estimate.noise_level), restored)


def no_deblurring(estimate: Estimate, restored: Restored) -> Estimate:  # noqa: ARG001
    """No blur but that of the downsampling; the estimated noise."""
    kernel = np.zeros_like(estimate.kernel)
    kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = 1
    return estimate.with_kernel(kernel, estimate.noise_level)


FALLBACKS = dict(zip(FALLBACK_NAMES, (milder_data_term, sharper_kernel, no_deblurring), strict=True))


def halved(kernel: Array) -> Array:
    """A kernel (n, m) with half its width about the centre, by linear interpolation."""
    matrices = []
    for n in kernel.shape:
        position = n // 2 + (np.arange(n) - n // 2) / 2
        matrices.append((1 - np.abs(np.arange(n)[:, None] - position)).clip(0).astype(np.float32))
    return matrices[0] @ kernel @ matrices[1].T


def consistency(restored: Restored) -> float:
    """RMS of the residual divided by that expected from noise and rounding."""
    return math.sqrt(float(np.square(restored.residual).mean()) / (restored.noise_level**2 + ROUNDING_VARIANCE))


def to_planes(image: Image.Image | NDArray[Any]) -> Array:
    """A picture as planes (3, h, w) in [0, 1]; transparency is dropped. Raises ImageError if it cannot be used."""
    if isinstance(image, Image.Image):
        image = np.asarray(image if image.mode.startswith("I;16") else image.convert("RGB"))
    if image.dtype.name not in WHITE:
        raise ImageError(f"pixels of type {image.dtype} are not accepted: use {', '.join(WHITE)}")
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ImageError(f"an array of shape {image.shape} is not (h, w) or (h, w, 3)")
    if min(image.shape[:2]) < SMALLEST_SIDE:
        size = f"{image.shape[1]}x{image.shape[0]}"
        raise ImageError(f"an image of {size} px is too small: sides must be at least {SMALLEST_SIDE} px")
    planes = _to_first((image / WHITE[image.dtype.name]).astype(np.float32))
    if not (np.isfinite(planes).all() and planes.min() >= -0.01 and planes.max() <= 1.01):
        raise ImageError("float images must be finite and lie in [0, 1]")
    return planes


def resized(planes: Array, size: tuple[int, int]) -> Array:
    """Planes (3, h, w) at another size (height, width), by antialiased bicubic interpolation."""
    pictures = [Image.fromarray(plane).resize(size[::-1], Image.Resampling.BICUBIC) for plane in planes]
    return np.stack([np.asarray(picture, np.float32) for picture in pictures])


def _result(estimate: Estimate, restored: Restored, decision: Decision | None) -> Result:
    return Result(
        image=_to_last(restored.x),
        kernel=restored.kernel,
        noise_level=restored.noise_level,
        noise_spectrum=estimate.noise_spectrum,
        expected_kernel_error=estimate.expected_kernel_error,
        residual=_to_last(restored.residual),
        consistency=consistency(restored),
        decision=decision,
    )


def _clipped(image: Array) -> float:
    return float(((image <= 0) | (image >= 1)).mean())


def _to_first(image: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(image, -1, 0))


def _to_last(planes: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(planes, 0, -1))
