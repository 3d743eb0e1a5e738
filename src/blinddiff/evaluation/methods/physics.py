"""The closed-form solution of the data term, without an image network."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from blinddiff.degradation.closed_form import closed_form
from blinddiff.errors import ParameterError
from blinddiff.evaluation.cases import Case
from blinddiff.evaluation.methods.method import count_parameters, timed
from blinddiff.evaluation.restoration import Restoration

if TYPE_CHECKING:
    from blinddiff.sampling.pipeline import BlindDiffPipeline


@dataclass(frozen=True)
class ClosedFormMethod:
    """Kernel and noise level estimated from y by the network's estimator, then one proximal step from bicubic."""

    pipeline: "BlindDiffPipeline"
    name: str = "closed-form"

    @property
    def parameters(self) -> int:
        """See `Method.parameters`."""
        return count_parameters(self.pipeline.network.estimator)

    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        """See `Method.restore`."""

        def work() -> tuple[Tensor, Tensor, Tensor]:
            told = self.pipeline.estimate(y, scale)
            return closed_form(y[None], told.kernel, told.noise_level, scale)[0], told.kernel[0], told.noise_level[0]

        (image, kernel, noise_level), seconds = timed(work)
        return Restoration(image, kernel, float(noise_level), seconds, 0)


@dataclass(frozen=True)
class ClosedFormOracle:
    """The same step with the true degradation and noise level: what a perfect kernel is worth without a network."""

    name: str = "closed-form-oracle"
    parameters: int = 0

    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        """See `Method.restore`. Raises ParameterError where the truth is not known."""
        kernel, level = case.kernel, case.noise_level
        if kernel is None or level is None:
            raise ParameterError(
                f"{case.place}: {self.name} needs the true kernel and noise level, which are not known"
            )

        def work() -> Tensor:
            return closed_form(y[None], kernel[None], torch.tensor([level]), scale, case.downsampling)[0]

        image, seconds = timed(work)
        return Restoration(image, None, None, seconds, 0)
