"""Image steps by name. A new one is a file here and a line in `IMAGE_STEPS`."""

from blinddiff.sampling.image_steps.gradient import Gradient
from blinddiff.sampling.image_steps.none import NoStep
from blinddiff.sampling.image_steps.proximal import Proximal
from blinddiff.sampling.image_steps.published import PublishedGuidance
from blinddiff.sampling.image_steps.step import ImageContext, ImageCorrection, ImageStep

IMAGE_STEPS: dict[str, ImageStep] = {
    "proximal": Proximal(),
    "gradient": Gradient(),
    "none": NoStep(),
    "published": PublishedGuidance(),
}

__all__ = ["IMAGE_STEPS", "ImageContext", "ImageCorrection", "ImageStep"]
