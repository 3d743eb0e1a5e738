"""The methods that `blinddiff evaluate` compares. A new one is a class and a line in `METHODS`."""

import copy
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blinddiff.degradation.kernel_files import KERNEL_ENDINGS, read_kernel
from blinddiff.degradation.observation import Degradation, closed_form
from blinddiff.degradation.resize import bicubic_upsample
from blinddiff.errors import ImageError, ParameterError
from blinddiff.evaluation.data import SUFFIXES, Case, Restoration, read_pixels, to_bytes
from blinddiff.files import files_hash
from blinddiff.models.denoiser import NUM_TRAIN_TIMESTEPS

if TYPE_CHECKING:
    from blinddiff.sampling.pipeline import BlindDiffPipeline

T = TypeVar("T")


class Method(ABC):
    """Restores images; `name` is as on the command line and in tables."""

    name: str

    @property
    def parameters(self) -> int | None:
        """Number of trained parameters that the method uses, None if unknown."""
        return 0

    @abstractmethod
    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        """Restore y, (3, h, w) in [0, 1], to (3, s*h, s*w).

        `case` holds the random seed, and the ground truth, which only oracles use: methods that are given the true
        kernel. Raises ParameterError if an oracle needs a truth that is unknown.
        """


@dataclass(frozen=True)
class Options:
    """Settings of the methods.

    Attributes:
        weights: folder of weights; None for those in the package.
        device: as torch names it; None to choose automatically.
        external: results of other programs: name of the method -> folder.
        checkpoints: additional methods: name -> folder of weights.
    """

    weights: Path | None = None
    device: str | None = None
    external: Mapping[str, Path] = field(default_factory=dict)
    checkpoints: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def pipeline(self) -> "BlindDiffPipeline":
        """The pipeline that all methods share, loaded on first use. Raises WeightsError."""
        return self.load(self.weights)

    def load(self, weights: Path | None) -> "BlindDiffPipeline":
        """Load a pipeline with the given weights. Raises WeightsError."""
        from blinddiff.restoring.engines import load_pipeline

        return load_pipeline(weights, self.device)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return the result of `work` and its wall-clock time in seconds, including pending work of an accelerator."""
    start = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


@dataclass(frozen=True)
class BicubicMethod(Method):
    """MATLAB's imresize; at scale 1 the image itself."""

    name: str = "bicubic"

    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        image, seconds = timed(lambda: bicubic_upsample(y[None], scale)[0])
        return Restoration(image, None, None, seconds, 0)


@dataclass(frozen=True)
class LanczosMethod(Method):
    """Pillow's Lanczos filter with three lobes, on 8-bit pixels."""

    name: str = "lanczos"

    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        picture = Image.fromarray(to_bytes(y))
        size = picture.width * scale, picture.height * scale
        enlarged, seconds = timed(lambda: picture.resize(size, Image.Resampling.LANCZOS))
        pixels = np.asarray(enlarged, dtype=np.float32) / 255
        return Restoration(torch.from_numpy(pixels).permute(2, 0, 1), None, None, seconds, 0)


@dataclass(frozen=True)
class ClosedFormMethod(Method):
    """Kernel and noise level from the network's estimator, then one proximal step from the bicubic image."""

    pipeline: "BlindDiffPipeline"
    name: str = "closed-form"

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.pipeline.network.estimator.parameters())

    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        def work() -> tuple[Tensor, Degradation]:
            estimate = self.pipeline.estimate(y, scale)
            return closed_form(y[None], estimate.kernel, estimate.noise_level, scale), estimate

        (image, estimate), seconds = timed(work)
        return Restoration(image[0], estimate.kernel[0], float(estimate.noise_level[0]), seconds, 0)


@dataclass(frozen=True)
class ClosedFormOracle(Method):
    """One proximal step from the bicubic image with the true kernel and noise level.

    Shows what a perfect kernel achieves without a network.
    """

    name: str = "closed-form-oracle"

    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        kernel, level = case.kernel, case.noise_level
        if kernel is None or level is None:
            raise ParameterError(f"{case.id}: {self.name} needs the true kernel and noise level, which are not known")
        noise_level = torch.tensor([level])
        image, seconds = timed(lambda: closed_form(y[None], kernel[None], noise_level, scale, case.downsampling)[0])
        return Restoration(image, None, None, seconds, 0)


@dataclass(frozen=True)
class ExternalMethod(Method):
    """Reads ``Set14/comic_3.png`` in `folder` for case Set14/comic/3, and ``comic_3_kernel.npy`` if it exists."""

    folder: Path
    name: str = "external"
    parameters = None

    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        """Read a result. Raises ImageError if the file is missing, corrupt or of another size."""
        stem = self.folder / case.id.set / case.id.stem
        found = [path for suffix in SUFFIXES if (path := Path(f"{stem}{suffix}")).is_file()]
        if not found:
            raise ImageError(f"{stem}.png: no such image")
        image = read_pixels(found[0])
        height, width = y.shape[-2] * scale, y.shape[-1] * scale
        if tuple(image.shape[-2:]) != (height, width):
            raise ImageError(f"{found[0]}: is {image.shape[-1]}x{image.shape[-2]}, not {width}x{height}")
        # skip .png: it may be a picture for people, not the kernel's values
        kernels = [Path(f"{stem}_kernel{suffix}") for suffix in KERNEL_ENDINGS if suffix != ".png"]
        kernel = next((torch.from_numpy(read_kernel(path)) for path in kernels if path.is_file()), None)
        return Restoration(image, kernel, None, float("nan"), 0)


@dataclass(frozen=True)
class PipelineMethod(Method):
    """`BlindDiffPipeline` on one image.

    Attributes:
        mode, steps, image_step, kernel_step: arguments of the pipeline; None for the default of the mode.
        true_kernel: whether to give the pipeline the true kernel; the result then has no estimated kernel.
        limit: changes the network's estimate from y, to leave something out of the degradation model.

    Raises ParameterError for a mode that the network cannot run.
    """

    pipeline: "BlindDiffPipeline"
    name: str = "fidelity"
    mode: str = "fidelity"
    steps: int | None = None
    image_step: str | None = None
    kernel_step: str | None = None
    true_kernel: bool = False
    limit: Callable[[Degradation], Degradation] | None = None

    def __post_init__(self) -> None:
        self.pipeline.check_mode(self.mode)

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.pipeline.network.parameters())

    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        kernel = case.kernel_centred_on_lr_pixel if self.true_kernel else None
        if self.true_kernel and kernel is None:
            raise ParameterError(f"{case.id}: {self.name} needs the true kernel, which is not known")
        generator = torch.Generator().manual_seed(case.seed)
        calls: list[object] = []
        pipeline = self.pipeline if self.limit is None else _limited(self.pipeline, self.limit)
        hook = pipeline.network.register_forward_hook(lambda *call: calls.append(call[0]))
        try:
            out, seconds = timed(
                lambda: pipeline(
                    y,
                    scale=scale,
                    mode=self.mode,
                    num_inference_steps=self.steps,
                    kernel=kernel,
                    image_step=self.image_step,
                    kernel_step=self.kernel_step,
                    generator=generator,
                    output_type="pt",
                )
            )
        finally:
            hook.remove()
        return Restoration(
            image=out.images[0].cpu(),
            kernel=None if self.true_kernel else out.kernels[0].cpu(),
            noise_level=float(out.noise_levels[0]) if self.pipeline.network.estimates_noise else None,
            seconds=seconds,
            calls=len(calls),
            expected_kernel_error=None if out.expected_kernel_errors is None else float(out.expected_kernel_errors[0]),
        )


def _limited(pipeline: "BlindDiffPipeline", change: Callable[[Degradation], Degradation]) -> "BlindDiffPipeline":
    """A pipeline with the same weights, which changes the network's estimate from y."""
    network = copy.copy(pipeline.network)
    network.initial_estimate = lambda observation: change(pipeline.network.initial_estimate(observation))
    return type(pipeline)(network, pipeline.scheduler)


def non_negative(degradation: Degradation) -> Degradation:
    """Without the negative entries of the kernel: a model that knows blur, but no sharpening."""
    kernel = degradation.kernel.clamp_min(0)
    return replace(degradation, kernel=kernel / kernel.sum((-2, -1), keepdim=True))


def white(degradation: Degradation) -> Degradation:
    """With white noise of the same level."""
    return replace(degradation, noise_spectrum=None)


class Entry(NamedTuple):
    """A method in `METHODS`: a phrase for the help, how it is made, and whether it depends on `Options.weights`."""

    summary: str
    make: Callable[[Options], Method]
    trained: bool = True


def _pipeline(summary: str, **options: Any) -> Entry:
    return Entry(summary, lambda o: PipelineMethod(o.pipeline, **options))


def _external(name: str, options: Options) -> Method:
    folder = options.external.get(name)
    if folder is None:
        raise ParameterError(f"method '{name}' needs --external FOLDER, the folder of results")
    if not os.path.isdir(folder):
        raise ParameterError(f"{folder}: no such folder of results")
    return ExternalMethod(folder, name)


EXTERNAL = "external"  # a folder of results without a name of its own
METHODS: dict[str, Entry] = {
    "bicubic": Entry("MATLAB's bicubic interpolation", lambda _: BicubicMethod(), trained=False),
    "lanczos": Entry("Pillow's Lanczos interpolation", lambda _: LanczosMethod(), trained=False),
    "closed-form": Entry(
        "estimated kernel and one proximal step, no image network", lambda o: ClosedFormMethod(o.pipeline)
    ),
    "closed-form-oracle": Entry(
        "closed-form with the true kernel and noise level", lambda _: ClosedFormOracle(), trained=False
    ),
    "fidelity": _pipeline("this package in its default mode: smallest mean square error"),
    "fast": _pipeline("this package in one call of the network", mode="fast"),
    "perceptual": _pipeline("this package, a sample of the posterior", mode="perceptual"),
    "paper": _pipeline("the published sampler, with --weights of a published network", mode="paper"),
    "paper-gradient": _pipeline("paper, guided by the squared norm", mode="paper", image_step="gradient"),
    "paper-proximal": _pipeline("paper, with the proximal step for guidance", mode="paper", image_step="proximal"),
    "paper-kernel-once": _pipeline("paper, keeping the kernel of its first step", mode="paper", kernel_step="first"),
    "oracle": _pipeline("fidelity, given the true kernel", true_kernel=True),
    "kernel-once": _pipeline("fidelity, the kernel estimated once, from y alone", kernel_step="first"),
    "kernel-undamped": _pipeline(
        "fidelity, taking over the network's new kernel fully (no damping)", kernel_step="network"
    ),
    "kernel-refined": _pipeline("fidelity, with least squares for the kernel", kernel_step="refine"),
    "kernel-alternate": _pipeline(
        "fidelity, with the kernel of a camera shake where it is clear", kernel_step="alternate"
    ),
    "no-image-step": _pipeline("fidelity, without the data term after the network", image_step="none"),
    "gradient": _pipeline("fidelity, with the gradient instead of the proximal step", image_step="gradient"),
    "without-sign": _pipeline("fidelity, with kernels without negative entries", limit=non_negative),
    "without-spectrum": _pipeline("fidelity, with white noise of the estimated level", limit=white),
    "without-both": _pipeline(
        "fidelity, with kernels without negative entries and white noise", limit=lambda d: white(non_negative(d))
    ),
    "perceptual-kernel-once": _pipeline("kernel-once in mode perceptual", mode="perceptual", kernel_step="first"),
    "perceptual-no-image-step": _pipeline("no-image-step in mode perceptual", mode="perceptual", image_step="none"),
    "perceptual-gradient": _pipeline("gradient in mode perceptual", mode="perceptual", image_step="gradient"),
    EXTERNAL: Entry("a folder of results of another program", partial(_external, EXTERNAL)),
}
"""Methods by name. Those that use this package's pipeline also exist as ``NAME@STEPS``."""


def method(name: str, options: Options) -> Method:
    """The named method; ``NAME@STEPS`` sets the number of steps. Raises ParameterError for an unknown name."""
    base, at, steps = name.partition("@")
    if base in options.checkpoints:
        pipeline = options.load(options.checkpoints[base])
        made: Method = PipelineMethod(pipeline, mode=pipeline.network.default_mode)
    elif base in options.external:
        made = _external(base, options)
    elif base in METHODS:
        made = METHODS[base].make(options)
    else:
        known = ", ".join([*METHODS, *options.checkpoints, *options.external])
        raise ParameterError(f"method '{base}' is unknown; choose one of {known}")
    if not isinstance(made, PipelineMethod):
        if at:
            raise ParameterError(f"method '{name}': {base} has no steps")
        return made
    if at and not (steps.isdecimal() and 1 <= int(steps) <= NUM_TRAIN_TIMESTEPS):
        raise ParameterError(f"method '{name}': the number after @ must be between 1 and {NUM_TRAIN_TIMESTEPS}")
    return replace(made, name=name, steps=int(steps) if at else None)


def weights_checksum(folder: Path | None) -> str | None:
    """One SHA-256 of the configuration and tensor files in `folder`, or in the included weights if it is None.

    Returns None if there are no such files.
    """
    # imported here, because diffusers would otherwise count as memory of methods without a network
    from blinddiff.files import DEFAULT_WEIGHTS

    files = [path for pattern in ("*.safetensors", "*.json") for path in (folder or DEFAULT_WEIGHTS).rglob(pattern)]
    return files_hash(files) if files else None


def fingerprint_of(name: str, options: Options) -> str | None:
    """A checksum of the method's weights, empty if it has none: results stored with another checksum are not used.

    None for results of other programs: their files may have changed, therefore they are read again in every run.
    """
    base = name.partition("@")[0]
    if base == EXTERNAL or base in options.external:
        return None
    if base not in options.checkpoints and not METHODS[base].trained:
        return ""
    folder = options.checkpoints.get(base, options.weights)
    return weights_checksum(folder) or str(folder)
