"""This package's pipeline as methods."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from blinddiff.errors import ParameterError
from blinddiff.evaluation.cases import Case
from blinddiff.evaluation.methods.method import count_parameters, timed
from blinddiff.evaluation.restoration import Restoration

if TYPE_CHECKING:
    from blinddiff.models.mcformer import MCFormer
    from blinddiff.sampling.pipeline import BlindDiffPipeline


class CallCounter:
    """Counts the forward calls of a network while it is entered."""

    def __init__(self, network: "MCFormer") -> None:
        self.network = network
        self.calls = 0

    def __enter__(self) -> "CallCounter":
        self._hook = self.network.register_forward_hook(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _count(self, *_: object) -> None:
        self.calls += 1


@dataclass(frozen=True)
class PipelineMethod:
    """`BlindDiffPipeline` on one image.

    Attributes:
        mode, steps, image_step, kernel_step: as the pipeline takes them; None leaves it to the mode.
        true_kernel: give the pipeline the true kernel; the result then claims no estimate of it.
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
        """See `Method.parameters`."""
        return count_parameters(self.pipeline.network)

    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        """See `Method.restore`. Raises ParameterError if the true kernel is asked for and not known."""
        kernel = case.kernel_at_pixel_centre if self.true_kernel else None
        if self.true_kernel and kernel is None:
            raise ParameterError(f"{case.place}: {self.name} needs the true kernel, which is not known")
        generator = torch.Generator().manual_seed(case.seed)
        with CallCounter(self.pipeline.network) as counter:
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
        knows_noise = self.pipeline.network.config.prediction == "residual"
        return Restoration(
            image=out.images[0].cpu(),
            kernel=None if self.true_kernel else out.kernels[0].cpu(),
            noise_level=float(out.noise_levels[0]) if knows_noise else None,
            seconds=seconds,
            calls=counter.calls,
            expected_kernel_error=None if out.expected_kernel_errors is None else float(out.expected_kernel_errors[0]),
        )


def checkpoint(name: str, pipeline: "BlindDiffPipeline") -> PipelineMethod:
    """Any other weights, in the mode that fits them: the published network knows only the published sampler."""
    published = pipeline.network.config.prediction == "noise"
    return PipelineMethod(name, pipeline, mode="paper" if published else "fidelity")
