"""Image steps by name. A new one is a file here and a line in `IMAGE_STEPS`."""

from blinddiff.sampling.image_steps.none import none
from blinddiff.sampling.image_steps.proximal import proximal
from blinddiff.sampling.image_steps.step import ImageContext, ImageStep

IMAGE_STEPS: dict[str, ImageStep] = {"proximal": proximal, "none": none}

__all__ = ["IMAGE_STEPS", "ImageContext", "ImageStep"]
