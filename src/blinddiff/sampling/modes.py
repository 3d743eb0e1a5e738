"""Modes: named sets of the sampler's options; and the steps by name."""

from dataclasses import dataclass

from blinddiff.published.sampler import PublishedGuidance
from blinddiff.sampling.image_steps import Gradient, ImageStep, NoStep, Proximal
from blinddiff.sampling.kernel_steps import KernelStep, damped, fixed, network, refine


@dataclass(frozen=True)
class Mode:
    """What a mode sets where the caller does not.

    Attributes:
        scheduler: a name of `SCHEDULERS`, or ``"own"``: the one that the pipeline was made with.
        num_inference_steps: steps of the reverse diffusion.
        image_step: a name of `IMAGE_STEPS`.
        kernel_step: a name of `KERNEL_STEPS`.
    """

    scheduler: str
    num_inference_steps: int
    image_step: str = "proximal"
    kernel_step: str = "damped"

    @property
    def self_ensemble(self) -> bool:
        """Whether steps see different dihedral transforms: they are averaged only by the mean."""
        return self.scheduler == "mean"

    def changed(
        self,
        num_inference_steps: int | None,
        image_step: str | None,
        kernel_step: str | None,
        scheduler: str | None,
    ) -> "Mode":
        """This mode with the caller's options in place of its own; None keeps the mode's."""
        return Mode(
            self.scheduler if scheduler is None else scheduler,
            self.num_inference_steps if num_inference_steps is None else num_inference_steps,
            self.image_step if image_step is None else image_step,
            self.kernel_step if kernel_step is None else kernel_step,
        )


MODES = {
    # closest in the mean square: the mean of two posterior means, the second under a better kernel
    "fidelity": Mode("mean", 2),
    # nearly that, in half the time: one call of the network
    "fast": Mode("mean", 1),
    # a sample of the posterior: sharper, with a larger error
    "perceptual": Mode("own", 8),
    # the published sampler, with its guidance
    "paper": Mode("published", 500, image_step="published", kernel_step="network"),
}

IMAGE_STEPS: dict[str, ImageStep] = {
    "proximal": Proximal(),
    "gradient": Gradient(),
    "none": NoStep(),
    "published": PublishedGuidance(),
}

KERNEL_STEPS: dict[str, KernelStep] = {
    "damped": damped,
    "network": network,
    "refine": refine,
    "first": fixed,
    "fixed": fixed,
}
