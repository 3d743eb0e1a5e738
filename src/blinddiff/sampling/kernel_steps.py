"""What a kernel step is: something that moves the sampler's kernel on, given the network's estimate at this step."""

from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from blinddiff.degradation.kernel_fit import fit_kernel
from blinddiff.degradation.kernel_measures import fit_size
from blinddiff.models.kernel_estimator import Estimate, mirror_step, way
from blinddiff.models.mcformer import Prediction

KernelState: TypeAlias = Estimate
"""The kernel k_t as the sampler carries it, (B, n, m), and the noise level, (B,), in grey levels."""


class KernelStep(Protocol):
    """The state for the image step, and for the next prior step."""

    def __call__(self, state: KernelState | None, prediction: Prediction, y: Tensor, scale: int) -> KernelState:
        """From the last state (None before the first, if nothing is known yet) and this step's prediction."""
        ...


def network(state: KernelState | None, prediction: Prediction, y: Tensor, scale: int) -> KernelState:  # noqa: ARG001
    """k_t <- k_hat_t: this step's estimate. The published network knows no noise; its noise level is 0."""
    noise_level = torch.zeros(len(y)).to(y) if prediction.noise_level is None else prediction.noise_level
    return KernelState(prediction.kernel, noise_level)


def fixed(state: KernelState | None, prediction: Prediction, y: Tensor, scale: int) -> KernelState:
    """The kernel never changes: given by the user (``fixed``), or estimated once and never again (``first``)."""
    return network(None, prediction, y, scale) if state is None else state


SHARE = 0.3


def damped(state: KernelState | None, prediction: Prediction, y: Tensor, scale: int) -> KernelState:
    """log k_t <- log k_{t+1} + eta (log k_hat_t - log k_{t+1}), on the simplex; eta = 0.3. The noise level likewise.

    A shorter step of the mirror descent that the network proposes: its direction is right more often than its length,
    and it is taken anew at each step.
    """
    estimate = network(state, prediction, y, scale)
    if state is None:
        return estimate
    before = fit_size(state.kernel, estimate.kernel.shape[-1], max_cut=1.0)  # a given one may be of any size
    kernel = mirror_step(before, SHARE * way(before, estimate.kernel))
    return KernelState(kernel, state.noise_level.lerp(estimate.noise_level, SHARE))


WEIGHT = 0.01


def refine(state: KernelState | None, prediction: Prediction, y: Tensor, scale: int) -> KernelState:
    """k_t <- argmin_k mean |y - A(x0_hat, k)|^2 + lambda ||k - k_hat_t||^2, k on the simplex.

    lambda = 0.01 (1 + sigma^2), sigma in grey levels: the more noise, the less the fit is trusted. y and x0_hat are the
    means of the channels, which have one kernel. x0_hat is the network's, before the image step: one that agrees with y
    under k_t would only give k_t back.
    """
    estimate = network(state, prediction, y, scale)
    grey, grey_hat = (image.mean(1, keepdim=True) for image in (y, prediction.x0_hat.detach()))
    weight = WEIGHT * (1 + estimate.noise_level.square())
    return KernelState(fit_kernel(grey, grey_hat, estimate.kernel, weight, scale), estimate.noise_level)


def keep_noise_level(kernel_step: KernelStep, noise_level: float) -> KernelStep:
    """A kernel step that moves the kernel only, beside a noise level in grey levels."""

    def step(state: KernelState | None, prediction: Prediction, y: Tensor, scale: int) -> KernelState:
        moved = kernel_step(state, prediction, y, scale)
        if moved is state:  # it stays, and what was made for it can stay too
            return moved
        return KernelState(moved.kernel, torch.full((len(y),), noise_level).to(moved.noise_level))

    return step
