"""Wrappers around a denoiser and the steps: tiles, for images of any size in bounded memory, and the self-ensemble.

All tiles of an image are crops of one x_t and share kernel and noise level, unless these are local: then each tile has
its own. The tiles' images are blended with raised-cosine ramps at every step, which avoids seams. The loop is the same
with and without wrappers.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from itertools import product
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from blinddiff.degradation import DegradationOperator
from blinddiff.degradation.observation import N_TRANSFORMS, Degradation, Observation
from blinddiff.errors import is_lack_of_memory
from blinddiff.models.denoiser import Denoiser, Prediction
from blinddiff.models.statistics import gradient_energy
from blinddiff.sampling.image_steps import ImageStep, ImageStepOutput
from blinddiff.sampling.kernel_steps import KernelStep
from blinddiff.sampling.memory import IMAGES, INPUTS, bytes_per_pixel
from blinddiff.sampling.spans import OVERLAP, Span, spans

MIN_PLANNED_SIDE = 512
"""Smallest planned tile side, in HR pixels. Smaller tiles, down to `MIN_SIDE`, change the result by more than half a
grey level, because attention spans a whole tile; they are used only if memory runs out."""
MIN_SIDE = 2 * OVERLAP
LOCAL_SIDE = 96
"""Smallest side of tiles with local estimates, in LR pixels. From smaller ones, estimates are mostly random."""

TileOutput: TypeAlias = tuple[list[Tensor], list[Tensor]]
"""A tile's images to blend, (1, C, n, m) each, and its estimates to average, (1, ...) each; a list may be empty."""


@dataclass(frozen=True)
class Tile:
    """One tile of one image, which the slice `images` selects from the batch; without spans, the whole batch.

    The slice `estimates` selects its kernel and noise level from those of the batch: of its image, or its own.
    """

    scale: int
    images: slice
    spans: tuple[Span, ...]
    estimates: slice

    def hr(self, batch: Tensor) -> Tensor:
        """The tile's crop of HR images (B, C, H, W): (1, C, n, m)."""
        return self._crop(batch, 1)

    def lr(self, batch: Tensor) -> Tensor:
        """The tile's crop of LR images (B, C, h, w): (1, C, n / s, m / s)."""
        return self._crop(batch, self.scale)

    def observation(self, observation: Observation) -> Observation:
        """The tile's crop of the observation; the same object if the tile is the whole batch."""
        if not self.spans:
            return observation
        return observation.map(self.lr, lambda numbers: numbers[self.images])

    def degradation(self, degradation: Degradation | None) -> Degradation | None:
        """Kernel and noise level of the tile."""
        return degradation[self.estimates] if degradation is not None and self.spans else degradation

    def weighted(self, value: Tensor) -> Tensor:
        """(1, C, n, m) times the blending weights, which sum to 1 over all tiles at each pixel."""
        rows, columns = (torch.from_numpy(span.weights).to(value) for span in self.spans)
        return value * rows[:, None] * columns

    def _crop(self, batch: Tensor, scale: int) -> Tensor:
        if not self.spans:
            return batch
        rows, columns = (slice(span.start // scale, span.stop // scale) for span in self.spans)
        return batch[self.images, :, rows, columns]


class Tiles:
    """A regular grid of overlapping tiles over each image of a batch; the tiles become smaller when memory runs out.

    Args:
        y: LR images, (B, 3, h, w).
        unit: `Denoiser.size_multiple`; tiles start at common multiples of this and of the scale.
        side: maximum tile side in HR pixels; None for no tiling.
        local: each tile has its own kernel and noise level, (N, ...) in the order of the tiles; needs a side.
        on_disk: the images do not fit into memory, see `ImagesOnDisk`.
    """

    def __init__(
        self, y: Tensor, scale: int, unit: int, side: int | None, *, local: bool = False, on_disk: bool = False
    ) -> None:
        self._y, self._scale, self._unit = y, scale, math.lcm(unit, scale)
        self.side, self.local, self.on_disk = side, local, on_disk

    def spans(self, length: int) -> list[Span]:
        """Tiles along one axis of a length, see `spans.spans`."""
        return spans(length, self._unit, self.side)

    def lengths(self, length: int) -> list[int]:
        """Lengths of the tiles along an axis of a length."""
        return [length] if self.side is None else [span.stop - span.start for span in self.spans(length)]

    def __len__(self) -> int:
        """The number of tiles of all images; 1 without tiling."""
        rows, columns = (len(self.spans(side * self._scale)) for side in self._y.shape[-2:])
        return 1 if self.side is None else len(self._y) * rows * columns

    def __iter__(self) -> Iterator[Tile]:
        rows, columns = (self.spans(side * self._scale) for side in self._y.shape[-2:])
        for number, (image, row, column) in enumerate(product(range(len(self._y)), rows, columns)):
            images = slice(image, image + 1)
            yield Tile(self._scale, images, (row, column), slice(number, number + 1) if self.local else images)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the tiles of one image."""
        rows, columns = (len(self.spans(side * self._scale)) for side in self._y.shape[-2:])
        return rows, columns

    def average(self, estimates: Tensor) -> Tensor:
        """The mean of the estimates of all tiles, (N, ...), for each image, (B, ...), weighted by gradient energy."""
        # A constant image has no gradient energy: `tiny` makes its weights positive and equal.
        energy = torch.stack([gradient_energy(tile.lr(self._y)).sum() for tile in self])
        weights = (energy + torch.finfo(energy.dtype).tiny).view(len(self._y), -1, *(1,) * (estimates.ndim - 1))
        return (weights * estimates.unflatten(0, weights.shape[:2])).sum(1) / weights.sum(1)

    def degraded(self, kernels: Tensor, images: Tensor) -> Tensor:
        """A x of images (B, C, H, W) with a kernel for each tile, (N, n, m), blended: (B, C, h, w)."""
        blended = images.new_zeros(*images.shape[:2], *self._y.shape[-2:])
        first = slice(self._scale // 2, None, self._scale)  # of the weights, at the centres of LR pixels
        for tile in self:
            part = DegradationOperator(kernels[tile.estimates], self._scale)(tile.hr(images))
            rows, columns = (torch.from_numpy(span.weights[first]).to(part) for span in tile.spans)
            tile.lr(blended).add_(part * rows[:, None] * columns)
        return blended

    def map_and_blend(
        self, function: Callable[[Tile], TileOutput], on_tile: Callable[[int, int], object] = lambda *_: None
    ) -> TileOutput:
        """Apply a function to every tile. Blend its images to (B, C, H, W), and average its estimates to (B, ...).

        Local estimates are not averaged, but kept, (N, ...). If memory runs out, the tile side is halved and all tiles
        are recomputed. ``on_tile`` is called after each tile with the number of finished tiles and of all.
        """
        while True:
            try:
                return self._map_and_blend(function, on_tile)
            except (MemoryError, RuntimeError) as error:
                if not is_lack_of_memory(error) or not self._halve():
                    raise
            if self._y.device.type == "cuda":
                torch.cuda.empty_cache()

    def _map_and_blend(
        self, function: Callable[[Tile], TileOutput], on_tile: Callable[[int, int], object]
    ) -> TileOutput:
        if self.side is None:
            output = function(Tile(self._scale, slice(None), (), slice(None)))
            on_tile(1, 1)
            return output
        height, width = (side * self._scale for side in self._y.shape[-2:])
        images: list[Tensor] = []
        estimates: list[list[Tensor]] = []
        count = len(self)
        for number, tile in enumerate(self, start=1):
            tile_images, tile_estimates = function(tile)
            if number == 1:
                images = [image.new_zeros(len(self._y), image.shape[1], height, width) for image in tile_images]
            for total, image in zip(images, tile_images, strict=True):
                tile.hr(total).add_(tile.weighted(image))
            estimates.append(tile_estimates)
            on_tile(number, count)
        joined = [torch.cat(parts) for parts in zip(*estimates, strict=True)]
        return images, joined if self.local else [self.average(part) for part in joined]

    def _halve(self) -> bool:
        """Split the batch into single images, or else halve the side. False if that is not possible."""
        if self.local:  # there are estimates for these tiles
            return False
        longest = max(self._y.shape[-2:]) * self._scale
        if self.side is None and len(self._y) > 1:
            self.side = longest
            return True
        side = min(self.side or longest, longest)
        self.side = max(side // 2, MIN_SIDE)
        return side > MIN_SIDE


def plan_tiles(
    y: Tensor, scale: int, network: Denoiser, needs_gradient: bool, max_memory: int, local: bool = False
) -> Tiles:
    """The largest tiles that fit into memory: the whole batch if possible, otherwise tiles of single images.

    Args:
        y: LR images, (B, 3, h, w).
        network: its width determines the memory per pixel.
        needs_gradient: whether the image step needs a gradient.
        max_memory: bytes for images and activations (not weights); exceeded if too few for tiles of `MIN_PLANNED_SIDE`.
            If the images leave no room for such a tile, they go to the disk, on a CPU.
        local: each tile has its own kernel and noise level; the tiles are then as small as possible.
    """
    batch, height, width = len(y), y.shape[-2] * scale, y.shape[-1] * scale
    per_pixel, longest = bytes_per_pixel(network.channels_per_pixel, needs_gradient), max(height, width)
    on_disk = (
        y.device.type in ("cpu", "meta")  # meta: only the plan is wanted
        and longest > MIN_PLANNED_SIDE
        and max_memory < image_bytes(y, scale, False) + per_pixel * MIN_PLANNED_SIDE**2
    )
    pixels = max(0, max_memory - image_bytes(y, scale, on_disk)) / per_pixel
    if batch * height * width <= pixels and not local:
        return Tiles(y, scale, network.size_multiple, None)
    # In a long, thin image, a tile spans the short side, so its long side can be longer for the same area.
    side = max(math.isqrt(int(pixels)), int(pixels) // min(height, width), MIN_PLANNED_SIDE)
    side = max(MIN_SIDE, LOCAL_SIDE * scale) if local else side
    return Tiles(y, scale, network.size_multiple, side, local=local, on_disk=on_disk and side < longest)


def image_bytes(y: Tensor, scale: int, on_disk: bool) -> int:
    """Memory for the images of a restoration of y, (B, 3, h, w): those of the result's size only in memory."""
    return int((INPUTS + (0 if on_disk else IMAGES * scale**2)) * 4 * y.numel())


class _Wrapper:
    """A denoiser that wraps another and forwards its attributes."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = denoiser
        self.default_mode, self.estimates_noise = denoiser.default_mode, denoiser.estimates_noise
        self.config, self.alpha_bar = denoiser.config, denoiser.alpha_bar
        self.size_multiple, self.channels_per_pixel = denoiser.size_multiple, denoiser.channels_per_pixel
        self.initial_estimate, self.closed_form_image = denoiser.initial_estimate, denoiser.closed_form_image
        self.relative_error, self.picture_kind = denoiser.relative_error, denoiser.picture_kind
        self.normalize, self.denormalize = denoiser.normalize, denoiser.denormalize


class SelfEnsemble(_Wrapper):
    """A denoiser that applies the next of the eight dihedral transforms at each call.

    The network is not exactly equivariant, so its errors partly cancel in the mean over transforms, which the scheduler
    `PosteriorMean` takes.

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
    """A denoiser that is applied tile by tile; ``on_tile`` as in `Tiles.map_and_blend`, in each step."""

    def __init__(
        self, denoiser: Denoiser, tiles: Tiles, on_tile: Callable[[int, int], object] = lambda *_: None
    ) -> None:
        super().__init__(denoiser)
        self._tiles, self._on_tile = tiles, on_tile
        self._cached: tuple[Observation, Degradation | None, Tensor | None] | None = None
        self.closed_form_image = self._closed_form_image

    def _closed_form_image(self, observation: Observation, degradation: Degradation | None) -> Tensor | None:
        """x_y, blended from tiles; cached, because `__call__` crops its tiles from it."""

        def tile_image(tile: Tile) -> TileOutput:
            image = self._denoiser.closed_form_image(tile.observation(observation), tile.degradation(degradation))
            return ([] if image is None else [image]), []

        if self._cached is None or self._cached[0] is not observation or self._cached[1] is not degradation:
            images, _ = self._tiles.map_and_blend(tile_image)
            self._cached = observation, degradation, images[0] if images else None
        return self._cached[2]

    def __call__(
        self, x_t: Tensor, t: Tensor, observation: Observation, degradation: Degradation | None, *, transform: int = 0
    ) -> Prediction:
        """One prior step; kernel and noise level are averaged over tiles, weighted by gradient energy."""
        x_y = self._closed_form_image(observation, degradation)
        prediction_type: type[Prediction] = Prediction

        def predict(tile: Tile) -> TileOutput:
            nonlocal prediction_type
            tile_observation, tile_degradation = tile.observation(observation), tile.degradation(degradation)
            if tile_degradation is not degradation and tile_degradation is not None and x_y is not None:
                tile_degradation = tile_degradation.with_closed_form(tile_observation, tile.hr(x_y))
            arguments: tuple[Any, ...] = tile.hr(x_t), t[tile.images], tile_observation, tile_degradation
            if x_t.requires_grad and self._tiles.side is not None:
                # Gradient checkpointing saves memory: each tile is recomputed in the backward pass.
                p = checkpoint(self._denoiser, *arguments, transform=transform, use_reentrant=False)
            else:
                p = self._denoiser(*arguments, transform=transform)
            prediction_type = type(p)
            images = [getattr(p, each.name) for each in fields(p) if each.name != "degradation"]
            return images, p.degradation.estimates

        (x0_hat, *others), estimates = self._tiles.map_and_blend(predict, self._on_tile)
        return prediction_type(x0_hat, Degradation.from_estimates(estimates, degradation), *others)


@dataclass(frozen=True)
class TiledImageStep(ImageStep):
    """Applies an image step tile by tile, or to the whole image if it needs a gradient; `Tiled` then saves memory."""

    step: ImageStep
    tiles: Tiles

    @property
    def needs_gradient(self) -> bool:
        return self.step.needs_gradient

    def __call__(
        self, x_t: Tensor, x0_hat: Tensor, observation: Observation, degradation: Degradation, prior_error: float
    ) -> ImageStepOutput:
        if self.needs_gradient:
            return self.step(x_t, x0_hat, observation, degradation, prior_error)

        def correct(tile: Tile) -> TileOutput:
            tile_degradation = tile.degradation(degradation)
            assert tile_degradation is not None
            tile_images = tile.hr(x_t), tile.hr(x0_hat)
            corrected, guidance = self.step(*tile_images, tile.observation(observation), tile_degradation, prior_error)
            return ([corrected, guidance] if isinstance(guidance, Tensor) else [corrected]), []

        (corrected, *guidance), _ = self.tiles.map_and_blend(correct)
        return corrected, guidance[0] if guidance else 0.0


def tiled_kernel_step(step: KernelStep, tiles: Tiles) -> KernelStep:
    """Wrap a kernel step, so that it is applied to each tile and the results are averaged to one degradation."""

    def tiled_step(degradation: Degradation | None, prediction: Prediction, observation: Observation) -> Degradation:
        updated = False

        def update(tile: Tile) -> TileOutput:
            nonlocal updated
            before, estimate = tile.degradation(degradation), tile.degradation(prediction.degradation)
            assert estimate is not None
            after = step(before, Prediction(tile.hr(prediction.x0_hat), estimate), tile.observation(observation))
            updated = updated or after is not before
            return [], after.estimates

        _, estimates = tiles.map_and_blend(update)
        if degradation is not None and not updated:
            return degradation
        return Degradation.from_estimates(estimates, degradation)

    return tiled_step
