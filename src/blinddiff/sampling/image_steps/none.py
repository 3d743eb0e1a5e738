"""No image step: the ablation."""

from dataclasses import dataclass

from torch import Tensor

from blinddiff.sampling.image_steps.step import ImageContext, ImageCorrection


@dataclass(frozen=True)
class NoStep:
    """x0_hat as the network gave it."""

    needs_gradient: bool = False

    def __call__(self, x_t: Tensor, x0_hat: Tensor, context: ImageContext) -> ImageCorrection:
        """See `ImageStep`."""
        return ImageCorrection(x0_hat)
