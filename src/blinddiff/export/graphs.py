"""The method as two modules of plain tensors, for one image: the estimate from y, and the restoration with an estimate.

They call the same code as the pipeline. All tensors are float32.
"""

import torch
from torch import Tensor, nn

from blinddiff.degradation import Degradation, Observation
from blinddiff.models.denoiser import NUM_TRAIN_TIMESTEPS
from blinddiff.models.mcformer import MCFormer
from blinddiff.sampling.image_steps import IMAGE_STEPS
from blinddiff.sampling.kernel_steps import KERNEL_STEPS
from blinddiff.sampling.loop import restore
from blinddiff.sampling.modes import MODES
from blinddiff.sampling.output import make_output
from blinddiff.sampling.schedulers import PosteriorMean
from blinddiff.sampling.wrappers import SelfEnsemble

ESTIMATES = ("kernel", "noise_level", "expected_kernel_error", "noise_spectrum")
"""Outputs of `Estimate` that are inputs of `Restore`."""
KIND = ("picture_probabilities", "enlarged_by")
RESULTS = ("x", "x_y", "refined_kernel", "refined_noise_level", "residual", "consistency")
"""Outputs of `Restore`."""


class Estimate(nn.Module):
    """Kernel, noise and kind of a picture from y alone: the outputs are `ESTIMATES` and `KIND`."""

    def __init__(self, network: MCFormer, scale: int) -> None:
        super().__init__()
        self.network, self.scale = network, scale

    def forward(self, y: Tensor, jpeg_step: Tensor) -> tuple[Tensor, ...]:
        """y: (1, 3, h, w) in [0, 1]. jpeg_step: (1,), see `Observation`."""
        observation = Observation(y, self.scale, jpeg_step)
        estimate = self.network.initial_estimate(observation)
        assert estimate.expected_kernel_error is not None
        assert estimate.noise_spectrum is not None
        kind = self.network.picture_kind(observation)
        tensors = estimate.kernel, estimate.noise_level, estimate.expected_kernel_error, estimate.noise_spectrum
        return *tensors, kind.probabilities, kind.factor


class Restore(nn.Module):
    """The restored image for an estimate: the outputs are `RESULTS`.

    It is the pipeline's loop in a mode of scheduler "mean", whose result is an estimate of the posterior mean. The
    noise of x_T is left out: the network's input has next to none of it, and a graph without it is deterministic.
    """

    def __init__(self, network: MCFormer, scale: int, mode: str) -> None:
        super().__init__()
        self.network, self.scale, self.mode = network, scale, MODES[mode]
        assert self.mode.scheduler == "mean"
        self._relative_error = network.relative_error(torch.tensor(NUM_TRAIN_TIMESTEPS - 1))

    def forward(
        self, y: Tensor, kernel: Tensor, noise_level: Tensor, expected_kernel_error: Tensor, noise_spectrum: Tensor
    ) -> tuple[Tensor, ...]:
        """y: (1, 3, h, w) in [0, 1]. The others are those of a `Degradation`."""
        observation = Observation(y, self.scale)
        degradation = Degradation(kernel, noise_level, expected_kernel_error, noise_spectrum)
        x_y = degradation.closed_form(observation)
        denoiser = SelfEnsemble(self.network)
        denoiser.relative_error = lambda timestep: self._relative_error  # a graph cannot read it from the schedule
        restored = restore(
            denoiser,
            PosteriorMean(self.mode.num_inference_steps, y.device),
            observation,
            degradation,
            lambda: torch.zeros_like(x_y),  # type: ignore[arg-type]
            IMAGE_STEPS[self.mode.image_step],
            KERNEL_STEPS[self.mode.kernel_step],
        )
        out = make_output(observation, restored, 1)
        return out.images, x_y.clamp(0, 1), out.kernels, out.noise_levels, out.residuals, out.consistency
