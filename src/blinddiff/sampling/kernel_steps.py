"""Kernel steps: how kernel and noise level move on at a step. A new one is a function and a line in `KERNEL_STEPS`."""

from typing import Protocol

import torch

from blinddiff.degradation.kernel_fit import fit_kernel
from blinddiff.degradation.kernel_measures import fit_size
from blinddiff.degradation.observation import Degradation, Observation
from blinddiff.models.denoiser import Prediction
from blinddiff.models.kernel_estimator import log_ratio, mirror_step

SHARE = 0.3
WEIGHT = 0.01


class KernelStep(Protocol):
    """The degradation for the image step, and for the next prior step."""

    def __call__(
        self, degradation: Degradation | None, prediction: Prediction, observation: Observation
    ) -> Degradation:
        """From the last degradation (None where nothing was known before the first step) and this step's prediction."""


def network(degradation: Degradation | None, prediction: Prediction, observation: Observation) -> Degradation:  # noqa: ARG001
    """k_t <- k_hat_t: this step's estimate."""
    return prediction.degradation


def fixed(degradation: Degradation | None, prediction: Prediction, observation: Observation) -> Degradation:  # noqa: ARG001
    """The kernel never changes: given by the user (``fixed``), or the initial estimate (``first``)."""
    return prediction.degradation if degradation is None else degradation


def damped(degradation: Degradation | None, prediction: Prediction, observation: Observation) -> Degradation:  # noqa: ARG001
    """log k_t <- log k_{t+1} + eta (log k_hat_t - log k_{t+1}), on the simplex; eta = 0.3. The noise level likewise.

    A shorter step of the mirror descent that the network proposes: its direction is right more often than its length,
    and it is computed anew at each step.
    """
    estimate = prediction.degradation
    if degradation is None:
        return estimate
    size = estimate.kernel.shape[-1]
    current = fit_size(degradation.kernel, size, max_cut=1.0)  # a given kernel may be of any size
    kernel = mirror_step(current, SHARE * log_ratio(current, estimate.kernel))
    return degradation.changed(kernel, degradation.noise_level.lerp(estimate.noise_level, SHARE))


def refine(degradation: Degradation | None, prediction: Prediction, observation: Observation) -> Degradation:  # noqa: ARG001
    """k_t <- argmin_k mean |y - A(x0_hat, k)|^2 + lambda ||k - k_hat_t||^2, k on the simplex.

    lambda = 0.01 (1 + sigma^2), sigma in grey levels: the more noise, the less the fit is trusted. y and x0_hat are the
    means of the channels, which share one kernel. x0_hat is the network's, before the image step: one that agrees with
    y under k_t would only return k_t.
    """
    estimate = prediction.degradation
    grey, grey_hat = (image.mean(1, keepdim=True) for image in (observation.y, prediction.x0_hat.detach()))
    weight = WEIGHT * (1 + estimate.noise_level.square())
    kernel = fit_kernel(grey, grey_hat, estimate.kernel, weight, observation.scale)
    return estimate.changed(kernel, estimate.noise_level)


def keep_noise_level(kernel_step: KernelStep, noise_level: float) -> KernelStep:
    """A kernel step that moves the kernel only, beside a given noise level in grey levels."""

    def step(degradation: Degradation | None, prediction: Prediction, observation: Observation) -> Degradation:
        moved = kernel_step(degradation, prediction, observation)
        if moved is degradation:  # unchanged: keep its operator and closed form too
            return moved
        return moved.changed(moved.kernel, torch.full_like(moved.noise_level, noise_level))

    return step


KERNEL_STEPS: dict[str, KernelStep] = {
    "damped": damped,
    "network": network,
    "refine": refine,
    "first": fixed,
    "fixed": fixed,
}
