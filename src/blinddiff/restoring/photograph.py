"""Restores one photograph according to `RestoreSettings`. Used by the command line, the web page and the demo."""

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blinddiff import __version__
from blinddiff.degradation.kernel_measures import widths_and_angle
from blinddiff.degradation.model import SCALES, check_noise_level
from blinddiff.degradation.sharpness import Sharpness, noise_in_words, sharpness_of
from blinddiff.errors import ImageError, KernelError, ParameterError, WeightsError, is_lack_of_memory
from blinddiff.files import DEFAULT_WEIGHTS, FilePath, file_hash
from blinddiff.imaging import (
    MAX_PIXELS,
    Photograph,
    left_out,
    read_image,
    reduce_image,
    resample,
    to_picture,
    visible_colours,
    write_image,
)
from blinddiff.imaging.mask import Mask
from blinddiff.imaging.photograph import Planes, enlarge_in_range
from blinddiff.imaging.write import DPI_RULES, written_bit_depth
from blinddiff.restoring.engines import engine_for
from blinddiff.sampling.arguments import short_repr
from blinddiff.sampling.decision import Decision, check_size
from blinddiff.sampling.engine import Engine
from blinddiff.sampling.modes import MODES

MAX_FACTOR = 8
"""Largest enlargement; above 4, the photograph is restored twice."""


def read_restorable(
    source: Path | bytes, max_pixels: int = MAX_PIXELS, name: str | None = None, page: int | None = None
) -> Photograph:
    """`read_image`, then a check that the image is large enough.

    Raises ImageError, with the file's name (or ``name`` if given), if it cannot be read or is too small.
    """
    photograph = read_image(source, max_pixels, name, page)
    try:
        check_size(*photograph.pixels.shape[-2:])
    except ImageError as error:
        raise ImageError(f"{name or photograph.path}: {error}") from error
    return photograph


_SIZES = ("width", "height", "longest", "megapixels")


@dataclass(frozen=True)
class RestoreSettings:
    """How to restore a photograph. Small and picklable, because it is sent to worker processes.

    Attributes:
        weights: folder of weights, or a repository of the Hugging Face hub; for graphs, their folder; None for the
            included weights.
        device: as for `BlindDiffPipeline.from_pretrained`.
        scale: enlargement, 1 to 8. A scale that no network has, such as 1.5 or 8, is reached as `passes` says.
        mode: a key of `MODES`: ``"fidelity"``, ``"fast"``, ``"perceptual"`` or ``"paper"``.
        steps: number of steps of the reverse diffusion, 1 to 1000; None for the mode's default.
        samples: number of restorations with different noise; the result is their mean.
        seed: seed of the noise, 0 to 2^63 - 1. It is the same for every photograph of a run, so that no result depends
            on the others.
        kernel: file of the blur kernel, if it is known.
        noise_level: standard deviation of the noise in grey levels, 0 to 255, if it is known.
        max_pixels: maximum number of pixels of the input; protects against decompression bombs.
        max_memory: limit in bytes for all parallel restorations together; None for half of the free memory.
        width, height: size of the result in pixels, instead of ``scale``. The aspect ratio is kept: if both are given,
            the result is the largest that fits into them.
        longest: longer side of the result in pixels, instead of ``scale``.
        megapixels: size of the result in millions of pixels, instead of ``scale``.
        quality, subsampling: how a lossy format is written, see `encoder_options`; None for the format's default.
        dpi: ``"scale"`` multiplies the pixels per inch by the enlargement, so that the printed size stays; ``"keep"``.
        as_is, kernel_map: see `BlindDiffPipeline.__call__`.
        engine: one of `ENGINES`.

    Raises ParameterError if a number is out of its range, or several sizes are given.
    """

    weights: str | None = None
    device: str | None = None
    scale: float = 4
    mode: str = "fidelity"
    steps: int | None = None
    samples: int = 1
    seed: int = 0
    kernel: Path | None = None
    noise_level: float | None = None
    max_pixels: int = MAX_PIXELS
    max_memory: int | None = None
    width: int | None = None
    height: int | None = None
    longest: int | None = None
    megapixels: float | None = None
    quality: int | None = None
    subsampling: str | None = None
    dpi: str = "scale"
    as_is: bool = False
    kernel_map: bool = False
    engine: str = "auto"

    def __post_init__(self) -> None:
        if self.noise_level is not None:
            check_noise_level(self.noise_level)
        if not 0 <= self.seed < 2**63:
            raise ParameterError(f"seed {short_repr(self.seed)} is not between 0 and 2^63 - 1")
        if self.dpi not in DPI_RULES:
            raise ParameterError(f"dpi {self.dpi!r} is not one of {', '.join(DPI_RULES)}")
        if not 1 <= self.scale <= MAX_FACTOR:
            raise ParameterError(f"scale {self.scale} is not between 1 and {MAX_FACTOR}")
        if self.scale == int(self.scale):
            object.__setattr__(self, "scale", int(self.scale))  # 2.0 is 2, also in the fingerprint
        for name in _SIZES:
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e6:
                raise ParameterError(f"{name} {value} must be greater than 0 and less than 1000000")
        sides = self.width is not None or self.height is not None
        if sides + (self.longest is not None) + (self.megapixels is not None) > 1:
            raise ParameterError("width and height, longest, and megapixels exclude one another")

    @property
    def is_scaled(self) -> bool:
        """Whether ``scale`` decides the size of the result."""
        return all(getattr(self, name) is None for name in _SIZES)

    @property
    def native(self) -> bool:
        """Whether the result has one of `SCALES`, so that nothing is reduced."""
        return self.scale in SCALES and self.is_scaled

    def factor(self, height: int, width: int) -> float:
        """The enlargement of a photograph of height x width pixels."""
        if self.longest is not None:
            return self.longest / max(height, width)
        if self.megapixels is not None:
            return math.sqrt(1e6 * self.megapixels / (height * width))
        given = [size / side for size, side in ((self.height, height), (self.width, width)) if size is not None]
        return min(given, default=self.scale)

    def result_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result of a photograph of height x width pixels."""
        factor = self.factor(height, width)
        return max(1, round(height * factor)), max(1, round(width * factor))

    def size_label(self, height: int, width: int) -> str:
        """The enlargement in a result's file name: ``"x4"``, or ``"800x600"`` if a size was asked for."""
        rows, columns = self.result_size(height, width)
        return f"x{self.scale:g}" if self.is_scaled else f"{columns}x{rows}"

    def passes(self, height: int, width: int, engine: Engine) -> tuple[int, ...]:
        """The scales of one or two restorations whose result is at least as large as the one asked for.

        The smallest such product of the engine's scales, in one restoration if possible: (2,) for 1.5, (4, 2) for 8.
        Raises ParameterError if the engine lacks the scale, or the result is more than `MAX_FACTOR` times as large.
        """
        if self.native:
            return (int(self.scale),)
        factor = self.factor(height, width)
        if factor > MAX_FACTOR:
            raise ParameterError(f"a result {factor:.1f} times as large as the photograph: at most {MAX_FACTOR} times")
        scales = engine.scales
        chains: list[tuple[int, ...]] = [(scale,) for scale in scales]
        if not engine.is_fixed:  # the second restoration has a given kernel
            chains += [(a, b) for a, b in product(scales, scales) if a >= b > 1]
        fitting = [chain for chain in chains if math.prod(chain) > factor - 1e-6]
        if not fitting:
            text = f"the network's scales, {', '.join(map(str, scales))}, do not reach {factor:.3g}"
            raise ParameterError(f"{text}; --engine torch reaches more" if engine.is_fixed else text)
        return min(fitting, key=lambda chain: (math.prod(chain), len(chain)))

    def check(self, engine: Engine) -> None:
        """Raise ParameterError if an engine cannot restore with these settings."""
        engine.check_mode(self.mode)
        samples = None if self.samples == 1 else self.samples
        engine.check_fixed(steps=self.steps, samples=samples, kernel=self.kernel, noise_level=self.noise_level)
        engine.check_fixed(kernel_map=self.kernel_map or None)

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
        facts["engine"] = engine_for(self.engine, self.weights, self.device)
        if facts["engine"] == "torch":
            del facts["engine"]  # left out, so that ledgers from before this setting stay valid
        del facts["device"], facts["max_pixels"], facts["max_memory"]
        if self.samples == 1:
            del facts["samples"]  # left out, so that ledgers from before this setting stay valid
        if self.dpi == DPI_RULES[0]:
            del facts["dpi"]  # for the same reason
        for name in ("as_is", "kernel_map"):  # for the same reason
            if not facts[name]:
                del facts[name]
        for name in (*_SIZES, "quality", "subsampling"):  # for the same reason
            if facts[name] is None:
                del facts[name]
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
            if path.suffix in (".json", ".safetensors", ".onnx"):
                digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    except OSError as error:
        raise WeightsError(f"{weights}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Result:
    """One restored photograph.

    Attributes:
        pixels: (3, H, W) in [0, 1]; the mean of the samples.
        alpha: transparency, (1, H, W) in [0, 1]; None if the photograph has none.
        kernel: (n, m), in pixels of the first pass's result; sums to 1.
        noise_level: standard deviation of the noise in grey levels.
        noise_spectrum: its power relative to white noise, (16, 16), see `Degradation`; None if not estimated.
        expected_kernel_error: expected sum |k_hat - k|, 0 to 2, see `BlindDiffOutput`; None if the kernel was given.
        residual: input minus degraded result, (3, h, w), in grey levels; 0 where the input is not believed.
        consistency: RMS of the residual divided by the RMS expected from noise and rounding; near 1 if the result is
            consistent with the input.
        std: standard deviation over the samples, (3, H, W) in [0, 1]; None for one sample.
        seconds: duration of the restoration.
        decision: what the photograph was taken for, and how it was restored; None if it was restored as it is.
        passes: scale of each pass, see `RestoreSettings.passes`. Kernel, noise level, residual and consistency are
            those of the first, which saw the photograph.
        masked: share of the photograph's pixels that are not believed, see `restore_photograph`.
        kernel_map: the `KernelMap` of the first pass, if the blur varies, see `RestoreSettings`.
    """

    photograph: Photograph
    settings: RestoreSettings
    pixels: Planes
    alpha: Planes | None
    kernel: NDArray[np.float32]
    noise_level: float
    noise_spectrum: NDArray[np.float32] | None
    expected_kernel_error: float | None
    residual: NDArray[np.float32]
    consistency: float
    std: NDArray[np.float32] | None
    seconds: float
    passes: tuple[int, ...]
    decision: Decision | None
    masked: float = 0.0
    kernel_map: Any = None

    @property
    def picture(self) -> Image.Image:
        """The image with 8 bits, with its transparency."""
        picture = to_picture(self.pixels)
        if self.alpha is not None:
            picture.putalpha(to_picture(self.alpha))
        return picture

    def save(self, path: FilePath) -> None:
        """Write the image with the metadata of the photograph, see `write_image`."""
        write_image(path, self.pixels, self.photograph, self.alpha)

    @property
    def residual_rms(self) -> float:
        """Root mean square of the residual of the pixels that are believed, in grey levels."""
        return math.sqrt(float(np.square(self.residual).mean()) / (1 - self.masked))

    @property
    def sharpness(self) -> Sharpness:
        """MTF50 and overshoot of the photograph, from the kernel."""
        return sharpness_of(self.kernel, self.passes[0])

    @property
    def kind_of_noise(self) -> str:
        """The noise in words, such as "grain"."""
        return noise_in_words(self.noise_level, self.noise_spectrum, self.photograph.jpeg_step)

    @property
    def uncertainty(self) -> float | None:
        """Root mean square of `std`, in grey levels; None for one sample."""
        return None if self.std is None else 255 * float(np.sqrt(np.square(self.std).mean()))

    def facts(self, output: PurePath) -> dict[str, Any]:
        """The result's measurements as JSON-compatible values, for ``--json`` and the ledger.

        ``width``, ``height`` and ``written_bit_depth`` describe the result; the extension of ``output`` determines the
        bit depth. ``mode`` (Pillow's pixel format, such as "RGB") and ``bit_depth`` describe the photograph.
        ``kernel_widths`` are the standard deviations along the kernel's principal axes in pixels of the result, the
        larger first. ``kernel_angle`` is the direction of the longer axis, in degrees clockwise from the horizontal.
        ``mtf50`` (across vertical and horizontal edges, cycles per pixel of the photograph, or null), ``overshoot`` and
        ``sharpened`` are those of `Sharpness`. ``noise_spectrum`` has the rows of the spectrum, or is null.
        ``picture_kind``, ``picture_probability``, ``enlarged_by`` and ``decision`` are those of `Decision`, or null.
        ``samples`` and ``uncertainty`` are there only for several samples, ``masked`` only with a mask, ``kernel_map``
        (see `KernelMap.facts`) only if the blur varies. ``passes`` and
        ``kernel_scale``, the scale whose pixels the kernel has, are there only if the result was reduced or has two
        passes. ``notes`` are those of the `Photograph`, and one on metadata for which the output's format has no room.
        The other keys are attributes of `Result`.
        """
        height, width = self.pixels.shape[-2:]
        estimates = (self.kernel, self.passes[0], self.noise_level, self.noise_spectrum)
        return {
            "width": width,
            "height": height,
            "mode": self.photograph.mode,
            "bit_depth": self.photograph.bit_depth,
            "written_bit_depth": written_bit_depth(output, self.photograph),
            **estimate_facts(*estimates, self.photograph.jpeg_step),
            "picture_kind": None if self.decision is None else self.decision.kind,
            "picture_probability": None if self.decision is None else round(self.decision.probability, 4),
            "enlarged_by": None if self.decision is None else round(self.decision.factor, 2),
            "decision": None if self.decision is None else self.decision.fallback,
            "residual_rms": self.residual_rms,
            "consistency": self.consistency,
            "expected_kernel_error": self.expected_kernel_error,
            "seconds": self.seconds,
            "notes": [*self.photograph.notes, *left_out(output, self.photograph)],
            **({} if self.std is None else {"samples": self.settings.samples, "uncertainty": self.uncertainty}),
            **({} if self.masked == 0 else {"masked": round(self.masked, 4)}),
            **({} if self.kernel_map is None else {"kernel_map": self.kernel_map.facts()}),
            **({} if self.settings.native else {"kernel_scale": self.passes[0], "passes": list(self.passes)}),
        }


def estimate_facts(
    kernel: NDArray[Any], scale: int, noise_level: float, noise_spectrum: NDArray[Any] | None, jpeg_step: float
) -> dict[str, Any]:
    """The measurements of kernel and noise as JSON-compatible values, see `Result.facts`.

    ``kernel`` is (n, m) in pixels of a result of ``scale``, ``noise_level`` in grey levels, ``noise_spectrum``
    (16, 16) or None, and ``jpeg_step`` that of the photograph.
    """
    major, minor, angle = (float(value) for value in widths_and_angle(kernel))
    return {
        "kernel": _rounded(kernel),
        "kernel_widths": [major, minor],
        "kernel_angle": angle,
        **sharpness_of(kernel, scale).facts(),
        "noise_level": noise_level,
        "noise_kind": noise_in_words(noise_level, noise_spectrum, jpeg_step),
        "noise_spectrum": None if noise_spectrum is None else _rounded(noise_spectrum),
    }


def restore_photograph(
    engine: Engine,
    photograph: Photograph,
    settings: RestoreSettings,
    kernel: NDArray[Any] | None = None,
    on_step: Callable[[int, Any], object] = lambda *_: None,
    on_progress: Callable[[float], object] = lambda _: None,
    mask: Mask | None = None,
) -> Result:
    """Restore a photograph. Colours hidden by its transparency do not affect the visible ones.

    A second pass, see `RestoreSettings.passes`, restores the result of the first without deblurring it again: the first
    has removed the blur, and estimating another one cost 0.55 dB at x8 (mean of four photographs, 25.25 to 24.70 dB). A
    result larger than asked for is reduced by `reduce_image`.

    Args:
        engine: loaded with ``settings.weights``.
        settings: its kernel is used only in error messages; weights, device and max_pixels are not used.
        kernel: the known blur kernel, (n, m), in pixels of the first pass; the caller reads it from
            ``settings.kernel``.
        on_step: called after each step with the number of finished steps, of all passes, and the current estimate
            x0_hat, a tensor (samples, 3, H, W); not by graphs. An exception raised by it stops the restoration.
        on_progress: called after each tile of each step with the finished share of the network's work, 0 to 1.
        mask: True where the photograph is not to be believed, (h, w), see `read_mask`; None: believed everywhere.

    Raises ImageError if the photograph is too small, or does not fit into memory even in the smallest tiles;
    KernelError if the kernel is larger than the result; ParameterError if a setting is outside its range.
    """
    started = time.perf_counter()
    pixels = visible_colours(photograph)
    height, width = pixels.shape[-2:]
    passes = settings.passes(height, width, engine)
    work = [float(math.prod(passes[: index + 1]) ** 2) for index in range(len(passes))]  # pixels of each pass
    steps, done = 1 if engine.is_fixed else settings.number_of_steps, 0

    def after_step(_index: int, _t: int, _x_t: Any, x0_hat: Any, _k_t: Any) -> None:
        nonlocal done
        done += 1
        on_step(done, x0_hat)

    def after_tile(finished: int, count: int) -> None:
        current = len(outs)
        step = min(done - current * steps, steps - 1)  # more steps are those of a milder restoration
        on_progress((sum(work[:current]) + work[current] * (step + finished / count) / steps) / sum(work))

    generator = engine.generator(settings.seed)
    outs: list[Any] = []
    image = pixels[None]
    given: dict[str, Any] = {"kernel": kernel, "noise_level": settings.noise_level, "jpeg_step": photograph.jpeg_step}
    if mask is not None:
        given["mask"] = mask
    if settings.kernel_map:
        given["kernel_map"] = True
    try:
        for scale in passes:
            out = engine(
                image if outs else pixels,
                scale=scale,
                mode=settings.mode,
                num_inference_steps=settings.steps,
                num_samples=1 if outs else settings.samples,
                generator=generator,
                output_type="np",
                max_memory=settings.max_memory,
                on_step=after_step,
                on_tile=after_tile,
                as_is=settings.as_is,
                **({"kernel": np.ones((1, 1), np.float32)} if outs else given),
            )
            outs.append(out)
            image = _samples(out)  # a second pass continues each sample by itself
    except KernelError as error:
        if settings.kernel is None:
            raise
        raise KernelError(f"{settings.kernel}: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        raise ImageError(f"{width} x {height} pixels at scale {settings.scale:g} do not fit into memory") from error
    first, size = outs[0], settings.result_size(height, width)
    alpha = None if photograph.alpha is None else enlarge_in_range(photograph.alpha, math.prod(passes))
    if size != image.shape[-2:]:
        image = reduce_image(image, size)
        alpha = None if alpha is None else resample(alpha, size)
    return Result(
        photograph=photograph,
        settings=settings,
        pixels=image[0] if len(image) == 1 else image.mean(0),  # no copy of an image on disk
        alpha=alpha,
        kernel=np.asarray(first.kernels[0]),
        noise_level=float(first.noise_levels[0]),
        noise_spectrum=None if first.noise_spectra is None else np.asarray(first.noise_spectra[0]),
        expected_kernel_error=None if first.expected_kernel_errors is None else float(first.expected_kernel_errors[0]),
        residual=np.asarray(first.residuals[0]),
        consistency=float(first.consistency[0]),
        std=image.std(0, ddof=1) if len(image) > 1 else None,
        seconds=time.perf_counter() - started,
        passes=passes,
        decision=None if first.decisions is None else first.decisions[0],
        masked=0.0 if mask is None else float(mask.mean()),
        kernel_map=first.kernel_map if settings.kernel_map else None,
    )


def _rounded(table: NDArray[Any]) -> list[list[float]]:
    """The rows of a table, with five significant digits."""
    return [[float(f"{value:.5g}") for value in row] for row in table.tolist()]


def _samples(out: Any) -> Planes:
    """All samples of the one image of an output, or one of each of several images: (K, 3, H, W)."""
    samples = np.moveaxis(out.images, -1, 1) if out.samples is None else np.asarray(out.samples[0])
    return np.ascontiguousarray(samples, np.float32)


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
