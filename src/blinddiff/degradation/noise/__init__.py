"""What the sensor and the file format add to an image: (B, C, H, W) in [0, 1] and a level for each image."""

from blinddiff.degradation.noise.correlated import CorrelatedNoise
from blinddiff.degradation.noise.gaussian import GaussianNoise
from blinddiff.degradation.noise.jpeg import JpegNoise
from blinddiff.degradation.noise.noise import Noise
from blinddiff.degradation.noise.poisson import PoissonNoise
from blinddiff.degradation.noise.registry import NOISES
from blinddiff.degradation.noise.resized_jpeg import ResizedJpegNoise
from blinddiff.degradation.noise.sharpened import Sharpened

__all__ = [
    "NOISES",
    "CorrelatedNoise",
    "GaussianNoise",
    "JpegNoise",
    "Noise",
    "PoissonNoise",
    "ResizedJpegNoise",
    "Sharpened",
]
