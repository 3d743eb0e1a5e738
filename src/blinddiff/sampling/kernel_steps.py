"""Kernel steps: update kernel and noise level. To add one, write a function and register it in `KERNEL_STEPS`."""

from typing import Protocol

import torch

from blinddiff.degradation.kernel_fit import fit_kernel
from blinddiff.degradation.kernel_tensors import resize_support
from blinddiff.degradation.observation import Degradation, Observation
from blinddiff.models.denoiser import Prediction
from blinddiff.models.kernel_estimator import log_ratio, mirror_descent_step

STEP_SIZE = 0.3  # eta in `damped`
PRIOR_WEIGHT = 0.01  # lambda / (1 + sigma^2) in `refine`


class KernelStep(Protocol):
    """Updates the degradation, for the image step of the same iteration and the prior step of the next."""

    def __call__(
        self, degradation: Degradation | None, prediction: Prediction, observation: Observation
    ) -> Degradation:
        """The new degradation, from the current one (None if there is none yet) and this step's prediction."""


def network(degradation: Degradation | None, prediction: Prediction, observation: Observation) -> Degradation:  # noqa: ARG001
    """k_t = k_hat_t, the network's estimate at this step."""
    return prediction.degradation


def fixed(degradation: Degradation | None, prediction: Prediction, observation: Observation) -> Degradation:  # noqa: ARG001
    """k_t = k_{t+1}: the given kernel ("fixed"), or the kernel before the first step ("first"), is kept."""
    return prediction.degradation if degradation is None else degradation


def damped(degradation: Degradation | None, prediction: Prediction, observation: Observation) -> Degradation:  # noqa: ARG001
    """k_t = softmax(log k_{t+1} + eta (log k_hat_t - log k_{t+1})), eta = 0.3.

    The noise level moves linearly by the same share. The step is damped because the direction of the network's
    correction is more reliable than its length.
    """
    estimate = prediction.degradation
    if degradation is None:
        return estimate
    size = estimate.kernel.shape[-1]
    current = resize_support(degradation.kernel, size, max_cut=1.0)  # a given kernel may be of any size
    negative = (-current).clamp_min(0).lerp((-estimate.kernel).clamp_min(0), STEP_SIZE)
    kernel = mirror_descent_step(current, STEP_SIZE * log_ratio(current, estimate.kernel), negative)
    return degradation.with_estimate(kernel, degradation.noise_level.lerp(estimate.noise_level, STEP_SIZE))


def refine(degradation: Degradation | None, prediction: Prediction, observation: Observation) -> Degradation:  # noqa: ARG001
    """k_t = argmin_k mean |y - A(x0_hat, k)|^2 + lambda ||k - k_hat_t||^2, k on the simplex.

    lambda = 0.01 (1 + sigma^2), sigma in grey levels: the more noise, the smaller the weight of the data. y and x0_hat
    are averaged over the channels, which share one kernel. x0_hat is taken before the image step, because after it, the
    image agrees with y under the current kernel, and a fit would only return this kernel.
    """
    estimate = prediction.degradation
    grey, grey_hat = (image.mean(1, keepdim=True) for image in (observation.y, prediction.x0_hat.detach()))
    weight = PRIOR_WEIGHT * (1 + estimate.noise_level.square())
    kernel = fit_kernel(grey, grey_hat, estimate.kernel, weight, observation.scale)
    return estimate.with_estimate(kernel, estimate.noise_level)


def keep_noise_level(kernel_step: KernelStep, noise_level: float) -> KernelStep:
    """Wrap a kernel step so that the noise level stays at the given value, in grey levels."""

    def step(degradation: Degradation | None, prediction: Prediction, observation: Observation) -> Degradation:
        updated = kernel_step(degradation, prediction, observation)
        if updated is degradation:  # not replaced, so that its operator and closed-form image stay cached
            return updated
        return updated.with_estimate(updated.kernel, torch.full_like(updated.noise_level, noise_level))

    return step


KERNEL_STEPS: dict[str, KernelStep] = {
    "damped": damped,
    "network": network,
    "refine": refine,
    "alternate": damped,  # and at scales 1 and 2 first another initial kernel, see `alternation`
    "first": fixed,
    "fixed": fixed,
}
