"""What is told of each file, for programs: one JSON object."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from blinddiff.degradation.kernels import widths_and_angle
from blinddiff.imaging import Photograph
from blinddiff.upscaling.restoring import Upscaled


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
