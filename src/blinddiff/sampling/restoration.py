"""One call of the pipeline with its options resolved: restores observations, with tiles, samples and callbacks."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from blinddiff.degradation import Degradation, Observation
from blinddiff.models.denoiser import Denoiser
from blinddiff.sampling.image_steps import ImageStep
from blinddiff.sampling.kernel_steps import KernelStep
from blinddiff.sampling.loop import OnStep, restore
from blinddiff.sampling.on_disk import ImagesOnDisk
from blinddiff.sampling.output import BlindDiffOutput, check_estimate, check_finite, make_output
from blinddiff.sampling.schedulers import Generators, NoiseSource
from blinddiff.sampling.wrappers import SelfEnsemble, Tiled, TiledImageStep, Tiles, plan_tiles, tiled_kernel_step

AfterStep: TypeAlias = Callable[[int, int, dict[str, Tensor]], dict[str, Any] | None]
"""diffusers' callback, with the tensors after a step by name; a "latents" that it returns replaces x_{t-1}."""


@dataclass(frozen=True)
class Restoration:
    """Restores observations with the options of one call. The arguments are those of the pipeline, resolved.

    Attributes:
        initial: the degradation before the first step, given or estimated from y; None if there is neither.
        make_scheduler: a new scheduler for each restoration.
        progress_bar: the pipeline's, a context manager.
        callback: diffusers' callback; None if there is none.
        local: estimate kernel and noise level for each tile; the observation is then one image.
    """

    network: Any
    initial: Callable[[Observation], Degradation | None]
    make_scheduler: Callable[[], Any]
    self_ensemble: bool
    update_image: ImageStep
    update_kernel: KernelStep
    num_samples: int
    generator: Generators
    max_memory: int
    progress_bar: Callable[..., Any]
    on_step: OnStep | None
    on_tile: Callable[[int, int], object]
    callback: AfterStep | None
    local: bool

    def __call__(
        self, observation: Observation, degradation: Degradation | None, images: Sequence[int]
    ) -> BlindDiffOutput:
        """Restore observations.

        Args:
            degradation: before the first step; None for `initial`.
            images: the numbers of the observations in the batch of the call, for their generators.
        """
        repeated = observation.repeat(self.num_samples)
        diffusion = self.make_scheduler()
        generators = self.generator
        if isinstance(generators, Sequence):
            generators = [generators[image] for image in images for _ in range(self.num_samples)]
        needs_gradient = self.update_image.needs_gradient
        tiles = plan_tiles(repeated.y, repeated.scale, self.network, needs_gradient, self.max_memory, self.local)
        if tiles.local:
            start: Degradation | None = self._local_estimates(repeated, tiles)
        else:
            start = self.initial(observation) if degradation is None else degradation
            start = None if start is None else start.repeat(self.num_samples)
        denoiser: Denoiser = Tiled(self.network, tiles, self.on_tile)
        if self.self_ensemble:
            denoiser = SelfEnsemble(denoiser)
        on_disk: AbstractContextManager[Any] = (
            ImagesOnDisk(repeated.hr_size) if tiles.on_disk and repeated.y.is_cpu else nullcontext()
        )
        with on_disk, self.progress_bar(total=len(diffusion.timesteps)) as bar:

            def after_step(step: int, t: int, x_t: Tensor, x0_hat: Tensor, k_t: Tensor) -> Tensor | None:
                check_finite(x0_hat, k_t)  # now, because 500 steps can take minutes
                bar.update()
                replacement = None if self.on_step is None else self.on_step(step, t, x_t, x0_hat, k_t)
                if self.callback is None:
                    return replacement
                tensors = {"latents": x_t if replacement is None else replacement, "x0_hat": x0_hat, "kernel": k_t}
                return (self.callback(step, t, tensors) or {}).get("latents", replacement)

            restored = restore(
                denoiser,
                diffusion,
                repeated,
                start,
                NoiseSource((len(repeated), 3, *repeated.hr_size), generators, observation.y.device),
                TiledImageStep(self.update_image, tiles),
                tiled_kernel_step(self.update_kernel, tiles),
                after_step,
            )
            check_finite(restored.image, restored.degradation.noise_level)
            return make_output(observation, restored, self.num_samples, tiles if tiles.local else None)

    def _local_estimates(self, observation: Observation, tiles: Tiles) -> Degradation:
        """The degradation of each tile, estimated from y; ParameterError for a network without an estimate."""
        estimates = [self.initial(tile.observation(observation)) for tile in tiles]
        return Degradation.joined([check_estimate(estimate) for estimate in estimates])
