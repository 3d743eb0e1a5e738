"""Restores pictures with exported graphs and NumPy, as the pipeline does; without torch."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blinddiff.errors import ParameterError
from blinddiff.imaging.drawn import Drawn, enlarge_alone, find_drawn
from blinddiff.imaging.photograph import from_array, from_picture, resize, spread_colours
from blinddiff.light.graphs import Array, Estimate, Graphs, Restored
from blinddiff.sampling.decision import (
    AS_ESTIMATED,
    CERTAIN,
    FALLBACKS,
    INTERPOLATED,
    MIN_FACTOR,
    Decision,
    check_size,
    consistency,
    halved,
    keeps_colours,
    measured,
    own_scale,
    own_size,
    residual_rms,
    suits_scale_1,
    working_scale,
)
from blinddiff.sampling.engine import Needs

BYTES_PER_PIXEL = 600  # of a tile: peak of ONNX Runtime, measured with the default network


@dataclass(frozen=True, eq=False)
class Output:
    """The restored image and the estimates; fields as in `BlindDiffOutput`, for one image and one sample."""

    images: Array
    kernels: Array
    noise_levels: Array
    residuals: Array
    consistency: Array
    expected_kernel_errors: Array
    noise_spectra: Array
    decisions: list[Decision] | None
    samples: None = None
    std: None = None


class Engine:
    """The engine "onnx": restores pictures with a folder of graphs, written by `blinddiff export`.

    It is deterministic. Raises WeightsError if the folder holds no graphs.
    """

    is_fixed = True
    device = "cpu"

    def __init__(self, graphs: str | os.PathLike[str]) -> None:
        self.graphs = Graphs(graphs)

    @property
    def scales(self) -> list[int]:
        """The scales that have graphs."""
        return self.graphs.scales

    @property
    def modes(self) -> list[str]:
        """The modes of the graphs."""
        return list(self.graphs.description["modes"])

    def check_mode(self, mode: str) -> None:
        """Raise ParameterError if there are no graphs for a mode."""
        if mode not in self.modes:
            raise ParameterError(
                f"mode {mode!r} needs other graphs, or --engine torch; these run {', '.join(self.modes)}"
            )

    def check_fixed(self, **options: Any) -> None:
        """Raise ParameterError if an option is given, not None, that is fixed in graphs."""
        for name, value in options.items():
            if value is not None:
                raise ParameterError(f"{name}: is fixed in graphs; --engine torch takes it")

    def check_scale(self, scale: int) -> int:
        """Return the scale. Raises ParameterError if there are no graphs for it."""
        if scale not in self.scales:
            raise ParameterError(f"scale {scale} is not one of {', '.join(map(str, self.scales))}")
        return scale

    def needs(self, size: tuple[int, int], scale: int, mode: str, samples: int, max_memory: int | None) -> Needs:
        """What a restoration needs, see `sampling.engine.Engine`."""
        rows, columns = ([span.stop - span.start for span in spans] for spans in self.graphs.tiles(*size, scale))
        memory = BYTES_PER_PIXEL * max(rows) * max(columns)
        if max_memory is None or memory + _image_bytes(size, scale) <= max_memory:
            memory += _image_bytes(size, scale)  # else on disk
        return Needs(len(rows) * len(columns), sum(rows) * sum(columns), memory)

    def generator(self, seed: int) -> None:
        """There is no noise."""

    def estimate(self, image: Image.Image | NDArray[Any], scale: int = 4, jpeg_step: float = 0.0) -> Estimate:
        """Kernel and noise of a picture; arguments and errors as for a call."""
        y = to_planes(image)
        drawn = find_drawn(y[0])
        y = y if drawn is None else photograph_in(y, drawn)
        return self.graphs.estimate(y, self.check_scale(scale), jpeg_step)[0]

    def __call__(
        self,
        image: Image.Image | NDArray[Any],
        scale: int = 4,
        mode: str | None = None,
        num_inference_steps: int | None = None,
        num_samples: int = 1,
        kernel: NDArray[Any] | None = None,
        noise_level: float | None = None,
        *,
        generator: None = None,
        output_type: str = "np",
        max_memory: int | None = None,
        jpeg_step: float = 0.0,
        as_is: bool = False,
        on_step: Any = None,
        on_tile: Callable[[int, int], object] = lambda *_: None,
    ) -> Output:
        """Restore a picture.

        Args:
            image: a PIL image, or an array (h, w), (h, w, 3) or (3, h, w) of uint8, uint16, or floats in [0, 1].
            scale: one of those of the graphs.
            mode: one of `modes`; None for the first.
            jpeg_step: mean luma quantisation step of the JPEG file that the image was read from; 0 if there is none.
            max_memory: bytes; if the result does not fit into them beside a tile, it is made on disk.
            as_is: restore every picture as a photograph at its own size, exactly as estimated.
            on_tile: called after each tile with (finished tiles, all tiles).

        Steps, samples, kernel and noise level are those of the graphs. The other arguments have no effect: tiles have a
        fixed size, and there are neither noise nor intermediate images. Raises ImageError for an image that cannot be
        used, ParameterError for a scale or mode without graphs, or an option that graphs do not have.
        """
        samples = None if num_samples == 1 else num_samples
        self.check_fixed(steps=num_inference_steps, samples=samples, kernel=kernel, noise_level=noise_level)
        mode = self.modes[0] if mode is None else mode
        self.check_mode(mode)
        y = to_planes(image)
        self.check_scale(scale)

        def restore(y: Array, scale: int, estimate: Estimate) -> Restored:
            needed = self.needs((y.shape[-2], y.shape[-1]), scale, mode, 1, None).memory
            on_disk = max_memory is not None and needed > max_memory
            return self.graphs.restore(y, scale, mode, estimate, on_tile, on_disk)

        if as_is:
            estimate, _ = self.graphs.estimate(y, scale, jpeg_step)
            return _output(estimate, restore(y, scale, estimate=estimate), None)
        drawn = find_drawn(y[0])
        out = self._restore_photograph(y if drawn is None else photograph_in(y, drawn), scale, jpeg_step, restore)
        out = out if drawn is None else _pasted(out, y[0], drawn, scale)
        if keeps_colours(np.moveaxis(out.images, -1, 1), y, float(out.noise_levels[0])):
            return out
        decisions = [replace(decision, fallback=INTERPOLATED) for decision in out.decisions or ()]
        return replace(out, images=np.moveaxis(enlarge_alone(y[0], scale), 0, -1)[None], decisions=decisions)

    def _restore_photograph(self, y: Array, scale: int, jpeg_step: float, restore: Callable[..., Restored]) -> Output:
        as_it_is = scale == 1 and bool(suits_scale_1(self.graphs.estimate(y, scale, jpeg_step)[0])[0])
        working = working_scale(scale, self.scales, as_it_is=as_it_is)
        out = self._restore_safely(y, working, jpeg_step, restore)
        return out if working == scale else at_half_size(out)

    def _restore_safely(self, y: Array, scale: int, jpeg_step: float, restore: Callable[..., Restored]) -> Output:
        """As `sampling.safety.restore_safely`."""
        estimate, kind = self.graphs.estimate(y, scale, jpeg_step)
        name = max(kind.probabilities, key=kind.probabilities.__getitem__)
        likeliest = name, kind.probabilities[name]
        if kind.probabilities["enlarged"] >= CERTAIN and kind.factor >= MIN_FACTOR:
            return self._restore_from_own_size(y, scale, Decision(*likeliest, kind.factor, AS_ESTIMATED), restore)
        taken, restored = AS_ESTIMATED, restore(y, scale, estimate=estimate)
        for fallback, milder in FALLBACKS.items():
            if self._is_acceptable(y, restored):
                break
            taken = fallback
            restored = restore(y, scale, estimate=milder(estimate, residual_rms(restored.residual)))
        return _output(estimate, restored, Decision(*likeliest, 1.0, taken))

    def _restore_from_own_size(
        self, y: Array, scale: int, decision: Decision, restore: Callable[..., Restored]
    ) -> Output:
        """Reduce an enlarged picture by its factor, restore it, and resize the result to the size asked for."""
        height, width = y.shape[-2:]
        own = own_scale(scale, decision.factor, self.scales)
        reduced = resize(y[0], own_size(height, width, decision.factor)).clip(0, 1)[None]
        estimate, _ = self.graphs.estimate(reduced, own)
        restored = restore(reduced, own, estimate=estimate)
        x = resize(restored.x[0], (height * scale, width * scale)).clip(0, 1)[None]
        residual = resize(restored.residual[0], (height, width))[None]
        quality = consistency(restored.residual, restored.noise_level)
        return _output(estimate, Restored(x, restored.kernel, restored.noise_level, residual), decision, quality)

    def _is_acceptable(self, y: Array, restored: Restored) -> bool:
        quality = float(consistency(restored.residual, restored.noise_level)[0])
        limits = self.graphs.description["acceptable"].values()
        kept = keeps_colours(restored.x, y, float(restored.noise_level[0]))
        return kept and all(value <= most for value, most in zip(measured(restored.x, y, quality), limits, strict=True))


def at_half_size(out: Output) -> Output:
    """As `sampling.safety.at_half_size`."""
    image = np.moveaxis(out.images[0], -1, 0)
    height, width = image.shape[-2:]
    image = resize(image, (height // 2, width // 2)).clip(0, 1)
    return replace(out, images=np.moveaxis(image, 0, -1)[None], kernels=halved(out.kernels))


def photograph_in(y: Array, drawn: Drawn) -> Array:
    """The part of y (1, 3, h, w) inside its frame; what was drawn over it is replaced by colours around it."""
    return spread_colours(drawn.inside(y[0]), (~drawn.mask[None]).astype(np.float32))[None]


def _pasted(out: Output, picture: Array, drawn: Drawn, scale: int) -> Output:
    """As in `sampling.safety`."""
    residuals = np.zeros((1, *picture.shape), np.float32)
    drawn.inside(residuals)[:] = out.residuals * ~drawn.mask
    images = np.moveaxis(drawn.paste(np.moveaxis(out.images, -1, 1), picture, scale), 1, -1)
    return replace(out, images=images, residuals=residuals)


def to_planes(image: Image.Image | NDArray[Any]) -> Array:
    """A picture as (1, 3, h, w) in [0, 1]; transparency is dropped. Raises ImageError if it cannot be used."""
    planes = from_picture(image)[0] if isinstance(image, Image.Image) else from_array(image)
    check_size(*planes.shape[-2:])
    return planes[None]


def _image_bytes(size: tuple[int, int], scale: int) -> int:
    """Memory for an image of a size (height, width) and its result."""
    return 4 * 3 * 2 * size[0] * size[1] * scale**2


def _output(estimate: Estimate, restored: Restored, decision: Decision | None, quality: Array | None = None) -> Output:
    return Output(
        images=np.moveaxis(restored.x, 1, -1),
        kernels=restored.kernel,
        noise_levels=restored.noise_level,
        residuals=restored.residual,
        consistency=consistency(restored.residual, restored.noise_level) if quality is None else quality,
        expected_kernel_errors=estimate.expected_kernel_error,
        noise_spectra=estimate.noise_spectrum,
        decisions=None if decision is None else [decision],
    )
