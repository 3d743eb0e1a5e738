"""Wrappers around a denoiser and the steps: tiles, for images of any size in bounded memory, and the self-ensemble.

All tiles are crops of one x_t and share kernel and noise level. Their images are blended with raised-cosine ramps at
every step, which avoids seams. The loop is the same with and without wrappers.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import pairwise, product
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from blinddiff.degradation.observation import N_TRANSFORMS, Degradation, Observation
from blinddiff.models.denoiser import Denoiser, Prediction
from blinddiff.models.statistics import gradient_energy
from blinddiff.sampling.image_steps import ImageCorrection, ImageStep
from blinddiff.sampling.kernel_steps import KernelStep
from blinddiff.sampling.memory import IMAGES, INPUTS, bytes_per_pixel, is_lack_of_memory

HALO = 48
"""Margin at a tile's inner edges, in HR pixels, that gets weight 0, because network and operator lack context there.
Larger than the reach of a 31x31 kernel plus x4 resampling."""
RAMP = 64
"""Width of the ramp between two tiles, in HR pixels."""
OVERLAP = 2 * HALO + RAMP
MIN_PLANNED_SIDE = 512
"""Smallest tile side chosen in advance; `MIN_SIDE` applies only after memory has run out. The network's attention spans
a whole tile: with smaller ones, results differ from those of the whole image by more than half a grey level."""
MIN_SIDE = 2 * OVERLAP

Parts: TypeAlias = tuple[list[Tensor], list[Tensor]]
"""A tile's images to blend, (1, C, n, m) each, and its estimates to average, (1, ...) each; either may be empty."""


@dataclass(frozen=True)
class Span:
    """One tile's extent along one axis, in HR pixels, and its blending weights, (stop - start,)."""

    start: int
    stop: int
    weights: Tensor


@dataclass(frozen=True)
class Tile:
    """One tile of one image of the batch, spans along rows and columns; or the whole batch, if `spans` is empty."""

    scale: int
    images: slice
    spans: tuple[Span, ...]

    def hr(self, batch: Tensor) -> Tensor:
        """The tile's crop of HR images (B, C, H, W): (1, C, n, m)."""
        return self._crop(batch, 1)

    def lr(self, batch: Tensor) -> Tensor:
        """The tile's crop of LR images (B, C, h, w): (1, C, n / s, m / s)."""
        return self._crop(batch, self.scale)

    def observation(self, observation: Observation) -> Observation:
        """The tile's crop of the observation; the same object if the tile is the whole batch."""
        return replace(observation, y=self.lr(observation.y)) if self.spans else observation

    def degradation(self, degradation: Degradation | None) -> Degradation | None:
        """Kernel and noise level of the tile's image."""
        return degradation[self.images] if degradation is not None and self.spans else degradation

    def weighted(self, value: Tensor) -> Tensor:
        """(1, C, n, m) times the blending weights, which sum to 1 over all tiles at each pixel."""
        rows, columns = (span.weights.to(value) for span in self.spans)
        return value * rows[:, None] * columns

    def _crop(self, batch: Tensor, scale: int) -> Tensor:
        if not self.spans:
            return batch
        rows, columns = (slice(span.start // scale, span.stop // scale) for span in self.spans)
        return batch[self.images, :, rows, columns]


class Tiles:
    """A regular grid of overlapping tiles over each image of a batch, refined when memory runs out.

    Args:
        y: LR images, (B, 3, h, w).
        unit: tiles start at multiples of it and of the scale; `Denoiser.size_multiple`.
        side: maximum tile side in HR pixels; None for no tiling.
    """

    def __init__(self, y: Tensor, scale: int, unit: int, side: int | None) -> None:
        self._y, self._scale, self._unit = y, scale, math.lcm(unit, scale)
        self.side = side

    def spans(self, length: int) -> list[Span]:
        """Tiles along one axis: equal length (the last may be cut off), evenly spaced, overlap >= `OVERLAP`."""
        unit, padded = self._unit, -(-length // self._unit) * self._unit
        overlap = -(-OVERLAP // unit) * unit
        # 2 * overlap: smallest side at which a tile's two ramps do not overlap
        side = max((self.side or length) // unit * unit, 2 * overlap)
        if length <= side:
            return [Span(0, length, torch.ones(length))]
        count = -(-(padded - overlap) // (side - overlap))
        starts = [round(i * (padded - side) / (count - 1) / unit) * unit for i in range(count)]
        cuts = [(start + before + side) / 2 for before, start in pairwise(starts)]
        spans = []
        for start, before, after in zip(starts, [None, *cuts], [*cuts, None], strict=True):
            positions = torch.arange(start, min(start + side, length)) + 0.5
            weights = torch.ones(len(positions))
            for cut, sign in ((before, 1), (after, -1)):
                if cut is not None:  # sin^2 and cos^2 of neighbouring tiles sum to 1
                    ramp = (sign * (positions - cut) / RAMP + 0.5).clamp(0, 1)
                    weights = weights * (ramp * math.pi / 2).sin().square()
            spans.append(Span(start, start + len(positions), weights))
        return spans

    def __iter__(self) -> Iterator[Tile]:
        rows, columns = (self.spans(side * self._scale) for side in self._y.shape[-2:])
        for image, row, column in product(range(len(self._y)), rows, columns):
            yield Tile(self._scale, slice(image, image + 1), (row, column))

    def map_and_blend(self, function: Callable[[Tile], Parts]) -> Parts:
        """Apply a function to every tile; blend the images, (B, C, H, W), and average the estimates, (B, ...).

        The average is weighted by the tiles' gradient energy. If memory runs out, the tile side is halved and all
        tiles are recomputed.
        """
        while True:
            try:
                return self._map_and_blend(function)
            except (MemoryError, RuntimeError) as error:
                if not is_lack_of_memory(error) or not self._halve():
                    raise
            if self._y.device.type == "cuda":
                torch.cuda.empty_cache()

    def _map_and_blend(self, function: Callable[[Tile], Parts]) -> Parts:
        if self.side is None:
            return function(Tile(self._scale, slice(None), ()))
        height, width = (side * self._scale for side in self._y.shape[-2:])
        images: list[Tensor] = []
        estimates: list[Tensor] = []
        weights = self._y.new_zeros(len(self._y))
        for tile in self:
            tile_images, tile_estimates = function(tile)
            if not images and not estimates:
                images = [part.new_zeros(len(self._y), part.shape[1], height, width) for part in tile_images]
                estimates = [part.new_zeros(len(self._y), *part.shape[1:]) for part in tile_estimates]
            for total, part in zip(images, tile_images, strict=True):
                tile.hr(total).add_(tile.weighted(part))
            # tiny keeps the weights positive, and equal, for a constant image.
            weight = gradient_energy(tile.lr(self._y)).sum() + torch.finfo(self._y.dtype).tiny
            weights[tile.images] += weight
            for total, part in zip(estimates, tile_estimates, strict=True):
                total[tile.images] += weight * part
        return images, [total / weights.view(-1, *(1,) * (total.ndim - 1)) for total in estimates]

    def _halve(self) -> bool:
        """First split the batch into single images, then halve the side; False if tiles are already the smallest."""
        longest = max(self._y.shape[-2:]) * self._scale
        if self.side is None and len(self._y) > 1:
            self.side = longest
            return True
        side = min(self.side or longest, longest)
        self.side = max(side // 2, MIN_SIDE)
        return side > MIN_SIDE


def plan_tiles(y: Tensor, scale: int, network: Denoiser, needs_gradient: bool, max_memory: int) -> Tiles:
    """The largest tiles that fit into memory: the whole batch if possible, otherwise tiles of single images.

    Args:
        y: LR images, (B, 3, h, w).
        network: the memory per pixel depends on its width.
        needs_gradient: whether the image step needs a gradient.
        max_memory: bytes for images and activations, excluding the weights; if too few, the smallest planned tiles.
    """
    batch, height, width = len(y), y.shape[-2] * scale, y.shape[-1] * scale
    images = (IMAGES + INPUTS / scale**2) * 4 * 3 * batch * height * width
    pixels = max(0, max_memory - images) / bytes_per_pixel(network.channels_per_pixel, needs_gradient)
    if batch * height * width <= pixels:
        return Tiles(y, scale, network.size_multiple, None)
    # In a long, thin image a tile spans the short side, so it can be longer for the same area.
    side = max(math.isqrt(int(pixels)), int(pixels) // min(height, width), MIN_PLANNED_SIDE)
    return Tiles(y, scale, network.size_multiple, side)


class _Wrapper:
    """A denoiser that wraps another and forwards its attributes."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = denoiser
        self.default_mode, self.estimates_noise = denoiser.default_mode, denoiser.estimates_noise
        self.config, self.alpha_bar = denoiser.config, denoiser.alpha_bar
        self.size_multiple, self.channels_per_pixel = denoiser.size_multiple, denoiser.channels_per_pixel
        self.initial_estimate, self.initial_image = denoiser.initial_estimate, denoiser.initial_image
        self.relative_error = denoiser.relative_error
        self.normalize, self.denormalize = denoiser.normalize, denoiser.denormalize


class SelfEnsemble(_Wrapper):
    """A denoiser that applies the next of the eight dihedral transforms at each call.

    The network is not exactly equivariant, so its errors under different transforms partly average out.

    Source: Timofte et al., "Seven ways to improve example-based single image super resolution", CVPR 2016.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__(denoiser)
        self._calls = 0

    def __call__(
        self, x_t: Tensor, t: Tensor, observation: Observation, degradation: Degradation | None, *, transform: int = 0
    ) -> Prediction:
        transform = (transform + self._calls) % N_TRANSFORMS
        self._calls += 1
        return self._denoiser(x_t, t, observation, degradation, transform=transform)


class Tiled(_Wrapper):
    """A denoiser that is applied tile by tile."""

    def __init__(self, denoiser: Denoiser, tiles: Tiles) -> None:
        super().__init__(denoiser)
        self._tiles = tiles
        self._initial: tuple[Degradation | None, Tensor | None] | None = None
        self.initial_image = self._initial_image

    def _initial_image(self, observation: Observation, degradation: Degradation | None) -> Tensor | None:
        """The blended x_y, cached because the next call crops its tiles from it."""

        def tile_image(tile: Tile) -> Parts:
            image = self._denoiser.initial_image(tile.observation(observation), tile.degradation(degradation))
            return ([] if image is None else [image]), []

        if self._initial is None or self._initial[0] is not degradation:
            images, _ = self._tiles.map_and_blend(tile_image)
            self._initial = degradation, images[0] if images else None
        return self._initial[1]

    def __call__(
        self, x_t: Tensor, t: Tensor, observation: Observation, degradation: Degradation | None, *, transform: int = 0
    ) -> Prediction:
        """One prior step; kernel and noise level are averaged over tiles, weighted by gradient energy."""
        x_y = self._initial_image(observation, degradation)
        kinds: list[type[Prediction]] = []

        def predict(tile: Tile) -> Parts:
            part, part_degradation = tile.observation(observation), tile.degradation(degradation)
            if part_degradation is not degradation and part_degradation is not None and x_y is not None:
                part_degradation = part_degradation.with_closed_form(part, tile.hr(x_y))
            arguments: tuple[Any, ...] = tile.hr(x_t), t[tile.images], part, part_degradation
            if x_t.requires_grad and self._tiles.side is not None:
                # Gradient checkpointing: each tile is recomputed in the backward pass.
                p = checkpoint(self._denoiser, *arguments, transform=transform, use_reentrant=False)
            else:
                p = self._denoiser(*arguments, transform=transform)
            kinds[:] = [type(p)]
            images = [getattr(p, each.name) for each in fields(p) if each.name != "degradation"]
            return images, [p.degradation.kernel, p.degradation.noise_level]

        (x0_hat, *others), (kernel, noise_level) = self._tiles.map_and_blend(predict)
        estimate = Degradation(kernel, noise_level, None if degradation is None else degradation.expected_kernel_error)
        return kinds[0](x0_hat, estimate, *others)


@dataclass(frozen=True)
class TiledImageStep(ImageStep):
    """Applies an image step tile by tile; to the whole image (graph checkpointed by tile) if it needs a gradient."""

    step: ImageStep
    tiles: Tiles

    @property
    def needs_gradient(self) -> bool:
        return self.step.needs_gradient

    def __call__(
        self, x_t: Tensor, x0_hat: Tensor, observation: Observation, degradation: Degradation, prior_error: float
    ) -> ImageCorrection:
        if self.needs_gradient:
            return self.step(x_t, x0_hat, observation, degradation, prior_error)

        def correct(tile: Tile) -> Parts:
            part, part_degradation = tile.observation(observation), tile.degradation(degradation)
            assert part_degradation is not None
            corrected, guidance = self.step(tile.hr(x_t), tile.hr(x0_hat), part, part_degradation, prior_error)
            return ([corrected, guidance] if isinstance(guidance, Tensor) else [corrected]), []

        (corrected, *guidance), _ = self.tiles.map_and_blend(correct)
        return corrected, guidance[0] if guidance else 0.0


def tiled_kernel_step(step: KernelStep, tiles: Tiles) -> KernelStep:
    """Wrap a kernel step: it is applied to each tile, and the results are averaged to one degradation."""

    def tiled_step(degradation: Degradation | None, prediction: Prediction, observation: Observation) -> Degradation:
        updated = False

        def update(tile: Tile) -> Parts:
            nonlocal updated
            before, estimate = tile.degradation(degradation), tile.degradation(prediction.degradation)
            assert estimate is not None
            after = step(before, Prediction(tile.hr(prediction.x0_hat), estimate), tile.observation(observation))
            updated = updated or after is not before
            return [], [after.kernel, after.noise_level]

        _, (kernel, noise_level) = tiles.map_and_blend(update)
        if degradation is not None and not updated:
            return degradation
        return Degradation(kernel, noise_level, None if degradation is None else degradation.expected_kernel_error)

    return tiled_step
