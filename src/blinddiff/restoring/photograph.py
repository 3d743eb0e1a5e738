"""What a restoration of files is asked to be."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff import __version__
from blinddiff.degradation import bicubic_upsample
from blinddiff.degradation.kernel_measures import widths_and_angle
from blinddiff.degradation.noise import check_noise_level
from blinddiff.errors import ImageError, KernelError, WeightsError
from blinddiff.imaging import MAX_PIXELS, Photograph, visible_colours
from blinddiff.models.loading import DEFAULT_WEIGHTS
from blinddiff.sampling.memory import is_lack_of_memory

if TYPE_CHECKING:
    from blinddiff.sampling.output import BlindDiffOutput
    from blinddiff.sampling.pipeline import BlindDiffPipeline


@dataclass(frozen=True)
class UpscaleSettings:
    """The same for every file of a run; small and plain, for it goes to the processes that do the work.

    Attributes:
        weights: folder or hub repository; None for the weights in the package.
        device: as for `BlindDiffPipeline.from_pretrained`.
        scale: 1, 2, 3 or 4.
        mode: a name of `MODES`: ``"fidelity"``, ``"fast"``, ``"perceptual"`` or ``"paper"``.
        steps: of the reverse diffusion; the mode's own where None.
        seed: of the noise, the same for every file: a file's result does not depend on its neighbours.
        kernel: file of the blur kernel, where it is known.
        noise_level: in grey levels, where it is known.
        max_pixels: limit of an input image, against decompression bombs.
        max_memory: bytes that the restorations may take together, see `BlindDiffPipeline`; None: half of what is free.

    Raises:
        ParameterError: the noise level is not between 0 and 255.
    """

    weights: str | None = None
    device: str | None = None
    scale: int = 4
    mode: str = "fidelity"
    steps: int | None = None
    seed: int = 0
    kernel: Path | None = None
    noise_level: float | None = None
    max_pixels: int = MAX_PIXELS
    max_memory: int | None = None

    def __post_init__(self) -> None:
        """Refuse now what would fail for every file."""
        if self.noise_level is not None:
            check_noise_level(self.noise_level)

    def fingerprint(self) -> str:
        """Return a hash that changes with everything that changes results: settings, weights, kernel, version.

        Raises:
            WeightsError: the folder of weights cannot be read.
            KernelError: the kernel cannot be read.
        """
        facts = asdict(self)
        # The same image but for rounding; none, or the same; the same but for what tiles change, which is not seen.
        del facts["device"], facts["max_pixels"], facts["max_memory"]
        facts["kernel"] = None if self.kernel is None else _kernel_hash(self.kernel)
        facts["weights"] = _weights_hash(DEFAULT_WEIGHTS if self.weights is None else self.weights)
        facts["version"] = __version__
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _kernel_hash(kernel: Path) -> str:
    try:
        return hashlib.sha256(kernel.read_bytes()).hexdigest()
    except OSError as error:
        raise KernelError(f"{kernel}: cannot be read: {error.strerror}") from error


def _weights_hash(weights: str | Path) -> str:
    """Hash of a folder's files; of the name of a repository on the hub."""
    digest = hashlib.sha256()
    folder = Path(weights)
    try:
        if not folder.is_dir():
            return str(weights)
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".json", ".safetensors"):
                digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    except OSError as error:
        raise WeightsError(f"{weights}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Upscaled:
    """A restored photograph, to be written with `write_image(..., like=photograph)`.

    Attributes:
        pixels: (3, H, W) in [0, 1].
        alpha: (1, H, W) in [0, 1], or None.
        kernel: (n, m), in pixels of the result.
        noise_level: in grey levels.
        residual_rms: of the input minus what the result explains of it, in grey levels.
        consistency: the same over the noise level and rounding; near 1 is right.
        expected_kernel_error: see `BlindDiffOutput`; None where the kernel was given.
        seconds: that it took.
    """

    pixels: Tensor
    alpha: Tensor | None
    kernel: Tensor
    noise_level: float
    residual_rms: float
    consistency: float
    expected_kernel_error: float | None
    seconds: float


def upscale_photograph(
    pipeline: "BlindDiffPipeline",
    photograph: Photograph,
    settings: UpscaleSettings,
    kernel: Tensor | None = None,
    on_step: Callable[[], object] | None = None,
) -> Upscaled:
    """Restore a photograph; colours under its transparency do not show in what is visible.

    Args:
        pipeline: holds the weights that the settings name.
        photograph: as read.
        settings: scale, mode, steps, seed, noise level, memory.
        kernel: the contents of the settings' kernel file.
        on_step: called after each step.

    Raises:
        ImageError: the photograph is too small, or does not fit the memory even in the smallest tiles.
        KernelError: the kernel does not fit the photograph.
        ParameterError: a setting outside its range.
    """
    started = time.perf_counter()
    pixels = visible_colours(photograph)
    try:
        out = pipeline(
            pixels,
            scale=settings.scale,
            mode=settings.mode,
            num_inference_steps=settings.steps,
            kernel=kernel,
            noise_level=settings.noise_level,
            generator=torch.Generator().manual_seed(settings.seed),
            output_type="pt",
            max_memory=settings.max_memory,
            on_step=None if on_step is None else lambda *_: (on_step(), None)[1],
        )
    except KernelError as error:
        raise KernelError(f"{settings.kernel}: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        height, width = pixels.shape[-2:]
        raise ImageError(f"{width} x {height} pixels times {settings.scale} do not fit the memory") from error
    return upscaled_of(out, photograph.alpha, settings.scale, started)


def upscaled_of(out: "BlindDiffOutput", alpha: Tensor | None, scale: int, started: float) -> Upscaled:
    """The one photograph that the pipeline restored, as tensors, with its transparency.

    Args:
        out: of one image, made with ``output_type="pt"``.
        alpha: (1, h, w), as read; None where there is none.
        scale: of the restoration.
        started: when it began, by `time.perf_counter`.
    """
    return Upscaled(
        pixels=out.images[0],
        alpha=None if alpha is None else upscale_alpha(alpha, scale),
        kernel=out.kernels[0],
        noise_level=float(out.noise_levels[0]),
        residual_rms=float(out.residuals[0].square().mean().sqrt()),
        consistency=float(out.consistency[0]),
        expected_kernel_error=None if out.expected_kernel_errors is None else float(out.expected_kernel_errors[0]),
        seconds=time.perf_counter() - started,
    )


def upscale_alpha(alpha: Tensor, scale: int) -> Tensor:
    """Enlarge transparency (1, h, w): bicubic, kept between the least and the most of the 3 x 3 pixels around.

    So a clean edge stays one: bicubic alone overshoots beside it, and draws a faint outline.
    """
    if scale == 1:
        return alpha
    most, least = (sign * F.max_pool2d(sign * alpha, 3, stride=1, padding=1) for sign in (1, -1))
    high, low = (bound.repeat_interleave(scale, -2).repeat_interleave(scale, -1) for bound in (most, least))
    return bicubic_upsample(alpha, scale).clamp(low, high)


@dataclass(frozen=True)
class Facts:
    """What was found in one photograph.

    Attributes:
        width, height: of the result.
        mode, bit_depth: of the input, see `Photograph`.
        written_bit_depth: of the result.
        kernel: rows of the blur kernel, in pixels of the result; they sum to 1.
        kernel_widths: standard deviations along its axes, the larger first.
        kernel_angle: of the larger, in degrees.
        noise_level: in grey levels.
        residual_rms: in grey levels, see `Upscaled`.
        consistency: see `Upscaled`.
        expected_kernel_error: see `Upscaled`.
        seconds: that the restoration took.
    """

    width: int
    height: int
    mode: str
    bit_depth: int
    written_bit_depth: int
    kernel: list[list[float]]
    kernel_widths: list[float]
    kernel_angle: float
    noise_level: float
    residual_rms: float
    consistency: float
    expected_kernel_error: float | None
    seconds: float


@dataclass(frozen=True)
class Done:
    """A result that is on the disk: hashes of the file it was made from and of its own, and `Facts`."""

    input_sha256: str
    output_sha256: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class Record:
    """The record of one file.

    Attributes:
        input, output: paths; below their folders where there are folders. No output where the file failed.
        status: "done"; "skipped", where it had been done before; "failed".
        error: why it failed.
        facts: where it was done, now or before.
    """

    input: str
    output: str | None
    status: Literal["done", "skipped", "failed"]
    error: str | None = None
    facts: dict[str, Any] | None = None

    def line(self) -> str:
        """The record as one line of JSON."""
        return json.dumps(
            {
                "input": self.input,
                "output": self.output,
                "status": self.status,
                **({} if self.error is None else {"error": self.error}),
                **(self.facts or {}),
            }
        )


def facts_of(photograph: Photograph, upscaled: Upscaled, written_bit_depth: int) -> dict[str, Any]:
    """Return `Facts` as a dictionary."""
    major, minor, angle = (float(value) for value in widths_and_angle(upscaled.kernel))
    height, width = upscaled.pixels.shape[-2:]
    return asdict(
        Facts(
            width=width,
            height=height,
            mode=photograph.mode,
            bit_depth=photograph.bit_depth,
            written_bit_depth=written_bit_depth,
            kernel=[[float(f"{value:.5g}") for value in row] for row in upscaled.kernel.tolist()],
            kernel_widths=[major, minor],
            kernel_angle=angle,
            noise_level=upscaled.noise_level,
            residual_rms=upscaled.residual_rms,
            consistency=upscaled.consistency,
            expected_kernel_error=upscaled.expected_kernel_error,
            seconds=upscaled.seconds,
        )
    )
