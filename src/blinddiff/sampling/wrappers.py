"""Wrappers around a denoiser and the steps: tiles, for images of any size in a bounded memory, and the self-ensemble.

All tiles share the noise, the kernel and the noise level, and their images are blended with cosine ramps at every step
of the reverse diffusion, so there are no seams. The loop is the same with and without wrappers.
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
"""Pixels along a tile's inner edges with weight 0: there network and operator lack the pixels beyond. More than half of
a kernel of 31 with the reach of the resampling by 4."""
RAMP = 64
"""Pixels over which one tile fades into the next."""
OVERLAP = 2 * HALO + RAMP
MIN_PLANNED_SIDE = 512
"""Side of the smallest tile that is planned: the network's attention spans a whole tile, and in smaller ones results
differ from those of the whole image by more than half a grey level."""
MIN_SIDE = 2 * OVERLAP
"""Side of the smallest tile when memory runs out."""

Parts: TypeAlias = tuple[list[Tensor], list[Tensor]]
"""Images, (1, C, n, m) each, and estimates, (1, ...) each, of a tile."""


@dataclass(frozen=True)
class Span:
    """One tile's extent along one axis, in pixels of the result, and its weights there, (stop - start,)."""

    start: int
    stop: int
    weights: Tensor


@dataclass(frozen=True)
class Tile:
    """One tile of one image of the batch, along rows and columns; or all of the batch at once, where there are none."""

    scale: int
    images: slice
    spans: tuple[Span, ...]

    def hr(self, batch: Tensor) -> Tensor:
        """Its part of HR images (B, C, H, W): (1, C, n, m)."""
        return self._part(batch, 1)

    def lr(self, batch: Tensor) -> Tensor:
        """Its part of LR images (B, C, h, w): (1, C, n / s, m / s)."""
        return self._part(batch, self.scale)

    def observation(self, observation: Observation) -> Observation:
        """Its part of the LR images; the observation itself where it is all of it."""
        return replace(observation, y=self.lr(observation.y)) if self.spans else observation

    def degradation(self, degradation: Degradation | None) -> Degradation | None:
        """Kernel and noise level of its image."""
        return degradation[self.images] if degradation is not None and self.spans else degradation

    def weighted(self, value: Tensor) -> Tensor:
        """(1, C, n, m) times the weights, which over all tiles sum to 1 at each pixel."""
        rows, columns = (span.weights.to(value) for span in self.spans)
        return value * rows[:, None] * columns

    def _part(self, batch: Tensor, scale: int) -> Tensor:
        if not self.spans:
            return batch
        rows, columns = (slice(span.start // scale, span.stop // scale) for span in self.spans)
        return batch[self.images, :, rows, columns]


class Tiles:
    """A regular lattice of overlapping tiles over each image of a batch, made finer when memory runs out.

    Args:
        y: LR images, (B, 3, h, w).
        unit: tiles begin at multiples of it and of the scale: `Denoiser.size_multiple`.
        side: of the tiles, at most, in pixels of the result; None for all of the batch at once, as if there were none.
    """

    def __init__(self, y: Tensor, scale: int, unit: int, side: int | None) -> None:
        self._y, self._scale, self._unit = y, scale, math.lcm(unit, scale)
        self.side = side

    def spans(self, length: int) -> list[Span]:
        """The tiles along an axis of the result: all of one length, evenly spread, each over `OVERLAP` at least."""
        unit, padded = self._unit, -(-length // self._unit) * self._unit
        overlap = -(-OVERLAP // unit) * unit
        side = max((self.side or length) // unit * unit, 2 * overlap)  # the least at which ramps keep apart
        if length <= side:
            return [Span(0, length, torch.ones(length))]
        count = -(-(padded - overlap) // (side - overlap))
        starts = [round(i * (padded - side) / (count - 1) / unit) * unit for i in range(count)]
        cuts = [(start + before + side) / 2 for before, start in pairwise(starts)]
        spans = []
        for start, before, after in zip(starts, [None, *cuts], [*cuts, None], strict=True):
            places = torch.arange(start, min(start + side, length)) + 0.5
            weights = torch.ones(len(places))
            for cut, sign in ((before, 1), (after, -1)):
                if cut is not None:  # sin^2 of the one tile and of the next sum to 1
                    ramp = (sign * (places - cut) / RAMP + 0.5).clamp(0, 1)
                    weights = weights * (ramp * math.pi / 2).sin().square()
            spans.append(Span(start, start + len(places), weights))
        return spans

    def __iter__(self) -> Iterator[Tile]:
        rows, columns = (self.spans(side * self._scale) for side in self._y.shape[-2:])
        for image, row, column in product(range(len(self._y)), rows, columns):
            yield Tile(self._scale, slice(image, image + 1), (row, column))

    def over(self, work: Callable[[Tile], Parts]) -> Parts:
        """Blend images and average estimates over the tiles.

        Where `work` runs out of memory, the tiles are halved and all are done again.

        Returns:
            The images, (B, C, H, W), and the estimates, (B, ...), averaged with the tiles' gradient energy as weights.
        """
        while True:
            try:
                return self._over(work)
            except (MemoryError, RuntimeError) as error:
                if not is_lack_of_memory(error) or not self._halve():
                    raise
            if self._y.device.type == "cuda":
                torch.cuda.empty_cache()

    def _over(self, work: Callable[[Tile], Parts]) -> Parts:
        if self.side is None:
            return work(Tile(self._scale, slice(None), ()))
        height, width = (side * self._scale for side in self._y.shape[-2:])
        images: list[Tensor] = []
        estimates: list[Tensor] = []
        weights = self._y.new_zeros(len(self._y))
        for tile in self:
            made, found = work(tile)
            if not images and not estimates:
                images = [part.new_zeros(len(self._y), part.shape[1], height, width) for part in made]
                estimates = [part.new_zeros(len(self._y), *part.shape[1:]) for part in found]
            for total, part in zip(images, made, strict=True):
                tile.hr(total).add_(tile.weighted(part))
            # In a flat image all tiles count alike.
            weight = gradient_energy(tile.lr(self._y)).sum() + torch.finfo(self._y.dtype).tiny
            weights[tile.images] += weight
            for total, part in zip(estimates, found, strict=True):
                total[tile.images] += weight * part
        return images, [total / weights.view(-1, *(1,) * (total.ndim - 1)) for total in estimates]

    def _halve(self) -> bool:
        """Halve the tiles' side, after a batch has been taken image by image; False where that cannot be."""
        longest = max(self._y.shape[-2:]) * self._scale
        if self.side is None and len(self._y) > 1:
            self.side = longest
            return True
        side = min(self.side or longest, longest)
        self.side = max(side // 2, MIN_SIDE)
        return side > MIN_SIDE


def plan_tiles(y: Tensor, scale: int, network: Denoiser, needs_gradient: bool, max_memory: int) -> Tiles:
    """Tiles as large as the memory allows: one over the whole batch where that fits, else image by image.

    Args:
        y: LR images, (B, 3, h, w).
        network, needs_gradient: what the cost of a pixel depends on; the latter is the image step's.
        max_memory: bytes, beyond the weights, for the images and a tile's work. Where the images alone take more, or
            leave less than the smallest tile needs, the smallest tile is taken.
    """
    batch, height, width = len(y), y.shape[-2] * scale, y.shape[-1] * scale
    images = (IMAGES + INPUTS / scale**2) * 4 * 3 * batch * height * width
    pixels = max(0, max_memory - images) / bytes_per_pixel(network.channels_per_pixel, needs_gradient)
    if batch * height * width <= pixels:
        return Tiles(y, scale, network.size_multiple, None)
    # Tiles of a long and thin image have its own height, and are longer for that.
    side = max(math.isqrt(int(pixels)), int(pixels) // min(height, width), MIN_PLANNED_SIDE)
    return Tiles(y, scale, network.size_multiple, side)


class _Wrapper:
    """A denoiser around another, with the attributes of the inner one."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = denoiser
        self.default_mode, self.knows_noise = denoiser.default_mode, denoiser.knows_noise
        self.config, self.alpha_bar = denoiser.config, denoiser.alpha_bar
        self.size_multiple, self.channels_per_pixel = denoiser.size_multiple, denoiser.channels_per_pixel
        self.initial_estimate, self.initial_image = denoiser.initial_estimate, denoiser.initial_image
        self.remaining_error = denoiser.remaining_error
        self.to_diffusion, self.to_image = denoiser.to_diffusion, denoiser.to_image


class SelfEnsemble(_Wrapper):
    """A denoiser whose image network sees another of the eight dihedral transforms at each call. See `Denoiser`.

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
    """A denoiser that works tile by tile. See `Denoiser`."""

    def __init__(self, denoiser: Denoiser, tiles: Tiles) -> None:
        super().__init__(denoiser)
        self._tiles = tiles
        self._initial: tuple[Degradation | None, Tensor | None] | None = None
        self.initial_image = self._initial_image

    def _initial_image(self, observation: Observation, degradation: Degradation | None) -> Tensor | None:
        """The blended image; kept, for the tiles of the next call are parts of it."""

        def work(tile: Tile) -> Parts:
            image = self._denoiser.initial_image(tile.observation(observation), tile.degradation(degradation))
            return ([] if image is None else [image]), []

        if self._initial is None or self._initial[0] is not degradation:
            images, _ = self._tiles.over(work)
            self._initial = degradation, images[0] if images else None
        return self._initial[1]

    def __call__(
        self, x_t: Tensor, t: Tensor, observation: Observation, degradation: Degradation | None, *, transform: int = 0
    ) -> Prediction:
        """One prior step; kernel and noise level are the tiles' means."""
        x_y = self._initial_image(observation, degradation)
        kinds: list[type[Prediction]] = []

        def work(tile: Tile) -> Parts:
            part, known = tile.observation(observation), tile.degradation(degradation)
            if known is not degradation and known is not None and x_y is not None:
                known = known.with_closed_form(part, tile.hr(x_y))
            arguments: tuple[Any, ...] = tile.hr(x_t), t[tile.images], part, known
            if x_t.requires_grad and self._tiles.side is not None:
                # Recorded tile by tile only when the gradient comes to it.
                p = checkpoint(self._denoiser, *arguments, transform=transform, use_reentrant=False)
            else:
                p = self._denoiser(*arguments, transform=transform)
            kinds[:] = [type(p)]
            images = [getattr(p, each.name) for each in fields(p) if each.name != "degradation"]
            return images, [p.degradation.kernel, p.degradation.noise_level]

        (x0_hat, *others), (kernel, noise_level) = self._tiles.over(work)
        estimate = Degradation(kernel, noise_level, None if degradation is None else degradation.kernel_error)
        return kinds[0](x0_hat, estimate, *others)


@dataclass(frozen=True)
class TiledImageStep(ImageStep):
    """An image step without a gradient, tile by tile; one with a gradient reaches through the whole image anyway."""

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

        def work(tile: Tile) -> Parts:
            part, known = tile.observation(observation), tile.degradation(degradation)
            assert known is not None
            corrected, shift = self.step(tile.hr(x_t), tile.hr(x0_hat), part, known, prior_error)
            return ([corrected, shift] if isinstance(shift, Tensor) else [corrected]), []

        (corrected, *shifts), _ = self.tiles.over(work)
        return corrected, shifts[0] if shifts else 0.0


def tiled_kernel_step(step: KernelStep, tiles: Tiles) -> KernelStep:
    """A kernel step on each tile, from the shared degradation to a shared one: the tiles' mean."""

    def shared(degradation: Degradation | None, prediction: Prediction, observation: Observation) -> Degradation:
        moved = False

        def work(tile: Tile) -> Parts:
            nonlocal moved
            before, estimate = tile.degradation(degradation), tile.degradation(prediction.degradation)
            assert estimate is not None
            after = step(before, Prediction(tile.hr(prediction.x0_hat), estimate), tile.observation(observation))
            moved = moved or after is not before
            return [], [after.kernel, after.noise_level]

        _, (kernel, noise_level) = tiles.over(work)
        if degradation is not None and not moved:
            return degradation
        return Degradation(kernel, noise_level, None if degradation is None else degradation.kernel_error)

    return shared
