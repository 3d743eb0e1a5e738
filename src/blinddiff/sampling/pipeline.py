"""The pipeline: one call from a photograph to the sharp photograph, its kernel and its noise level."""

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor
from typing_extensions import Self

from blinddiff.degradation import SCALES, Degradation, Observation
from blinddiff.degradation.noise import check_noise_level
from blinddiff.errors import ParameterError
from blinddiff.models.denoiser import Denoiser
from blinddiff.models.loading import DEFAULT_WEIGHTS, load_network
from blinddiff.models.mcformer import MCFormer
from blinddiff.published.network import PublishedMCFormer, architecture_name
from blinddiff.sampling.image_steps import IMAGE_STEPS
from blinddiff.sampling.kernel_steps import KERNEL_STEPS, keep_noise_level
from blinddiff.sampling.loop import OnStep, restore
from blinddiff.sampling.memory import choose_device, free_memory
from blinddiff.sampling.output import (
    BlindDiffOutput,
    ImageInput,
    KernelInput,
    KernelMap,
    OutputType,
    estimate_from_y,
    estimate_kernel_map,
    given_kernel,
    make_output,
    to_batch,
)
from blinddiff.sampling.schedulers import Generators, NoiseSource, make_scheduler, saved_scheduler
from blinddiff.sampling.wrappers import SelfEnsemble, Tiled, TiledImageStep, plan_tiles, tiled_kernel_step

StepCallback: TypeAlias = (
    Callable[[Any, int, int, dict[str, Any]], dict[str, Any]] | PipelineCallback | MultiPipelineCallbacks
)
ARCHITECTURES = {network.__name__: network for network in (MCFormer, PublishedMCFormer)}
HUB_OPTIONS = {"cache_dir", "force_download", "local_files_only", "proxies", "revision", "token"}


@dataclass(frozen=True)
class Mode:
    """What a mode sets where the caller does not.

    Attributes:
        scheduler: a name of `SCHEDULERS`, or ``"own"``: the one that the pipeline was made with.
        num_inference_steps: steps of the reverse diffusion.
        image_step: a name of `IMAGE_STEPS`.
        kernel_step: a name of `KERNEL_STEPS`.
    """

    scheduler: str
    num_inference_steps: int
    image_step: str = "proximal"
    kernel_step: str = "damped"

    @property
    def self_ensemble(self) -> bool:
        """Whether steps see different dihedral transforms: they are averaged only by the mean."""
        return self.scheduler == "mean"


MODES = {
    # closest in the mean square: the mean of two posterior means, the second under a better kernel
    "fidelity": Mode("mean", 2),
    # nearly that, in half the time: one call of the network
    "fast": Mode("mean", 1),
    # a sample of the posterior: sharper, with a larger error
    "perceptual": Mode("own", 8),
    # the published sampler, with its guidance
    "paper": Mode("published", 500, image_step="published", kernel_step="network"),
}


class BlindDiffPipeline(DiffusionPipeline):
    """Blind image super-resolution: image, kernel and noise level from one low-resolution photograph.

    Args:
        network: the prior for image and kernel, a `Denoiser`; set to evaluation mode.
        scheduler: a scheduler of diffusers for x0-prediction over the network's noise schedule.
    """

    _callback_tensor_inputs = ("x_t", "x0_hat", "kernel")

    def __init__(self, network: Denoiser, scheduler: Any) -> None:
        super().__init__()
        network.eval()  # type: ignore[attr-defined]  # every network is a module
        self.register_modules(network=network, scheduler=scheduler)  # type: ignore[no-untyped-call]
        self.network: Any
        self.scheduler: Any

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None = None,
        device: str | torch.device | None = None,
        *,
        torch_dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load weights.

        Args:
            pretrained_model_name_or_path: a folder written by `save_pretrained` or by training, or a repository of the
                Hugging Face hub; the weights in the package where None.
            device: ``"cuda"``, ``"mps"`` or ``"cpu"``; the first of these that the machine has where None.
            torch_dtype: of weights and network; the degradation model, x_t and the results stay in single precision.
            **kwargs: options of the hub, see `HUB_OPTIONS`; ``weights``, the former name of the first argument.

        Raises:
            WeightsError: missing, damaged, or of another architecture.
            ParameterError: the machine has no such device, or an option is unknown.
        """
        if "weights" in kwargs:
            warnings.warn("weights: is now the first argument of from_pretrained", DeprecationWarning, stacklevel=2)
            pretrained_model_name_or_path = kwargs.pop("weights")
        if unknown := sorted(kwargs.keys() - HUB_OPTIONS):
            raise ParameterError(f"from_pretrained: unknown option {unknown[0]!r}")
        weights = DEFAULT_WEIGHTS if pretrained_model_name_or_path is None else pretrained_model_name_or_path
        network = load_denoiser(weights, **kwargs)
        network.requires_grad_(False)
        network.to(memory_format=torch.channels_last)
        pipeline = cls(network, saved_scheduler(weights, network))
        pipeline.to(choose_device(device))
        if torch_dtype is not None:
            pipeline.to(torch_dtype)
        return pipeline

    @torch.no_grad()
    def __call__(
        self,
        image: ImageInput,
        scale: int = 4,
        mode: str = "fidelity",
        num_inference_steps: int | None = None,
        num_samples: int = 1,
        kernel: KernelInput | None = None,
        noise_level: float | None = None,
        image_step: str | None = None,
        kernel_step: str | None = None,
        scheduler: str | None = None,
        generator: Generators = None,
        output_type: OutputType = "pil",
        return_dict: bool = True,
        max_memory: int | None = None,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("x_t",),
        on_step: OnStep | None = None,
    ) -> BlindDiffOutput:
        """Restore a photograph.

        Args:
            image: a PIL image, array or tensor, or a list or batch of one size, see `to_batch`.
            scale: 1 (deblur and denoise), 2, 3 or 4.
            mode: ``"fidelity"``, ``"fast"``, ``"perceptual"`` or ``"paper"``, see `MODES`; it sets what is None below.
            num_inference_steps: steps, 1 to 1000.
            num_samples: samples of each image; with more than one, ``images`` is their mean.
            kernel: the blur kernel where it is known, (n, m) or (B, n, m), in pixels of the result, in place of the
                estimate. With a ``kernel_step`` other than ``"fixed"`` it is only the initial estimate.
            noise_level: standard deviation of the noise in grey levels, where it is known.
            image_step: ``"proximal"``, ``"gradient"``, ``"none"`` or ``"published"``.
            kernel_step: ``"damped"``, ``"network"``, ``"refine"``, ``"first"`` (estimated once) or ``"fixed"`` (a given
                kernel).
            scheduler: ``"mean"``, ``"own"`` (the pipeline's), ``"ddim"``, ``"ddpm"``, ``"dpm-solver++"`` or
                ``"published"``.
            generator: random generator, or a list of one for each image.
            output_type: of the images, ``"pil"``, ``"np"`` or ``"pt"``.
            return_dict: False returns the output's fields as a tuple, the images first.
            max_memory: bytes that the restoration may take on its device beside the weights; half of what is free where
                None. An image for which that is too little is restored in tiles, see `Tiled`; so is one for which
                memory runs out, in ever smaller tiles (except where a gradient is taken through the network).
            callback_on_step_end: as in diffusers, called with (pipeline, step, timestep, tensors by name) after each
                step; an ``"x_t"`` in the mapping that it returns replaces x_{t-1}.
            callback_on_step_end_tensor_inputs: the tensors it is given, of ``"x_t"``, ``"x0_hat"`` and ``"kernel"``.
            on_step: called with (step, t, x_t, x0_hat, k_t) after each step, samples side by side; a tensor that it
                returns replaces x_{t-1}.

        Raises:
            ImageError: the image cannot be used.
            ParameterError: an argument outside its range.
            KernelError: the kernel is none, or larger than the result.
        """
        y = to_batch(image).to(self.device)
        if kernel is not None and kernel_step is None:
            kernel_step = "fixed"
        names = "scheduler", "num_inference_steps", "image_step", "kernel_step"
        values = scheduler, num_inference_steps, image_step, kernel_step
        given: dict[str, Any] = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        options = replace(MODES[_choice("mode", mode, MODES)], **given)
        _choice("output_type", output_type, ("pil", "np", "pt"))
        self.check_scale(scale)
        if options.kernel_step == "fixed" and kernel is None:
            raise ParameterError("kernel_step 'fixed' needs a kernel")
        if num_samples < 1:
            raise ParameterError(f"{num_samples} samples: 1 or more are possible")
        if noise_level is not None:
            check_noise_level(noise_level)
        if max_memory is not None and max_memory < 1:
            raise ParameterError(f"max_memory: {max_memory} bytes; 1 or more are possible")
        if isinstance(generator, Sequence):
            if len(generator) != len(y):
                raise ParameterError(f"{len(generator)} generators for {len(y)} images")
            generator = [g for g in generator for _ in range(num_samples)]
        for name in callback_on_step_end_tensor_inputs:
            _choice("callback_on_step_end_tensor_inputs", name, self._callback_tensor_inputs)
        update_kernel = KERNEL_STEPS[_choice("kernel_step", options.kernel_step, KERNEL_STEPS)]
        update_kernel = update_kernel if noise_level is None else keep_noise_level(update_kernel, noise_level)
        update_image = IMAGE_STEPS[_choice("image_step", options.image_step, IMAGE_STEPS)]

        observation = Observation(y, scale)
        degradation = self._initial_degradation(observation, kernel, noise_level)
        samples = Observation(y.repeat_interleave(num_samples, 0), scale)
        max_memory = free_memory(self.device) if max_memory is None else max_memory
        tiles = plan_tiles(samples.y, scale, self.network, update_image.needs_gradient, max_memory)
        denoiser: Denoiser = Tiled(self.network, tiles)
        if options.self_ensemble:
            denoiser = SelfEnsemble(denoiser)
        number = options.num_inference_steps
        steps = make_scheduler(options.scheduler, self.network, number, self.device, self.scheduler)
        with self.progress_bar(total=len(steps.timesteps)) as bar:

            def after_step(step: int, t: int, x_t: Tensor, x0_hat: Tensor, k_t: Tensor) -> Tensor | None:
                bar.update()
                changed = None if on_step is None else on_step(step, t, x_t, x0_hat, k_t)
                if callback_on_step_end is None:
                    return changed
                tensors = {"x_t": x_t if changed is None else changed, "x0_hat": x0_hat, "kernel": k_t}
                names = getattr(callback_on_step_end, "tensor_inputs", callback_on_step_end_tensor_inputs)
                returned = callback_on_step_end(self, step, t, {name: tensors[name] for name in names})
                return (returned or {}).get("x_t", changed)

            restored = restore(
                denoiser,
                steps,
                samples,
                None if degradation is None else degradation.repeat(num_samples),
                NoiseSource((len(samples), 3, *samples.hr_size), generator, y.device),
                TiledImageStep(update_image, tiles),
                tiled_kernel_step(update_kernel, tiles),
                after_step,
            )
        out = make_output(observation, restored, num_samples, output_type)
        return out if return_dict else out.to_tuple()  # type: ignore[return-value]  # diffusers' convention

    def _initial_degradation(
        self, observation: Observation, kernel: KernelInput | None, noise_level: float | None
    ) -> Degradation | None:
        """What is known of kernel and noise level before the first step."""
        known: Degradation | None = self.network.initial_estimate(observation)
        if kernel is not None:
            nothing = torch.zeros(len(observation), device=observation.y.device)
            known = Degradation(given_kernel(kernel, observation), nothing if known is None else known.noise_level)
        if noise_level is not None and known is not None:
            known = known.changed(known.kernel, torch.full_like(known.noise_level, noise_level))
        return known

    @torch.no_grad()
    def estimate(self, image: ImageInput, scale: int = 4) -> Degradation:
        """Kernel, (B, n, n) in pixels of the result, noise level, (B,) grey levels, and the expected kernel error."""
        return estimate_from_y(self.network, self._observation(image, scale)).map(Tensor.cpu)

    def expected_kernel_error(self, image: ImageInput, scale: int = 4) -> Tensor:
        """Expected sum |k_hat - k| of `estimate`'s kernel, (B,), 0 to 2. Near 1, y does not determine its kernel."""
        error = self.estimate(image, scale).kernel_error
        assert error is not None  # an estimate from y has one
        return error

    @torch.no_grad()
    def kernel_map(self, image: ImageInput, scale: int = 4) -> KernelMap:
        """Kernel and noise level for each region of one photograph, for blur that differs from place to place."""
        return estimate_kernel_map(self.network, self._observation(image, scale))

    @torch.no_grad()
    def closed_form(self, image: ImageInput, scale: int = 4, kernel: KernelInput | None = None) -> Tensor:
        """Estimated (or given) kernel and one proximal step from bicubic: (B, 3, H, W), without the image network."""
        observation = self._observation(image, scale)
        found = estimate_from_y(self.network, observation)
        if kernel is not None:
            found = found.changed(given_kernel(kernel, observation), found.noise_level)
        tiles = plan_tiles(observation.y, scale, self.network, False, free_memory(self.device))
        x_y = Tiled(self.network, tiles).initial_image(observation, found)
        assert x_y is not None  # only a network without an estimate has none
        return x_y.clamp_(0, 1).cpu()

    def check_scale(self, scale: int) -> None:
        """Raise ParameterError if the weights were not made for a scale."""
        known = [s for s in SCALES if s in self.network.config.scales]
        if not isinstance(scale, int) or scale not in known:
            raise ParameterError(f"scale {scale} is not one of {', '.join(map(str, known))}")

    def _observation(self, image: ImageInput, scale: int) -> Observation:
        self.check_scale(scale)
        return Observation(to_batch(image).to(self.device), scale)


def load_denoiser(weights: str | os.PathLike[str], **hub_options: Any) -> Any:
    """A network of any of `ARCHITECTURES`, see `load_network`."""
    return load_network(weights, ARCHITECTURES, architecture_name, **hub_options)


def _choice(name: str, value: str, known: Any) -> str:
    if value not in known:
        raise ParameterError(f"{name} {value!r} is not one of {', '.join(known)}")
    return value
