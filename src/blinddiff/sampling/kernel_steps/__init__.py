"""Kernel steps by name. A new one is a file here and a line in `KERNEL_STEPS`."""

from blinddiff.sampling.kernel_steps.fixed import fixed
from blinddiff.sampling.kernel_steps.network import network
from blinddiff.sampling.kernel_steps.step import KernelState, KernelStep

KERNEL_STEPS: dict[str, KernelStep] = {"network": network, "first": fixed}

__all__ = ["KERNEL_STEPS", "KernelState", "KernelStep", "fixed"]
