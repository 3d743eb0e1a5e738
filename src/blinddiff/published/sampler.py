"""The published sampler: its guidance, and ancestral sampling with a learned variance on a respaced schedule."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from blinddiff.degradation.observation import Degradation, Observation
from blinddiff.models.denoiser import NUM_TRAIN_TIMESTEPS, Prediction, alpha_bar
from blinddiff.published.network import PublishedPrediction

SHRINKAGE = 0.1


@dataclass(frozen=True)
class PublishedGuidance:
    """x_{t-1} <- x_{t-1} - grad_{x_t} (||y - A(x0_hat, k_t)|| + 0.1 ||x0_hat||), norms over an image, not squared.

    An image step (`sampling.image_steps.ImageStep`). Its strength halves each time the image's side doubles, and the
    second term pulls the image to black; `Gradient` avoids both. The gradient also flows through the kernel, which the
    network estimates from x_t.

    Source: the released code of arXiv 2403.10211.
    """

    needs_gradient: bool = True

    def __call__(
        self, x_t: Tensor, x0_hat: Tensor, observation: Observation, degradation: Degradation, prior_error: float
    ) -> tuple[Tensor, Tensor | float]:
        residual = observation.y - degradation.operator(observation.scale)(x0_hat)
        norms = residual.flatten(1).norm(dim=1) + SHRINKAGE * x0_hat.flatten(1).norm(dim=1)
        (gradient,) = torch.autograd.grad(norms.sum(), x_t)
        return x0_hat.detach(), -gradient


class PublishedDiffusion:
    """x_{t-1} ~ N(posterior mean, Sigma), log Sigma interpolated by the network's v between log beta~_t and log beta_t.

    beta_t is that of the respaced schedule, as in Nichol and Dhariwal, "Improved denoising diffusion probabilistic
    models", 2021. diffusers' DDPMScheduler takes beta_t from the full schedule instead, which differs for few steps.

    Args:
        noise_schedule: name of the network's schedule.
        num_inference_steps: number of timesteps kept of 1000, evenly spaced, including first and last.
    """

    def __init__(self, noise_schedule: str, num_inference_steps: int, device: torch.device) -> None:
        kept = torch.linspace(0, NUM_TRAIN_TIMESTEPS - 1, num_inference_steps, dtype=torch.float64).round().long()
        if num_inference_steps == 1:
            kept = torch.tensor([NUM_TRAIN_TIMESTEPS - 1])
        a = alpha_bar(noise_schedule)[kept]
        before = torch.cat([torch.ones(1, dtype=a.dtype), a[:-1]])
        beta = 1 - a / before
        posterior = beta * (1 - before) / (1 - a)
        # The first posterior variance is 0: use the second, or beta, for the logarithm.
        posterior[0] = posterior[1] if num_inference_steps > 1 else beta[0]
        self.timesteps = kept.flip(0).to(device)
        self._from_x0 = (beta * before.sqrt() / (1 - a)).float().to(device)
        self._from_x_t = ((1 - before) * (1 - beta).sqrt() / (1 - a)).float().to(device)
        self._log_min, self._log_max = posterior.log().float().to(device), beta.log().float().to(device)

    def step(
        self, x_t: Tensor, t: Tensor, x0_hat: Tensor, prediction: Prediction, noise: Callable[[], Tensor]
    ) -> Tensor:
        """x_{t-1} from x_t and the corrected x0_hat, see `sampling.schedulers.Scheduler`; for networks that
        predict no variance, Sigma is beta~_t.
        """
        i = int((self.timesteps.flip(0) == t).nonzero())
        mean = self._from_x0[i] * x0_hat + self._from_x_t[i] * x_t
        drawn = noise()
        if i == 0:
            return mean
        log_variance = self._log_min[i]
        if isinstance(prediction, PublishedPrediction):
            weight = (prediction.variance + 1) / 2
            log_variance = weight * self._log_max[i] + (1 - weight) * self._log_min[i]
        return mean + (log_variance / 2).exp() * drawn
