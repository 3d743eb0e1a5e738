"""Kernel steps by name. A new one is a file here and a line in `KERNEL_STEPS`."""

from blinddiff.sampling.kernel_steps.damped import damped
from blinddiff.sampling.kernel_steps.fixed import fixed
from blinddiff.sampling.kernel_steps.known_noise import keep_noise_level
from blinddiff.sampling.kernel_steps.network import network
from blinddiff.sampling.kernel_steps.refine import refine
from blinddiff.sampling.kernel_steps.step import KernelState, KernelStep

KERNEL_STEPS: dict[str, KernelStep] = {
    "damped": damped,
    "network": network,
    "refine": refine,
    "first": fixed,
    "fixed": fixed,
}

__all__ = ["KERNEL_STEPS", "KernelState", "KernelStep", "keep_noise_level"]
