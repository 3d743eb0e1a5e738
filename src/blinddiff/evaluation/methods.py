"""The methods of `blinddiff evaluate`. A new one is a class and a line in `METHODS`."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from blinddiff.degradation.kernel_files import KERNEL_ENDINGS, read_kernel
from blinddiff.degradation.observation import closed_form
from blinddiff.degradation.resize import bicubic_upsample
from blinddiff.errors import ImageError, ParameterError
from blinddiff.evaluation.data import SUFFIXES, Case, Restoration, read_pixels, to_bytes
from blinddiff.files import files_hash
from blinddiff.models.denoiser import NUM_TRAIN_TIMESTEPS

if TYPE_CHECKING:
    from blinddiff.sampling.pipeline import BlindDiffPipeline

T = TypeVar("T")


class Method(Protocol):
    """Restores images."""

    @property
    def name(self) -> str:
        """As on the command line and in tables."""
        ...

    @property
    def parameters(self) -> int | None:
        """Number of trained parameters at work, 0 without a network, None if not known."""
        ...

    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        """Restore y, (3, h, w) in [0, 1], to (3, s*h, s*w).

        `case` gives what a method may use beside y: its seed, and for an oracle the truth. Raises ParameterError if the
        truth is needed and not known.
        """
        ...


@dataclass(frozen=True)
class Options:
    """What methods are made from.

    Attributes:
        weights: folder of weights, None for those in the package.
        device: as torch names it, None to choose.
        external: folder of another program's results.
        checkpoints: further methods: name -> folder of weights.
    """

    weights: Path | None = None
    device: str | None = None
    external: Path | None = None
    checkpoints: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def pipeline(self) -> "BlindDiffPipeline":
        """The pipeline that all methods share, loaded on first use. Raises WeightsError."""
        return self.load(self.weights)

    def load(self, weights: Path | None) -> "BlindDiffPipeline":
        """A pipeline with other weights on the same device. Raises WeightsError."""
        from blinddiff.sampling.pipeline import BlindDiffPipeline

        return BlindDiffPipeline.from_pretrained(weights, self.device)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What the call returns, and its wall-clock seconds; waits for an accelerator to finish."""
    start = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


def count_parameters(network: nn.Module) -> int:
    """Number of parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


@dataclass(frozen=True)
class BicubicMethod:
    """MATLAB's imresize; at scale 1 the image itself."""

    name: str = "bicubic"
    parameters: int = 0

    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        """Interpolate."""
        image, seconds = timed(lambda: bicubic_upsample(y[None], scale)[0])
        return Restoration(image, None, None, seconds, 0)


@dataclass(frozen=True)
class LanczosMethod:
    """Pillow's Lanczos filter of three lobes, on 8-bit pixels."""

    name: str = "lanczos"
    parameters: int = 0

    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        """Interpolate."""
        picture = Image.fromarray(to_bytes(y))
        size = picture.width * scale, picture.height * scale
        enlarged, seconds = timed(lambda: picture.resize(size, Image.Resampling.LANCZOS))
        pixels = np.asarray(enlarged, dtype=np.float32) / 255
        return Restoration(torch.from_numpy(pixels).permute(2, 0, 1), None, None, seconds, 0)


@dataclass(frozen=True)
class ClosedFormMethod:
    """Kernel and noise level estimated from y by the network's estimator, then one proximal step from bicubic."""

    pipeline: "BlindDiffPipeline"
    name: str = "closed-form"

    @property
    def parameters(self) -> int:
        """Parameters of the estimator."""
        return count_parameters(self.pipeline.network.estimator)

    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        """Estimate and solve."""

        def work() -> tuple[Tensor, Tensor, Tensor]:
            estimate = self.pipeline.estimate(y, scale)
            image = closed_form(y[None], estimate.kernel, estimate.noise_level, scale)
            return image[0], estimate.kernel[0], estimate.noise_level[0]

        (image, kernel, noise_level), seconds = timed(work)
        return Restoration(image, kernel, float(noise_level), seconds, 0)


@dataclass(frozen=True)
class ClosedFormOracle:
    """The same step with the true degradation and noise level: the effect of a perfect kernel without a network."""

    name: str = "closed-form-oracle"
    parameters: int = 0

    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        """Solve. Raises ParameterError if the truth is not known."""
        kernel, level = case.kernel, case.noise_level
        if kernel is None or level is None:
            raise ParameterError(f"{case.id}: {self.name} needs the true kernel and noise level, which are not known")
        noise_level = torch.tensor([level])
        image, seconds = timed(lambda: closed_form(y[None], kernel[None], noise_level, scale, case.downsampling)[0])
        return Restoration(image, None, None, seconds, 0)


@dataclass(frozen=True)
class ExternalMethod:
    """Reads ``FOLDER/Set14/comic_3.png`` for case Set14/comic/3, and ``comic_3_kernel.npy`` beside it if it exists.

    These are the names that ``--export`` gives to the LR images.
    """

    folder: Path
    parameters: None = None

    @property
    def name(self) -> str:
        """Name of the folder."""
        return f"external:{self.folder.name}"

    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        """Read a result. Raises ImageError naming the file if it is missing, corrupt or of another size."""
        stem = self.folder / case.id.set / case.id.stem
        found = [path for suffix in SUFFIXES if (path := Path(f"{stem}{suffix}")).is_file()]
        if not found:
            raise ImageError(f"{stem}.png: no such image")
        image = read_pixels(found[0])
        height, width = y.shape[-2] * scale, y.shape[-1] * scale
        if tuple(image.shape[-2:]) != (height, width):
            raise ImageError(f"{found[0]}: is {image.shape[-1]}x{image.shape[-2]}, not {width}x{height}")
        # a .png of this name may be a picture for people
        kernels = [Path(f"{stem}_kernel{suffix}") for suffix in KERNEL_ENDINGS if suffix != ".png"]
        kernel = next((read_kernel(path) for path in kernels if path.is_file()), None)
        return Restoration(image, kernel, None, float("nan"), 0)


@dataclass(frozen=True)
class PipelineMethod:
    """`BlindDiffPipeline` on one image.

    Attributes:
        mode, steps, image_step, kernel_step: as the pipeline takes them; None for the mode's own value.
        true_kernel: give the pipeline the true kernel; the result then holds no estimate of it.
    """

    name: str
    pipeline: "BlindDiffPipeline"
    mode: str = "fidelity"
    steps: int | None = None
    image_step: str | None = None
    kernel_step: str | None = None
    true_kernel: bool = False

    @property
    def parameters(self) -> int:
        """Parameters of the whole network."""
        return count_parameters(self.pipeline.network)

    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        """Run the pipeline. Raises ParameterError if the true kernel is needed and not known."""
        kernel = case.kernel_at_pixel_centre if self.true_kernel else None
        if self.true_kernel and kernel is None:
            raise ParameterError(f"{case.id}: {self.name} needs the true kernel, which is not known")
        generator = torch.Generator().manual_seed(case.seed)
        calls: list[object] = []
        hook = self.pipeline.network.register_forward_hook(lambda *call: calls.append(call[0]))
        try:
            out, seconds = timed(
                lambda: self.pipeline(
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


def checkpoint(name: str, pipeline: "BlindDiffPipeline") -> PipelineMethod:
    """Other weights, in the mode that fits their network."""
    return PipelineMethod(name, pipeline, mode=pipeline.network.default_mode)


@dataclass(frozen=True)
class Entry:
    """A method in the list.

    Attributes:
        summary: one phrase for the help and the reports.
        make: from the options.
        trained: whether its results depend on `Options.weights`.
    """

    summary: str
    make: Callable[[Options], Method]
    trained: bool = True


def _pipeline(name: str, summary: str, **options: Any) -> tuple[str, Entry]:
    return name, Entry(summary, lambda o: PipelineMethod(name, o.pipeline, **options))


def _external(options: Options) -> Method:
    if options.external is None:
        raise ParameterError("method 'external' needs --external FOLDER, the folder of results")
    if not os.path.isdir(options.external):
        raise ParameterError(f"{options.external}: no such folder of results")
    return ExternalMethod(options.external)


METHODS: dict[str, Entry] = {
    "bicubic": Entry("MATLAB's bicubic interpolation", lambda _: BicubicMethod(), trained=False),
    "lanczos": Entry("Pillow's Lanczos interpolation", lambda _: LanczosMethod(), trained=False),
    "closed-form": Entry(
        "estimated kernel and one proximal step, no image network", lambda o: ClosedFormMethod(o.pipeline)
    ),
    "closed-form-oracle": Entry(
        "the same step with the true kernel and noise level", lambda _: ClosedFormOracle(), trained=False
    ),
    **dict(
        [
            _pipeline("fidelity", "this package in its default mode: smallest mean square error"),
            _pipeline("fast", "this package in one call of the network", mode="fast"),
            _pipeline("perceptual", "this package, a sample of the posterior", mode="perceptual"),
            _pipeline("paper", "the published sampler with these weights", mode="paper"),
            _pipeline("oracle", "fidelity, given the true kernel", true_kernel=True),
            _pipeline("kernel-once", "fidelity, the kernel estimated once, from y alone", kernel_step="first"),
            _pipeline("kernel-undamped", "fidelity, the network's whole step for the kernel", kernel_step="network"),
            _pipeline("kernel-refined", "fidelity, with least squares for the kernel", kernel_step="refine"),
            _pipeline("no-image-step", "fidelity, without the data term after the network", image_step="none"),
            _pipeline("gradient", "fidelity, with the gradient for the proximal step", image_step="gradient"),
            _pipeline("perceptual-kernel-once", "the same of perceptual", mode="perceptual", kernel_step="first"),
            _pipeline("perceptual-no-image-step", "the same of perceptual", mode="perceptual", image_step="none"),
            _pipeline("perceptual-gradient", "the same of perceptual", mode="perceptual", image_step="gradient"),
        ]
    ),
    "external": Entry("a folder of results of another program", _external),
}
"""Methods by name. Those of this package's pipeline also exist as ``NAME@STEPS``."""


def method(name: str, options: Options) -> Method:
    """The named method; ``NAME@STEPS`` for another number of steps. Raises ParameterError for an unknown name."""
    base, at, steps = name.partition("@")
    if base in options.checkpoints:
        made: Method = checkpoint(base, options.load(options.checkpoints[base]))
    elif base in METHODS:
        made = METHODS[base].make(options)
    else:
        known = ", ".join([*METHODS, *options.checkpoints])
        raise ParameterError(f"method '{base}': one of {known} is accepted")
    if not at:
        return made
    if not isinstance(made, PipelineMethod):
        raise ParameterError(f"method '{name}': {base} has no steps")
    if not (steps.isdecimal() and 1 <= int(steps) <= NUM_TRAIN_TIMESTEPS):
        raise ParameterError(f"method '{name}': after @, 1 to {NUM_TRAIN_TIMESTEPS} steps are accepted")
    return replace(made, name=name, steps=int(steps))


def weights_checksum(folder: Path | None) -> str | None:
    """One SHA-256 of the configuration and tensors in a folder of weights, or the package's; None if there are none."""
    # not above: it brings diffusers, which would count as memory of methods without a network
    from blinddiff.models.loading import DEFAULT_WEIGHTS

    files = [path for pattern in ("*.safetensors", "*.json") for path in (folder or DEFAULT_WEIGHTS).rglob(pattern)]
    return files_hash(files) if files else None


def fingerprint_of(name: str, options: Options) -> str | None:
    """What a method's stored results depend on: a checksum of its weights, empty if it has none.

    None for `external`, whose files may have changed since: they are read again in every run.
    """
    base = name.partition("@")[0]
    if base == "external":
        return None
    if base in options.checkpoints:
        return weights_checksum(options.checkpoints[base]) or str(options.checkpoints[base])
    return (weights_checksum(options.weights) or str(options.weights)) if METHODS[base].trained else ""
