"""Tiles: images of any size within a bounded memory, without seams.

All tiles share the noise, the kernel and the noise level; what they say of the image is blended at every step of the
reverse diffusion, with cosine ramps. So the loop is the same for a whole image and for tiles: `TiledNetwork` and the
steps of `in_tiles` stand in for the network, the image step and the kernel step, and go tile by tile.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from blinddiff.models.kernel_estimator import Estimate
from blinddiff.models.mcformer import MCFormer, Prediction
from blinddiff.models.statistics import gradient_energy
from blinddiff.sampling.image_steps import ImageContext, ImageCorrection, ImageStep
from blinddiff.sampling.kernel_steps import KernelState, KernelStep
from blinddiff.sampling.memory import IMAGES, INPUTS, bytes_per_pixel, is_lack_of_memory

HALO = 48
"""Pixels along a tile's inner edges that count for nothing: there the network and the operator miss what lies beyond.
More than half of a kernel of 31 with the reach of the resampling by 4."""
RAMP = 64
"""Pixels over which one tile fades into the next."""
OVERLAP = 2 * HALO + RAMP
SMALLEST = 512
"""Side of the smallest tile that is planned: the network's attention looks at all of a tile, and with less to look at,
results are off those of the whole image by more than half a grey level."""
LEAST = 2 * OVERLAP
"""Side of the smallest tile when memory runs out."""

Parts = tuple[Sequence[Tensor | None], Sequence[Tensor | None]]


@dataclass(frozen=True)
class Span:
    """One tile's extent along one axis, in pixels of the result, and its weights there, (stop - start,)."""

    start: int
    stop: int
    weights: Tensor


class Tile:
    """One tile of one image of the batch; or all of the batch at once, where no spans are given."""

    def __init__(self, scale: int, image: int = 0, spans: tuple[Span, Span] | None = None) -> None:
        self._scale, self._spans = scale, spans
        self.images = slice(None) if spans is None else slice(image, image + 1)

    def of(self, batch: Tensor) -> Tensor:
        """Its part of (B, C, H, W) in the result's pixels: (1, C, n, m)."""
        return self._part(batch, 1)

    def below(self, batch: Tensor) -> Tensor:
        """Its part of (B, C, h, w) in the input's pixels."""
        return self._part(batch, self._scale)

    def known(self, state: KernelState | None) -> KernelState | None:
        """Its image's kernel and noise level."""
        return state if state is None or self._spans is None else Estimate(*(part[self.images] for part in state))

    def weighted(self, value: Tensor) -> Tensor:
        """(1, C, n, m) times the weights, which over all tiles sum to 1 at each pixel."""
        if self._spans is None:
            return value
        rows, columns = (span.weights.to(value) for span in self._spans)
        return value * rows[:, None] * columns

    def _part(self, batch: Tensor, scale: int) -> Tensor:
        if self._spans is None:
            return batch
        rows, columns = (slice(span.start // scale, span.stop // scale) for span in self._spans)
        return batch[self.images, :, rows, columns]


class Tiles:
    """A regular lattice of overlapping tiles over each image of a batch, made finer when memory runs out.

    Args:
        y: LR images, (B, 3, h, w).
        scale: 1, 2, 3 or 4.
        unit: tiles begin at multiples of it, and of the scale: `MCFormer.size_multiple`.
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
                    way = (sign * (places - cut) / RAMP + 0.5).clamp(0, 1)
                    weights = weights * (way * math.pi / 2).sin().square()
            spans.append(Span(start, start + len(places), weights))
        return spans

    def __iter__(self) -> Iterator[Tile]:
        if self.side is None:
            yield Tile(self._scale)
            return
        rows, columns = (self.spans(side * self._scale) for side in self._y.shape[-2:])
        for image, *spans in product(range(len(self._y)), rows, columns):
            yield Tile(self._scale, image, (spans[0], spans[1]))

    def over(self, work: Callable[[Tile], Parts]) -> Parts:
        """Images blended, and facts averaged, over the tiles.

        Args:
            work: gives a tile's images, (1, C, n, m) each, and facts, (1, ...) each. Where it runs out of memory, the
                tiles are halved and it begins anew.

        Returns:
            The images, (B, C, H, W), and the facts, (B, ...), for which tiles count by their gradient energy. None
            stays None.
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
            return work(Tile(self._scale))
        height, width = (side * self._scale for side in self._y.shape[-2:])
        images: list[Tensor | None] = []
        facts: list[Tensor | None] = []
        weights = self._y.new_zeros(len(self._y))
        for tile in self:
            made, found = work(tile)
            if not images and not facts:
                images = [None if m is None else m.new_zeros(len(self._y), m.shape[1], height, width) for m in made]
                facts = [None if f is None else f.new_zeros(len(self._y), *f.shape[1:]) for f in found]
            for total, part in zip(images, made, strict=True):
                if total is not None and part is not None:
                    tile.of(total).add_(tile.weighted(part))
            # Of a flat image, which tells nothing anywhere, all tiles count alike.
            weight = gradient_energy(tile.below(self._y)).sum() + torch.finfo(self._y.dtype).tiny
            weights[tile.images] += weight
            for total, part in zip(facts, found, strict=True):
                if total is not None and part is not None:
                    total[tile.images] += weight * part
        return images, [None if f is None else f / weights.view(-1, *(1,) * (f.ndim - 1)) for f in facts]

    def _halve(self) -> bool:
        """Halve the tiles' side, after a batch has been taken image by image; False where that cannot be."""
        longest = max(self._y.shape[-2:]) * self._scale
        if self.side is None and len(self._y) > 1:
            self.side = longest
            return True
        side = min(self.side or longest, longest)
        self.side = max(side // 2, LEAST)
        return side > LEAST


def plan_tiles(y: Tensor, scale: int, network: MCFormer, needs_gradient: bool, max_memory: int) -> Tiles:
    """Tiles as large as the memory allows: one over the whole batch where that fits, else image by image.

    Args:
        y: LR images, (B, 3, h, w).
        scale: 1, 2, 3 or 4.
        network: says what a pixel costs.
        needs_gradient: of the image step.
        max_memory: bytes, beyond the weights, for the images and a tile's work. Where the images alone take more, or
            leave less than the smallest tile needs, the smallest tile is taken.
    """
    batch, height, width = len(y), y.shape[-2] * scale, y.shape[-1] * scale
    images = (IMAGES + INPUTS / scale**2) * 4 * 3 * batch * height * width
    pixels = max(0, max_memory - images) / bytes_per_pixel(network, needs_gradient)
    if batch * height * width <= pixels:
        return Tiles(y, scale, network.size_multiple, None)
    # A long and thin image makes tiles of its own height, which are the longer for it.
    side = max(math.isqrt(int(pixels)), int(pixels) // min(height, width), SMALLEST)
    return Tiles(y, scale, network.size_multiple, side)


class TiledNetwork:
    """A network that sees images tile by tile: what `restore` asks of an `MCFormer`."""

    def __init__(self, network: MCFormer, tiles: Tiles) -> None:
        self._network, self._tiles = network, tiles
        self.add_noise, self.remaining_error = network.add_noise, network.remaining_error
        self.to_diffusion, self.to_image = network.to_diffusion, network.to_image

    def first_image(self, y: Tensor, known: Estimate | None, scale: int) -> Tensor | None:
        """See `MCFormer.first_image`."""

        def work(tile: Tile) -> Parts:
            return [self._network.first_image(tile.below(y), tile.known(known), scale)], []

        return self._tiles.over(work)[0][0]

    def __call__(
        self,
        x_t: Tensor,
        timestep: Tensor,
        y: Tensor,
        scale: int,
        kernel: Tensor | None,
        noise_level: Tensor | None,
        x_y: Tensor | None,
        *,
        view: int = 0,
    ) -> Prediction:
        """See `MCFormer.forward`. The kernel and the noise level are the tiles' means."""

        def work(tile: Tile) -> Parts:
            known = (None if part is None else part[tile.images] for part in (kernel, noise_level))
            seen = None if x_y is None else tile.of(x_y)
            arguments = (tile.of(x_t), timestep[tile.images], tile.below(y), scale, *known, seen)
            if x_t.requires_grad and self._tiles.side is not None:
                # Recorded tile by tile only when the gradient comes to it.
                p = checkpoint(self._network, *arguments, view=view, use_reentrant=False)
            else:
                p = self._network(*arguments, view=view)
            return [p.x0_hat, p.noise, p.variance], [p.kernel, p.noise_level]

        (x0_hat, noise, variance), (k_hat, sigma_hat) = self._tiles.over(work)
        assert x0_hat is not None
        assert k_hat is not None
        return Prediction(x0_hat, k_hat, sigma_hat, noise=noise, variance=variance)


@dataclass(frozen=True)
class TiledImageStep:
    """An image step without a gradient, tile by tile; one with a gradient reaches through the whole image anyway."""

    step: ImageStep
    tiles: Tiles

    @property
    def needs_gradient(self) -> bool:
        """See `ImageStep`."""
        return self.step.needs_gradient

    def __call__(self, x_t: Tensor, x0_hat: Tensor, context: ImageContext) -> ImageCorrection:
        """See `ImageStep`."""
        if self.needs_gradient:
            return self.step(x_t, x0_hat, context)

        def work(tile: Tile) -> Parts:
            part = replace(
                context,
                y=tile.below(context.y),
                kernel=context.kernel[tile.images],
                noise_level=context.noise_level[tile.images],
                kernel_error=None if context.kernel_error is None else context.kernel_error[tile.images],
            )
            corrected, shift = self.step(tile.of(x_t), tile.of(x0_hat), part)
            return [corrected, shift if isinstance(shift, Tensor) else None], []

        (corrected, shift), _ = self.tiles.over(work)
        assert corrected is not None
        return ImageCorrection(corrected, 0.0 if shift is None else shift)


def tiled_kernel_step(step: KernelStep, tiles: Tiles) -> KernelStep:
    """A kernel step on each tile, from the shared state to a shared state: the tiles' mean."""

    def shared(state: KernelState | None, prediction: Prediction, y: Tensor, scale: int) -> KernelState:
        moved = False

        def work(tile: Tile) -> Parts:
            nonlocal moved
            before = tile.known(state)
            noise_level = None if prediction.noise_level is None else prediction.noise_level[tile.images]
            seen = Prediction(tile.of(prediction.x0_hat), prediction.kernel[tile.images], noise_level)
            after = step(before, seen, tile.below(y), scale)
            moved = moved or after is not before
            return [], [after.kernel, after.noise_level]

        _, (kernel, noise_level) = tiles.over(work)
        if state is not None and not moved:
            return state
        assert kernel is not None
        assert noise_level is not None
        return KernelState(kernel, noise_level)

    return shared
