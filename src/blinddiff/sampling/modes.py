"""The engines and the modes, by name; without slow imports."""

from dataclasses import dataclass

ENGINES = ("auto", "onnx", "torch")
"""auto: torch where there is a GPU, or no graphs are found; else onnx."""
DESCRIPTION = "blinddiff.json"
"""The file that makes a folder one of graphs."""


@dataclass(frozen=True)
class Mode:
    """A mode: the defaults of options for which the caller passes None.

    Attributes:
        scheduler: a name of `SCHEDULERS`, or ``"own"`` for the scheduler that the pipeline was constructed with.
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
        """Whether each step uses another dihedral transform: only for scheduler "mean", which averages the images."""
        return self.scheduler == "mean"


MODES = {
    # lowest MSE: the mean of two estimates of the posterior mean, each with the latest kernel
    "fidelity": Mode("mean", 2),
    # nearly the same MSE in half the time: one estimate of the posterior mean
    "fast": Mode("mean", 1),
    # an approximate sample of the posterior: sharper, with a higher MSE
    "perceptual": Mode("own", 8),
    # the published sampler, with its guidance
    "paper": Mode("published", 500, image_step="published", kernel_step="network"),
}
