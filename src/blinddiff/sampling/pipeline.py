"""The pipeline: one call from a photograph to the sharp photograph, its kernel and its noise level."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils.constants import SAFETENSORS_WEIGHTS_NAME
from torch import Tensor

from blinddiff.degradation import SCALES
from blinddiff.degradation.kernel_measures import check_kernel
from blinddiff.degradation.noise import check_noise_level
from blinddiff.errors import KernelError, ParameterError, WeightsError
from blinddiff.models.kernel_estimator import Estimate
from blinddiff.models.loading import DEFAULT_WEIGHTS, check_fit, weights_folder
from blinddiff.models.mcformer import MCFormer
from blinddiff.sampling.kernel_steps import KernelState, keep_noise_level
from blinddiff.sampling.loop import StepCallback, restore
from blinddiff.sampling.memory import free_memory
from blinddiff.sampling.modes import IMAGE_STEPS, KERNEL_STEPS, MODES, Mode
from blinddiff.sampling.noise import Generators, NoiseSource
from blinddiff.sampling.output import (
    BlindDiffOutput,
    ImageInput,
    KernelMap,
    OutputType,
    estimate_kernel_map,
    make_output,
    to_batch,
)
from blinddiff.sampling.schedulers import LibraryScheduler, Scheduler, make_scheduler, saved_scheduler
from blinddiff.sampling.wrappers import TiledImageStep, TiledNetwork, plan_tiles, tiled_kernel_step

KernelInput = Tensor | npt.NDArray[Any]


class BlindDiffPipeline(DiffusionPipeline):
    """Blind image super-resolution: image, kernel and noise level from one low-resolution photograph.

    Args:
        network: the prior for image and kernel; set to evaluation, for what training averages over a batch.
        scheduler: a scheduler of diffusers for x0-prediction over the network's noise schedule.
    """

    def __init__(self, network: MCFormer, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(network=network.eval(), scheduler=scheduler)  # type: ignore[no-untyped-call]
        self.network: MCFormer
        self.scheduler: Any

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, weights: str | Path | None = None, device: str | torch.device | None = None
    ) -> "BlindDiffPipeline":
        """Load weights.

        Args:
            weights: a folder written by `save_pretrained` or by training, or a repository of the Hugging Face hub; the
                weights in the package where None.
            device: ``"cuda"``, ``"mps"`` or ``"cpu"``; the first of these that the machine has where None.

        Raises:
            WeightsError: missing, damaged, or of another architecture.
            ParameterError: the machine has no such device.
        """
        network = load_network(DEFAULT_WEIGHTS if weights is None else weights)
        network.requires_grad_(False)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-arg]  # diffusers wraps `to` untyped
        pipeline = cls(network, saved_scheduler(DEFAULT_WEIGHTS if weights is None else weights, network))
        pipeline.to(choose_device(device))
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
        max_memory: int | None = None,
        callback_on_step_end: StepCallback | None = None,
    ) -> BlindDiffOutput:
        """Restore a photograph.

        Args:
            image: a PIL image, array or tensor, or a list or batch of one size, see `to_batch`.
            scale: 1 (deblur and denoise), 2, 3 or 4.
            mode: ``"fidelity"`` (closest in the mean square), ``"fast"`` (nearly that, in half the time),
                ``"perceptual"`` (a sample: sharper) or ``"paper"`` (the published sampler); it sets what is None below,
                see `MODES`.
            num_inference_steps: steps, 1 to 1000.
            num_samples: samples of each image; with more than one, ``images`` is their mean.
            kernel: the blur kernel where it is known, (n, m) or (B, n, m), in pixels of the result: guides, and
                modulates the network, in place of the estimate. With a ``kernel_step`` other than ``"fixed"`` it is
                only where the estimate starts.
            noise_level: standard deviation of the noise in grey levels, where it is known.
            image_step: ``"proximal"``, ``"gradient"``, ``"none"`` or ``"published"``.
            kernel_step: ``"damped"``, ``"network"``, ``"refine"``, ``"first"`` (estimated once) or ``"fixed"`` (a given
                kernel).
            scheduler: ``"mean"``, ``"own"`` (the pipeline's), ``"ddim"``, ``"ddpm"``, ``"dpm-solver++"`` or
                ``"published"``.
            generator: random generator, or a list of one for each image.
            output_type: ``"pil"``, ``"np"`` or ``"pt"``.
            max_memory: bytes that the restoration may take on its device beside the weights; half of what is free where
                None. An image for which that is too little goes through in tiles, see `tiles`; so does one for which
                memory runs out, in ever smaller ones (but not where a gradient is taken through the network).
            callback_on_step_end: called with (index, t, x_t, x0_hat, k_t) after each step, samples side by side.

        Raises:
            ImageError: the image cannot be used.
            ParameterError: an argument outside its range.
            KernelError: the kernel is none, or larger than the result.
        """
        y = to_batch(image).to(self.device)
        options = MODES[_choice("mode", mode, MODES)].changed(num_inference_steps, image_step, kernel_step, scheduler)
        if kernel is not None and kernel_step is None:
            options = replace(options, kernel_step="fixed")
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
        kernel_update = KERNEL_STEPS[_choice("kernel_step", options.kernel_step, KERNEL_STEPS)]
        kernel_update = kernel_update if noise_level is None else keep_noise_level(kernel_update, noise_level)
        image_update = IMAGE_STEPS[_choice("image_step", options.image_step, IMAGE_STEPS)]
        state = self._known(y, scale, kernel, noise_level)
        if state is not None:
            state = KernelState(*(part.repeat_interleave(num_samples, 0) for part in state))
        samples = y.repeat_interleave(num_samples, 0)
        blind = kernel is None and self.network.config.prediction == "residual"
        kernel_error = self.network.expected_kernel_error(y, scale) if blind else None
        shape = (len(samples), 3, y.shape[-2] * scale, y.shape[-1] * scale)
        max_memory = free_memory(self.device) if max_memory is None else max_memory
        tiles = plan_tiles(samples, scale, self.network, image_update.needs_gradient, max_memory)
        restored = restore(
            TiledNetwork(self.network, tiles),
            self._scheduler(options),
            samples,
            scale,
            state,
            NoiseSource(shape, generator, y.device),
            TiledImageStep(image_update, tiles),
            tiled_kernel_step(kernel_update, tiles),
            callback_on_step_end,
            None if kernel_error is None else kernel_error.repeat_interleave(num_samples, 0),
        )
        out = make_output(y, scale, restored, num_samples, output_type)
        if kernel_error is not None:
            out.expected_kernel_errors = kernel_error.cpu()
        return out

    def _scheduler(self, options: Mode) -> Scheduler:
        if options.scheduler == "own":
            return LibraryScheduler(self.scheduler, options.num_inference_steps, self.device)
        return make_scheduler(options.scheduler, self.network, options.num_inference_steps, self.device)

    def _known(
        self, y: Tensor, scale: int, kernel: KernelInput | None, noise_level: float | None
    ) -> KernelState | None:
        """What is known of kernel and noise level before the first step."""
        state = self.network.estimate(y, scale) if self.network.config.prediction == "residual" else None
        if kernel is not None:
            nothing = torch.zeros(len(y), device=y.device)
            state = KernelState(_given_kernel(kernel, y, scale), nothing if state is None else state.noise_level)
        if noise_level is not None and state is not None:
            state = KernelState(state.kernel, torch.full_like(state.noise_level, noise_level))
        return state

    @torch.no_grad()
    def estimate(self, image: ImageInput, scale: int = 4) -> Estimate:
        """Kernel, (B, n, n) in pixels of the result, and noise level, (B,) grey levels, from the photograph alone."""
        self.check_scale(scale)
        found = self.network.estimate(to_batch(image).to(self.device), scale)
        return Estimate(found.kernel.cpu(), found.noise_level.cpu())

    @torch.no_grad()
    def expected_kernel_error(self, image: ImageInput, scale: int = 4) -> Tensor:
        """How far off `estimate`'s kernel will be, (B,), from 0 to 2: see `MCFormer.expected_kernel_error`."""
        self.check_scale(scale)
        return self.network.expected_kernel_error(to_batch(image).to(self.device), scale).cpu()

    @torch.no_grad()
    def kernel_map(self, image: ImageInput, scale: int = 4) -> KernelMap:
        """Kernel and noise level for each region of one photograph, for blur that differs from place to place."""
        self.check_scale(scale)
        y = to_batch(image).to(self.device)
        if len(y) != 1:
            raise ParameterError(f"{len(y)} images: a kernel map is of one")
        return estimate_kernel_map(self.network, y, scale)

    @torch.no_grad()
    def closed_form(self, image: ImageInput, scale: int = 4, kernel: KernelInput | None = None) -> Tensor:
        """Estimated (or given) kernel and one proximal step from bicubic: (B, 3, H, W), without an image network."""
        self.check_scale(scale)
        y = to_batch(image).to(self.device)
        found = self.network.estimate(y, scale)
        chosen = found.kernel if kernel is None else _given_kernel(kernel, y, scale)
        tiles = plan_tiles(y, scale, self.network, False, free_memory(self.device))
        x_y = TiledNetwork(self.network, tiles).first_image(y, Estimate(chosen, found.noise_level), scale)
        assert x_y is not None  # only a network without an estimate has none
        return x_y.clamp_(0, 1).cpu()

    def check_scale(self, scale: int) -> None:
        """Raise ParameterError if the weights were not made for a scale."""
        known = [s for s in SCALES if s in self.network.config.scales]
        if not isinstance(scale, int) or scale not in known:
            raise ParameterError(f"scale {scale} is not one of {', '.join(map(str, known))}")


def load_network(weights: str | Path) -> MCFormer:
    """A network from a folder (of a pipeline, or of the network alone), or from a repository of the hub.

    Raises:
        WeightsError: missing, damaged, or of another architecture.
    """
    folder = weights_folder(weights)
    source, subfolder = (str(weights), "network") if folder is None else (folder, None)
    try:
        with _quiet_libraries():
            config = MCFormer.load_config(source, subfolder=subfolder)
            if config.get("_class_name") != MCFormer.__name__:
                what = config.get("_class_name", "no named architecture")
                raise WeightsError(f"holds {what}, not MCFormer")
            if folder is not None and (folder / SAFETENSORS_WEIGHTS_NAME).is_file():
                check_fit(config, folder / SAFETENSORS_WEIGHTS_NAME)
            network, found = MCFormer.from_pretrained(
                source, subfolder=subfolder, use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
            )
    except WeightsError as error:
        raise WeightsError(f"{weights}: {error}") from error
    except Exception as error:  # diffusers raises errors of many kinds, from files, the hub and shapes alike
        raise WeightsError(f"{weights}: cannot be loaded as weights: {' '.join(str(error).split())[:300]}") from error
    for what in ("missing", "unexpected"):
        if names := sorted(found[f"{what}_keys"]):
            raise WeightsError(f"{weights}: does not fit its config.json: {len(names)} {what} weights, as {names[0]}")
    for name, value in network.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise WeightsError(f"{weights}: {name} has values that are not finite")
    return network


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep libraries from logging what is raised as an error of one line."""
    loggers = [logging.getLogger(name) for name in ("diffusers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def choose_device(device: str | torch.device | None) -> torch.device:
    """The named device, or the first of CUDA, MPS and CPU that the machine has.

    Raises:
        ParameterError: the name is none, or the machine has no such device.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ParameterError(f"device {str(device)!r}: this machine has none; cpu, cuda and mps are known") from error
    return chosen


def _choice(name: str, value: str, known: Any) -> str:
    if value not in known:
        raise ParameterError(f"{name} {value!r} is not one of {', '.join(known)}")
    return value


def _given_kernel(kernel: KernelInput, y: Tensor, scale: int) -> Tensor:
    """A user's kernel, checked, one for each image: (B, n, m)."""
    given = torch.as_tensor(np.array(kernel) if not isinstance(kernel, Tensor) else kernel).to(y)
    if given.ndim == 2:
        given = given[None]
    if given.ndim != 3 or len(given) not in (1, len(y)):
        raise KernelError(
            f"a kernel of shape {tuple(given.shape)} is not (height, width), or one for each of {len(y)} images"
        )
    for each in given:
        check_kernel(each)
    height, width = y.shape[-2] * scale, y.shape[-1] * scale
    if given.shape[-2] > height or given.shape[-1] > width:
        raise KernelError(
            f"a kernel of {given.shape[-1]}x{given.shape[-2]} is larger than the result, {width}x{height} pixels"
        )
    return given.expand(len(y), -1, -1)
