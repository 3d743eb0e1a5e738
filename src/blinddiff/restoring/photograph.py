"""Restores one photograph according to `RestoreSettings`. Used by the command line, the web page and the demo."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff import __version__
from blinddiff.degradation import bicubic_upsample
from blinddiff.degradation.kernel_measures import widths_and_angle
from blinddiff.degradation.noise import check_noise_level
from blinddiff.errors import ImageError, KernelError, WeightsError
from blinddiff.files import file_hash
from blinddiff.imaging import MAX_PIXELS, Photograph, visible_colours
from blinddiff.imaging.write import written_bit_depth
from blinddiff.models.loading import DEFAULT_WEIGHTS
from blinddiff.sampling.memory import is_lack_of_memory
from blinddiff.sampling.pipeline import MODES, BlindDiffPipeline


def load_pipeline(weights: str | Path | None = None, device: str | None = None) -> BlindDiffPipeline:
    """Load a pipeline as `BlindDiffPipeline.from_pretrained` does, without its progress bar: callers show their own."""
    pipeline = BlindDiffPipeline.from_pretrained(weights, device)
    pipeline.set_progress_bar_config(disable=True)  # type: ignore[no-untyped-call]
    return pipeline


@dataclass(frozen=True)
class RestoreSettings:
    """How to restore a photograph. Small and picklable, because it is sent to worker processes.

    Attributes:
        weights: folder of weights, or a repository of the Hugging Face hub; None for the included weights.
        device: as for `BlindDiffPipeline.from_pretrained`.
        scale: 1, 2, 3 or 4.
        mode: a key of `MODES`: ``"fidelity"``, ``"fast"``, ``"perceptual"`` or ``"paper"``.
        steps: number of steps of the reverse diffusion, 1 to 1000; None for the mode's default.
        samples: number of restorations with different noise; the result is their mean.
        seed: seed of the noise. It is the same for every photograph of a run, so that no result depends on the others.
        kernel: file of the blur kernel, if it is known.
        noise_level: standard deviation of the noise in grey levels, 0 to 255, if it is known.
        max_pixels: maximum number of pixels of the input; protects against decompression bombs.
        max_memory: limit in bytes for all parallel restorations together; None for half of the free memory.

    Raises ParameterError if the noise level is not between 0 and 255.
    """

    weights: str | None = None
    device: str | None = None
    scale: int = 4
    mode: str = "fidelity"
    steps: int | None = None
    samples: int = 1
    seed: int = 0
    kernel: Path | None = None
    noise_level: float | None = None
    max_pixels: int = MAX_PIXELS
    max_memory: int | None = None

    def __post_init__(self) -> None:
        if self.noise_level is not None:
            check_noise_level(self.noise_level)

    @property
    def number_of_steps(self) -> int:
        """`steps`, or the mode's default."""
        return MODES[self.mode].num_inference_steps if self.steps is None else self.steps

    def fingerprint(self) -> str:
        """SHA-256 of everything that changes a result: settings, contents of weights and kernel, package version.

        The device and the limits are excluded: they change a result very little, by rounding or tiles. Raises
        WeightsError or KernelError if weights or kernel cannot be read.
        """
        facts = asdict(self)
        del facts["device"], facts["max_pixels"], facts["max_memory"]
        if self.samples == 1:
            del facts["samples"]  # left out, so that ledgers from before this setting stay valid
        try:
            facts["kernel"] = None if self.kernel is None else file_hash(self.kernel)
        except OSError as error:
            raise KernelError(f"{self.kernel}: cannot be read: {error.strerror}") from error
        facts["weights"] = _weights_hash(DEFAULT_WEIGHTS if self.weights is None else self.weights)
        facts["version"] = __version__
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _weights_hash(weights: str | Path) -> str:
    """The SHA-256 of the files in a folder of weights; for a repository on the hub, its name."""
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
class Result:
    """One restored photograph; write it with ``write_image(path, result.pixels, result.photograph, result.alpha)``.

    Attributes:
        pixels: (3, H, W) in [0, 1]; the mean of the samples.
        alpha: transparency, (1, H, W) in [0, 1]; None if the photograph has none.
        kernel: (n, m), in pixels of the result; sums to 1.
        noise_level: standard deviation of the noise in grey levels.
        expected_kernel_error: expected sum |k_hat - k|, 0 to 2, see `BlindDiffOutput`; None if the kernel was given.
        residual: input minus degraded result, (3, h, w), in grey levels.
        consistency: RMS of the residual divided by the RMS expected from noise and rounding; near 1 if the result is
            consistent with the input.
        std: standard deviation over the samples, (3, H, W) in [0, 1]; None for one sample.
        seconds: duration of the restoration.
    """

    photograph: Photograph
    settings: RestoreSettings
    pixels: Tensor
    alpha: Tensor | None
    kernel: Tensor
    noise_level: float
    expected_kernel_error: float | None
    residual: Tensor
    consistency: float
    std: Tensor | None
    seconds: float

    @property
    def residual_rms(self) -> float:
        """Root mean square of the residual, in grey levels."""
        return float(self.residual.square().mean().sqrt())

    @property
    def uncertainty(self) -> float | None:
        """Root mean square of `std`, in grey levels; None for one sample."""
        return None if self.std is None else 255 * float(self.std.square().mean().sqrt())

    def facts(self, output: PurePath) -> dict[str, Any]:
        """The result's measurements as JSON-compatible values, for ``--json`` and the ledger.

        ``width``, ``height`` and ``written_bit_depth`` describe the result; the extension of ``output`` determines the
        bit depth. ``mode`` (Pillow's pixel format, such as "RGB") and ``bit_depth`` describe the photograph.
        ``kernel_widths`` are the standard deviations along the kernel's principal axes in pixels of the result, the
        larger first. ``kernel_angle`` is the direction of the longer axis, in degrees clockwise from the horizontal.
        ``notes`` are those of the `Photograph`. The other keys are attributes of `Result`.
        """
        major, minor, angle = (float(value) for value in widths_and_angle(self.kernel))
        height, width = self.pixels.shape[-2:]
        return {
            "width": width,
            "height": height,
            "mode": self.photograph.mode,
            "bit_depth": self.photograph.bit_depth,
            "written_bit_depth": written_bit_depth(output, self.photograph),
            "kernel": [[float(f"{value:.5g}") for value in row] for row in self.kernel.tolist()],
            "kernel_widths": [major, minor],
            "kernel_angle": angle,
            "noise_level": self.noise_level,
            "residual_rms": self.residual_rms,
            "consistency": self.consistency,
            "expected_kernel_error": self.expected_kernel_error,
            "seconds": self.seconds,
            "notes": list(self.photograph.notes),
        }


def restore_photograph(
    pipeline: BlindDiffPipeline,
    photograph: Photograph,
    settings: RestoreSettings,
    kernel: Tensor | None = None,
    on_step: Callable[[int, Tensor], object] = lambda *_: None,
) -> Result:
    """Restore a photograph. Colours hidden by its transparency do not affect the visible ones.

    Args:
        pipeline: loaded with ``settings.weights``.
        settings: its kernel is used only in error messages; weights, device and max_pixels are not used.
        kernel: the known blur kernel, (n, m), in pixels of the result; the caller reads it from ``settings.kernel``.
        on_step: called after each step with the number of finished steps and the current estimate x0_hat,
            (samples, 3, H, W). An exception raised by it stops the restoration.

    Raises ImageError if the photograph is too small, or does not fit into memory even in the smallest tiles;
    KernelError if the kernel is larger than the result; ParameterError if a setting is outside its range.
    """
    started = time.perf_counter()
    pixels = visible_colours(photograph)

    def after_step(index: int, _t: int, _x_t: Tensor, x0_hat: Tensor, _k_t: Tensor) -> None:
        on_step(index + 1, x0_hat)

    try:
        out = pipeline(
            pixels,
            scale=settings.scale,
            mode=settings.mode,
            num_inference_steps=settings.steps,
            num_samples=settings.samples,
            kernel=kernel,
            noise_level=settings.noise_level,
            generator=torch.Generator().manual_seed(settings.seed),
            output_type="pt",
            max_memory=settings.max_memory,
            jpeg_step=photograph.jpeg_step,
            on_step=after_step,
        )
    except KernelError as error:
        if settings.kernel is None:
            raise
        raise KernelError(f"{settings.kernel}: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        height, width = pixels.shape[-2:]
        raise ImageError(f"{width} x {height} pixels at scale {settings.scale} do not fit into memory") from error
    return Result(
        photograph=photograph,
        settings=settings,
        pixels=out.images[0],
        alpha=None if photograph.alpha is None else enlarge_alpha(photograph.alpha, settings.scale),
        kernel=out.kernels[0],
        noise_level=float(out.noise_levels[0]),
        expected_kernel_error=None if out.expected_kernel_errors is None else float(out.expected_kernel_errors[0]),
        residual=out.residuals[0],
        consistency=float(out.consistency[0]),
        std=None if out.std is None else out.std[0],
        seconds=time.perf_counter() - started,
    )


def enlarge_alpha(alpha: Tensor, scale: int) -> Tensor:
    """Enlarge transparency, (1, h, w), by bicubic interpolation, clamped to the range of the surrounding 3 x 3 pixels.

    Bicubic interpolation alone overshoots at edges, which is visible as a faint outline.
    """
    if scale == 1:
        return alpha
    maximum, minimum = (sign * F.max_pool2d(sign * alpha, 3, stride=1, padding=1) for sign in (1, -1))
    high, low = (bound.repeat_interleave(scale, -2).repeat_interleave(scale, -1) for bound in (maximum, minimum))
    return bicubic_upsample(alpha, scale).clamp(low, high)


@dataclass(frozen=True)
class Record:
    """The outcome for one file. For a folder, ``input`` and ``output`` are relative to the input and output folder.

    A skipped file was restored by an earlier run. A failed file has a reason (error), but no output and no facts.
    """

    input: str
    output: str | None
    status: Literal["done", "skipped", "failed"]
    error: str | None = None
    facts: dict[str, Any] | None = None

    def line(self) -> str:
        """The record as one line of JSON."""
        record = {"input": self.input, "output": self.output, "status": self.status}
        if self.error is not None:
            record["error"] = self.error
        return json.dumps({**record, **(self.facts or {})})
