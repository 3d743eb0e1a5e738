"""The kinds of noise that recipes can name."""

from blinddiff.degradation.noise.correlated import CorrelatedNoise
from blinddiff.degradation.noise.gaussian import GaussianNoise
from blinddiff.degradation.noise.jpeg import JpegNoise
from blinddiff.degradation.noise.noise import Noise
from blinddiff.degradation.noise.poisson import PoissonNoise

_ALL: tuple[Noise, ...] = (
    GaussianNoise(),
    PoissonNoise(),
    JpegNoise(),
    CorrelatedNoise(),
)
NOISES: dict[str, Noise] = {noise.name: noise for noise in _ALL}
