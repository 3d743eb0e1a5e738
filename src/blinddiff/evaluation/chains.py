"""The protocol `photographs`: what happens to photographs besides blur and white noise."""

from typing import NamedTuple

import torch

from blinddiff.degradation.draws import LrImages, Noise
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.degradation.noise import GaussianNoise, Grain, Halftone
from blinddiff.degradation.operator import DegradationOperator
from blinddiff.degradation.processing import Demosaicked, Denoised, JpegNoise, ResizedJpegNoise, Sharpened
from blinddiff.evaluation.data import Case, CaseReference, crop_to_multiple, read_pixels, to_8bit
from blinddiff.evaluation.protocol import Protocol


class Chain(NamedTuple):
    """A degradation of `PhotographsProtocol`: blur, subsample, and kinds of noise and processing with their levels.

    noise_level: standard deviation of the noise in grey levels; None where no single kind of noise states it.
    """

    label: str
    sigma: float
    steps: tuple[tuple[Noise, float], ...] = ()
    noise_level: float | None = None


_HALFTONE = Halftone(min_period=3.0, max_period=3.0, max_angle=0.0, inks=0.0, toned=0.0)
_UNSHARP = Sharpened(min_width=1.0, max_width=1.0)
CHAINS = (
    Chain("nothing else", 1.6, noise_level=0.0),
    Chain("white noise 10", 1.6, ((GaussianNoise(), 10.0),), 10.0),
    Chain("grain 10", 1.6, ((Grain(min_width=0.7, max_width=0.7, min_shared=1.0, toned=0.0), 10.0),), 10.0),
    Chain("halftone 10", 1.6, ((_HALFTONE, 10.0),), 10.0),
    Chain("sharpened", 1.6, ((_UNSHARP, 1.0),)),
    *(Chain(f"JPEG {quality}", 2.4, ((JpegNoise(), float(quality)),)) for quality in (95, 85, 75, 50, 30)),
    Chain("camera", 1.6, ((Demosaicked(), 4.0), (Denoised(), 3.0), (_UNSHARP, 0.6), (JpegNoise(), 92.0))),
    Chain("web", 1.6, ((GaussianNoise(), 2.0), (_UNSHARP, 0.5), (ResizedJpegNoise(), 80.0), (JpegNoise(), 85.0))),
)


class PhotographsProtocol(Protocol):
    """What happens to photographs besides blur and white noise. Kernel and noise are as far known as a model has them.

    The true kernel includes sharpening.
    """

    labels = tuple(chain.label for chain in CHAINS)

    def make(self, reference: CaseReference, seed: int) -> Case:
        chain = CHAINS[reference.id.parameter]
        generator = torch.Generator().manual_seed(self.random_seed(reference, seed, "noise"))
        hr = crop_to_multiple(read_pixels(reference.source), self.scale)
        kernel = isotropic_gaussian(chain.sigma, 31)[None]
        clean = DegradationOperator(kernel, self.scale).forward(hr[None])
        images = LrImages(clean, clean, kernel, torch.zeros(1))
        for kind, level in chain.steps:
            images = kind.degrade(images, torch.tensor([level]), self.scale, generator)
        y, seed = to_8bit(images.y[0]), self.random_seed(reference, seed, "method")
        return Case(reference.id, self.scale, hr, y, images.kernel[0], chain.noise_level, seed)
