"""The kinds of noise that recipes can name."""

from blinddiff.degradation.noise.correlated import CorrelatedNoise
from blinddiff.degradation.noise.gaussian import GaussianNoise
from blinddiff.degradation.noise.jpeg import JpegNoise
from blinddiff.degradation.noise.noise import Noise
from blinddiff.degradation.noise.poisson import PoissonNoise
from blinddiff.degradation.noise.resized_jpeg import ResizedJpegNoise
from blinddiff.degradation.noise.sharpened import Sharpened

_ALL: tuple[Noise, ...] = (
    GaussianNoise(),
    PoissonNoise(),
    JpegNoise(),
    ResizedJpegNoise(),
    CorrelatedNoise(),
    Sharpened(),
)
NOISES: dict[str, Noise] = {noise.name: noise for noise in _ALL}
