"""The pipeline: one call restores a photograph and estimates its blur kernel and noise level."""

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor
from typing_extensions import Self

from blinddiff.degradation import SCALES, Degradation, Observation
from blinddiff.degradation.model import check_noise_level
from blinddiff.errors import ParameterError
from blinddiff.files import DEFAULT_WEIGHTS
from blinddiff.imaging.mask import MaskInput
from blinddiff.models.denoiser import Denoiser
from blinddiff.models.loading import load_network
from blinddiff.published.network import ARCHITECTURES, architecture_name
from blinddiff.sampling.alternation import restore_shaken
from blinddiff.sampling.arguments import (
    choice,
    number_from,
    short_repr,
    whole_number,
    whole_number_between,
)
from blinddiff.sampling.decision import working_scale
from blinddiff.sampling.engine import Needs
from blinddiff.sampling.image_steps import IMAGE_STEPS
from blinddiff.sampling.kernel_steps import KERNEL_STEPS, keep_noise_level
from blinddiff.sampling.loop import OnStep
from blinddiff.sampling.mask import with_mask
from blinddiff.sampling.memory import (
    bytes_per_pixel,
    check_precision,
    choose_device,
    default_memory,
    one_thread_after_fork,
)
from blinddiff.sampling.modes import MODES
from blinddiff.sampling.output import (
    BlindDiffOutput,
    ImageInput,
    KernelInput,
    KernelMap,
    OutputType,
    check_finite,
    estimate_from_y,
    estimate_kernel_map,
    from_batch,
    given_kernel,
    to_batch,
)
from blinddiff.sampling.restoration import AfterStep, Restoration
from blinddiff.sampling.safety import at_half_size, estimate_inside, restore_at_working_scales, restore_inside
from blinddiff.sampling.schedulers import Generators, check_generator, make_scheduler, saved_scheduler
from blinddiff.sampling.wrappers import Tiled, image_bytes, plan_tiles

StepCallback: TypeAlias = (
    Callable[[Any, int, int, dict[str, Any]], dict[str, Any]] | PipelineCallback | MultiPipelineCallbacks
)
MODULES_FOR_DIFFUSERS = {
    "pipeline.py": "from blinddiff import BlindDiffPipeline\n",
    "network/architecture.py": "from blinddiff.models.mcformer import MCFormer\n"
    "from blinddiff.published.network import PublishedMCFormer\n",
}
"""Files by which plain diffusers loads a saved folder; it asks for `trust_remote_code`, and this package is needed."""
HUB_OPTIONS = {"cache_dir", "force_download", "local_files_only", "proxies", "revision", "token"}


class BlindDiffPipeline(DiffusionPipeline):
    """Blind image super-resolution: image, kernel and noise level from one low-resolution photograph.

    Args:
        network: the learned model of image and kernel, a `Denoiser`; it is set to evaluation mode.
        scheduler: a diffusers scheduler for x0-prediction over the network's noise schedule; used only by modes and
            options with scheduler ``"own"``.
    """

    _callback_tensor_inputs = ("latents", "x0_hat", "kernel")

    def __init__(self, network: Denoiser, scheduler: Any) -> None:
        super().__init__()
        one_thread_after_fork()
        network.eval()  # type: ignore[attr-defined]  # every network is a module
        self.register_modules(network=network, scheduler=scheduler)  # type: ignore[no-untyped-call]
        self.register_to_config(network=("architecture", type(network).__name__))  # type: ignore[no-untyped-call]
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
                Hugging Face hub; None for the bundled weights.
            device: ``"cuda"``, ``"mps"`` or ``"cpu"``; None for the first available.
            torch_dtype: precision of the network's weights and activations, as for `to`.
            **kwargs: `HUB_OPTIONS`, and ``weights``, the deprecated name of the first argument.

        Raises:
            WeightsError: the weights are missing, damaged, or of another architecture.
            ParameterError: the device is not available or cannot compute in torch_dtype, or an option is unknown.
        """
        one_thread_after_fork()
        if "weights" in kwargs:
            message = "from_pretrained: 'weights' is deprecated; pass it as the first argument"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            pretrained_model_name_or_path = kwargs.pop("weights")
        if unknown := sorted(kwargs.keys() - HUB_OPTIONS):
            raise ParameterError(f"from_pretrained: unknown option {unknown[0]!r}")
        weights = DEFAULT_WEIGHTS if pretrained_model_name_or_path is None else pretrained_model_name_or_path
        if not isinstance(weights, str | os.PathLike):
            raise ParameterError(f"from_pretrained: a folder or a repository is needed, not {short_repr(weights)}")
        target = choose_device(device)
        check_precision(torch.float32 if torch_dtype is None else torch_dtype, target)
        network = load_denoiser(weights, **kwargs)
        network.requires_grad_(False)
        network.to(memory_format=torch.channels_last)
        pipeline = cls(network, saved_scheduler(weights, network))
        return pipeline.to(target, torch_dtype)

    def save_pretrained(self, save_directory: str | os.PathLike[Any], *args: Any, **kwargs: Any) -> None:
        """Write a folder as in diffusers, with `MODULES_FOR_DIFFUSERS`."""
        for name, text in MODULES_FOR_DIFFUSERS.items():
            file = Path(save_directory, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        super().save_pretrained(save_directory, *args, **kwargs)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move the pipeline to a device, the network to a precision, or both, as in diffusers.

        Only the network computes in the precision; the degradation model, images and kernels stay in float32.

        Raises ParameterError if the device is not available, or cannot compute in the precision.
        """
        given = [*args, kwargs.get("device"), kwargs.get("dtype")]
        dtype = next((value for value in given if isinstance(value, torch.dtype)), None)
        device = next((value for value in given if value is not None and not isinstance(value, torch.dtype)), None)
        target = self.device if device is None else choose_device(device)
        check_precision(self.network.dtype if dtype is None else dtype, target)
        super().to(target, silence_dtype_warnings=True)
        self.network.to(dtype=dtype)
        return self

    def enable_model_cpu_offload(self, *_args: Any, **_kwargs: Any) -> None:
        """Not offered: memory is taken by activations, not by the weights. Raises ParameterError."""
        mebibytes = sum(parameter.nbytes for parameter in self.network.parameters()) >> 20
        raise ParameterError(
            f"offloading would free only the weights' {mebibytes} MiB; use max_memory to bound the rest"
        )

    enable_sequential_cpu_offload = enable_group_offload = enable_model_cpu_offload

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
        jpeg_step: float = 0.0,
        as_is: bool = False,
        kernel_map: bool = False,
        mask: MaskInput | None = None,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        on_step: OnStep | None = None,
        on_tile: Callable[[int, int], object] = lambda *_: None,
    ) -> BlindDiffOutput:
        """Restore a photograph.

        Args:
            image: a PIL image, array or tensor, or a list or batch of images of one size, see `to_batch`.
            scale: 1 (deblur and denoise), 2, 3 or 4. Integers of NumPy are accepted here and below.
            mode: one of `modes`: ``"fidelity"``, ``"fast"``, ``"perceptual"``, or ``"paper"`` with a published network;
                it supplies defaults for num_inference_steps, image_step, kernel_step and scheduler, see `MODES`.
            num_inference_steps: 1 to 1000.
            num_samples: samples per image; with more than one, ``images`` contains their means.
            kernel: a known blur kernel, (n, m) or (B, n, m) in HR pixels; replaces the initial estimate in data term
                and network. It is fixed, unless kernel_step is "damped", "network" or "refine".
            noise_level: a known standard deviation of the noise, in grey levels.
            image_step: ``"proximal"``, ``"gradient"``, ``"none"`` or ``"published"``.
            kernel_step: ``"damped"`` (0.3 of the network's correction), ``"network"`` (all of it), ``"refine"``
                (a fit), ``"alternate"`` (for camera shake at scales 1 and 2: the kernel from its spectrum where that is
                clear, else as "damped"), ``"first"`` (the kernel before the first step, never updated) or ``"fixed"``
                (a given one).
            scheduler: ``"mean"`` (no diffusion: the mean of estimates at t = T), ``"ddim"``, ``"ddpm"``,
                ``"dpm-solver++"``, ``"published"``, or ``"own"`` (the one of the constructor).
            generator: a random generator, or a list with one per image. Without one, every call draws other noise, from
                torch's global CPU generator, so results differ slightly unless `torch.manual_seed` comes before each.
            output_type: type of the images, ``"pil"``, ``"np"`` or ``"pt"``.
            return_dict: False returns the output's fields as a tuple, the images first.
            max_memory: bytes that the restoration may use on its device, excluding the weights; None for half of the
                free memory. Larger images are restored in tiles, see `Tiled`. If memory runs out even so, the tiles are
                made smaller, except in the backward pass of gradient guidance.
            jpeg_step: mean luma quantisation step of the JPEG file that the image was read from, see
                `Photograph.jpeg_step`; helps to estimate the noise. 0 if there is none, or the image was changed since.
            kernel_map: the blur varies over the picture: estimate kernel and noise level for each tile, and restore it
                with them. For one image, without a given kernel or mask; as a photograph at its own size.
            as_is: restore every picture as a photograph at its own size, exactly as estimated. Otherwise a picture that
                was enlarged is restored from its own size, and a result that does not agree with the input is replaced
                by a milder one, see `restore_safely`; and scale 1 is restored at scale 2 and reduced, see
                `working_scale`. Not so with a given kernel.
            mask: a picture, (h, w) or (B, h, w), that is white (or True) where the image is not to be believed, as in
                scratches: the data term leaves these pixels out, and the prior fills them. See `marked_pixels`.
            callback_on_step_end: as in diffusers, called after each step with (pipeline, step, t, dict of tensors).
                "latents" is x_{t-1}, the sample after the step; if the returned dict contains it, it replaces x_{t-1}.
            callback_on_step_end_tensor_inputs: keys of this dict, of ``"latents"``, ``"x0_hat"`` and ``"kernel"``.
            on_step: called after each step with (step, t, x_{t-1}, x0_hat, k_t); a tensor that it returns replaces
                x_{t-1}. The samples of an image are consecutive in the batch.
            on_tile: called during each step after each tile of the network with (finished tiles, all tiles).

        Raises:
            ImageError: image or mask cannot be used.
            ParameterError: an argument is out of range.
            KernelError: the kernel is not a valid blur kernel, or is larger than the result.
            BlindDiffError: the estimate is not finite; nothing is returned then.
        """
        self.check_mode(mode)
        choice("output_type", output_type, ("pil", "np", "pt"))
        if kernel is not None and kernel_step is None:
            kernel_step = "fixed"
        names = "scheduler", "num_inference_steps", "image_step", "kernel_step"
        values = scheduler, num_inference_steps, image_step, kernel_step
        given: dict[str, Any] = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        options = replace(MODES[mode], **given)
        update_kernel = KERNEL_STEPS[choice("kernel_step", options.kernel_step, KERNEL_STEPS)]
        update_image = IMAGE_STEPS[choice("image_step", options.image_step, IMAGE_STEPS)]
        if options.kernel_step == "fixed" and kernel is None:
            raise ParameterError("kernel_step 'fixed' needs a kernel")
        new_scheduler = partial(
            make_scheduler,
            options.scheduler,
            self.network,
            options.num_inference_steps,
            self.device,
            self.scheduler,
        )
        new_scheduler()  # raises for invalid arguments
        num_samples = whole_number_between("num_samples", num_samples, 1)
        if noise_level is not None:
            noise_level = number_from("noise_level", noise_level)
            check_noise_level(noise_level)
            update_kernel = keep_noise_level(update_kernel, noise_level)
        if max_memory is not None:
            max_memory = int(number_from("max_memory", max_memory, 1))
        for name, function in (("callback_on_step_end", callback_on_step_end), ("on_step", on_step)):
            if function is not None and not callable(function):
                raise ParameterError(f"{name} must be callable, not {short_repr(function)}")
        tensor_inputs = getattr(callback_on_step_end, "tensor_inputs", callback_on_step_end_tensor_inputs)
        for name in tensor_inputs if isinstance(tensor_inputs, Sequence) else (tensor_inputs,):
            choice("callback_on_step_end_tensor_inputs", name, self._callback_tensor_inputs)
        observation = self._observation(image, scale, jpeg_step)
        observation = observation if mask is None else with_mask(observation, mask)
        check_generator(generator, len(observation))
        unfit = {"a given kernel": kernel is not None, "a mask": mask is not None, "a batch": len(observation) > 1}
        if kernel_map and any(unfit.values()):
            raise ParameterError(f"kernel_map: is not possible with {next(name for name in unfit if unfit[name])}")

        run = Restoration(
            network=self.network,
            initial=partial(self._initial_degradation, kernel=kernel, noise_level=noise_level),
            make_scheduler=new_scheduler,
            self_ensemble=options.self_ensemble,
            update_image=update_image,
            update_kernel=update_kernel,
            num_samples=num_samples,
            generator=generator,
            max_memory=default_memory(self.device) if max_memory is None else max_memory,
            progress_bar=self.progress_bar,
            on_step=on_step,
            on_tile=on_tile,
            callback=None if callback_on_step_end is None else named_tensors(self, callback_on_step_end, tensor_inputs),
            local=kernel_map,
        )
        as_given = as_is or kernel is not None

        def usual(part: Observation, images: Sequence[int]) -> BlindDiffOutput:
            if as_given:
                return run(part, run.initial(part), images)
            numbered = partial(self._restore_photographs, run, images)
            return restore_inside(numbered, part)

        estimate = None
        if options.kernel_step == "alternate" and kernel is None:
            estimate = run.initial(observation)
        if kernel_map:
            working = observation.at_scale(working_scale(observation.scale, self.network.config.scales))
            out = run(observation if as_is else working, None, [0])
            out = at_half_size(out) if out.images.shape[-2:] != observation.hr_size else out
        elif estimate is None:
            out = usual(observation, range(len(observation)))
        else:
            kind = None if as_given else self.network.picture_kind(observation)
            out = restore_shaken(run, usual, observation, estimate, kind)
        out.images = from_batch(out.images, output_type)
        return out if return_dict else out.to_tuple()  # type: ignore[return-value]  # diffusers' convention

    def _restore_photographs(
        self, run: Restoration, images: Sequence[int], observation: Observation, places: Sequence[int]
    ) -> BlindDiffOutput:
        """Restore photographs safely, if the network tells kinds; their numbers in the batch are images[places]."""
        images = [images[place] for place in places]
        if observation.derived(self.network.picture_kind) is None:
            return run(observation, run.initial(observation), images)
        return restore_at_working_scales(run, self.network, observation, images)

    def _initial_degradation(
        self, observation: Observation, kernel: KernelInput | None, noise_level: float | None
    ) -> Degradation | None:
        """Kernel and noise level before the first step, given or estimated from y; None if there is neither."""
        initial: Degradation | None = self.network.initial_estimate(observation)
        if kernel is not None:
            levels = observation.y.new_zeros(len(observation)) if initial is None else initial.noise_level
            spectrum = None if initial is None else initial.noise_spectrum
            initial = Degradation(given_kernel(kernel, observation), levels, noise_spectrum=spectrum)
        if noise_level is not None and initial is not None:
            initial = initial.with_estimate(initial.kernel, torch.full_like(initial.noise_level, noise_level))
        return initial

    @torch.no_grad()
    def estimate(self, image: ImageInput, scale: int = 4, jpeg_step: float = 0.0) -> Degradation:
        """Estimate kernel, (B, n, n) in HR pixels, noise level, (B,) in grey levels, and expected kernel error.

        jpeg_step: as in `__call__`.
        """
        observation = self._observation(image, scale, jpeg_step)
        return estimate_inside(partial(estimate_from_y, self.network), observation).map(Tensor.cpu)

    def expected_kernel_error(self, image: ImageInput, scale: int = 4) -> Tensor:
        """Expected sum |k_hat - k| of `estimate`, (B,), 0 to 2; from 0.75 on, a default kernel would be as good."""
        error = self.estimate(image, scale).expected_kernel_error
        assert error is not None  # an estimate from y has one
        return error

    @torch.no_grad()
    def kernel_map(self, image: ImageInput, scale: int = 4) -> KernelMap:
        """Estimate kernel and noise level in each region of one photograph, for spatially varying blur."""
        return estimate_kernel_map(self.network, self._observation(image, scale))

    @torch.no_grad()
    def closed_form(self, image: ImageInput, scale: int = 4, kernel: KernelInput | None = None) -> Tensor:
        """The closed-form image x_y, (B, 3, H, W): one proximal step from the bicubic image; no image network."""
        observation = self._observation(image, scale)
        degradation = estimate_from_y(self.network, observation)
        if kernel is not None:
            degradation = degradation.with_estimate(given_kernel(kernel, observation), degradation.noise_level)
        tiles = plan_tiles(observation.y, observation.scale, self.network, False, default_memory(self.device))
        x_y = Tiled(self.network, tiles).closed_form_image(observation, degradation)
        assert x_y is not None  # because the network has an initial estimate
        check_finite(x_y)
        return x_y.clamp_(0, 1).cpu()

    is_fixed = False

    @property
    def scales(self) -> list[int]:
        """The scales that the network was trained for."""
        return [scale for scale in SCALES if scale in self.network.config.scales]

    def needs(self, size: tuple[int, int], scale: int, mode: str, samples: int, max_memory: int | None) -> Needs:
        """What a restoration needs, see `Engine`; more memory than `max_memory` if that is too little."""
        height, width = size
        needs_gradient = IMAGE_STEPS[MODES[mode].image_step].needs_gradient
        y = torch.empty(samples, 3, height, width, device="meta")  # only its shape is used
        limit = default_memory(self.device) if max_memory is None else max_memory
        tiles = plan_tiles(y, scale, self.network, needs_gradient, limit)
        rows, columns = (tiles.lengths(side * scale) for side in size)
        images = image_bytes(y, scale, tiles.on_disk and self.device.type == "cpu")
        largest = max(rows) * max(columns) * (samples if tiles.side is None else 1)
        activations = largest * bytes_per_pixel(self.network.channels_per_pixel, needs_gradient)
        return Needs(len(tiles), samples * sum(rows) * sum(columns), int(images + activations))

    def generator(self, seed: int) -> torch.Generator:
        """A random generator for calls."""
        return torch.Generator().manual_seed(seed)

    @property
    def modes(self) -> list[str]:
        """Names of the `MODES` that the network can run; "paper" only if it is a published one.

        Without the published guidance in its training, a network diverges under it.
        """
        return [name for name in MODES if name != "paper" or self.network.default_mode == "paper"]

    def check_mode(self, mode: str) -> None:
        """Raise ParameterError if a mode is unknown, or not one of `modes`."""
        if choice("mode", mode, MODES) not in self.modes:
            others = ", ".join(self.modes)
            raise ParameterError(f"mode {mode!r} needs the weights of a published network; these weights run {others}")

    def check_fixed(self, **options: Any) -> None:
        """Nothing is fixed, see `Engine`."""

    def check_scale(self, scale: int) -> int:
        """Return the scale as int. Raises ParameterError if the network was not trained for it."""
        number = whole_number(scale)
        if number not in self.scales:
            raise ParameterError(f"scale {short_repr(scale)} is not one of {', '.join(map(str, self.scales))}")
        return number

    def _observation(self, image: ImageInput, scale: int, jpeg_step: float = 0.0) -> Observation:
        """The checked image and scale, on the pipeline's device."""
        one_thread_after_fork()
        scale, jpeg_step = self.check_scale(scale), number_from("jpeg_step", jpeg_step, 0)
        y = to_batch(image).to(self.device)
        return Observation(y, scale, y.new_full((len(y),), jpeg_step))


def named_tensors(pipeline: BlindDiffPipeline, callback: StepCallback, names: Sequence[str]) -> AfterStep:
    """diffusers' callback of a pipeline, which gets only the tensors with certain names."""
    return lambda step, t, tensors: callback(pipeline, step, t, {name: tensors[name] for name in names})


def load_denoiser(weights: str | os.PathLike[str], **hub_options: Any) -> Any:
    """Load a network of one of `ARCHITECTURES`, see `load_network`."""
    return load_network(weights, ARCHITECTURES, architecture_name, **hub_options)
