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
class Transitions:
    """The steps x_t -> x_{t-1} of a schedule with n timesteps, (n,) each; index 0 is the least noisy timestep.

    q(x_{t-1} | x_t, x_0) has the mean from_x0 x_0 + from_x_t x_t and the variance beta~_t = exp(log_min);
    log_max is log beta_t. The first beta~_t is 0: there log_min is that of the second, or log beta_t.
    """

    from_x0: Tensor
    from_x_t: Tensor
    log_min: Tensor
    log_max: Tensor

    @staticmethod
    def of(alpha_bar: Tensor, device: torch.device | None = None) -> "Transitions":
        """For alpha_bar_t of the timesteps, (n,) float64, in ascending order; single precision on a device."""
        a = alpha_bar
        before = torch.cat([torch.ones(1, dtype=a.dtype), a[:-1]])
        beta = 1 - a / before
        posterior = beta * (1 - before) / (1 - a)
        posterior[0] = posterior[1] if len(a) > 1 else beta[0]
        from_x0, from_x_t = beta * before.sqrt() / (1 - a), (1 - before) * (1 - beta).sqrt() / (1 - a)
        parts = (from_x0, from_x_t, posterior.log(), beta.log())
        return Transitions(*(part.float().to(device) for part in parts))

    def mean(self, index: Tensor, x_0: Tensor, x_t: Tensor) -> Tensor:
        """The mean of x_{t-1} for x_0 and x_t, (B, 3, H, W); index: of each image's timestep, (B,) or (1,)."""
        from_x0, from_x_t = (part[index].view(-1, 1, 1, 1) for part in (self.from_x0, self.from_x_t))
        return from_x0 * x_0 + from_x_t * x_t

    def log_variance(self, index: Tensor, v: Tensor) -> Tensor:
        """log Sigma, interpolated by the network's v, (B, 3, H, W): log beta~_t for v = -1, log beta_t for v = 1."""
        low, high = (part[index].view(-1, 1, 1, 1) for part in (self.log_min, self.log_max))
        weight = (v + 1) / 2
        return weight * high + (1 - weight) * low


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
        self.timesteps = kept.flip(0).to(device)
        self._transitions = Transitions.of(alpha_bar(noise_schedule)[kept], device)

    def step(
        self, x_t: Tensor, t: Tensor, x0_hat: Tensor, prediction: Prediction, noise: Callable[[], Tensor]
    ) -> Tensor:
        """x_{t-1} from x_t and the corrected x0_hat, see `sampling.schedulers.Scheduler`; for networks that
        predict no variance, Sigma is beta~_t.
        """
        index = (self.timesteps.flip(0) == t).nonzero().flatten()
        mean = self._transitions.mean(index, x0_hat, x_t)
        drawn = noise()
        if index == 0:
            return mean
        log_variance = self._transitions.log_min[index]
        if isinstance(prediction, PublishedPrediction):
            log_variance = self._transitions.log_variance(index, prediction.variance)
        return mean + (log_variance / 2).exp() * drawn
