"""The correction of a kernel along the sampler's steps."""

import pytest
import torch
from torch import Tensor

from blinddiff.degradation import Degradation, DegradationOperator
from blinddiff.degradation.kernel_fit import FLOORS, kernel_error_map
from blinddiff.degradation.kernels import anisotropic_gaussian, isotropic_gaussian
from blinddiff.models.kernel_estimator import COEFFICIENT_SCALE, POWERS, CorrectionFeatures, KernelCorrection, monomials
from blinddiff.models.statistics import STATISTICS, spectral_statistics

SIZE = 31


def correction_features(count: int) -> CorrectionFeatures:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(count, *shape, generator=generator) for shape in ((STATISTICS,), (STATISTICS,))]
    residual = 0.01 * torch.randn(count, len(FLOORS), SIZE, SIZE, generator=generator)
    return CorrectionFeatures(*drawn, residual, torch.zeros(count))


def current(sigma: float, count: int = 1) -> Degradation:
    return Degradation(isotropic_gaussian(sigma, SIZE).expand(count, -1, -1), torch.full((count,), 3.0))


def second_moments(kernel: Tensor) -> tuple[float, float]:
    """Variances over rows and over columns, in square pixels."""
    axis = torch.arange(SIZE) - SIZE // 2.0
    down, right = (kernel.detach().sum(axis_) for axis_ in (1, 0))
    return float((down * axis.square()).sum()), float((right * axis.square()).sum())


def constant(**coefficients: float) -> KernelCorrection:
    """A correction by constant coefficients, named by the ``down`` and ``right`` powers, whatever its inputs."""
    correction = KernelCorrection((4,)).eval()
    with torch.no_grad():
        for name, value in coefficients.items():
            correction.mlp[-1].bias[POWERS.index((int(name[1]), int(name[2])))] = value
    return correction


def test_until_trained_nothing_is_corrected() -> None:
    before = current(2.0, 3)
    after = KernelCorrection((1, 4))(before, torch.tensor([4, 1, 4]), correction_features(3))
    torch.testing.assert_close(after.kernel, before.kernel, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(after.noise_level, before.noise_level)


@pytest.mark.parametrize("c", [-2.0, 0.5, 1.0])
def test_a_gaussian_grows_as_the_formula_says(c: float) -> None:
    """log k + a y^2 / 2 w^2 is a Gaussian of variance 1 / (1 / s^2 - a / w^2) over rows; columns stay."""
    sigma = 2.5
    before = current(sigma)
    width = float(monomials(before.kernel)[2])
    after = constant(p20=c)(before, torch.tensor([4]), correction_features(1)).kernel[0]
    rows, columns = second_moments(after)
    assert rows == pytest.approx(1 / (1 / sigma**2 - COEFFICIENT_SCALE * c / width**2), rel=0.03)
    assert columns == pytest.approx(second_moments(before.kernel[0])[1], rel=0.03)


def test_odd_powers_skew_the_kernel_and_even_ones_do_not() -> None:
    axis = torch.arange(SIZE) - SIZE // 2.0

    def skewness(correction: KernelCorrection) -> float:
        kernel = correction(current(2.5), torch.tensor([4]), correction_features(1)).kernel[0]
        profile = kernel.sum(1)
        centre = (profile * axis).sum()
        return float((profile * (axis - centre) ** 3).sum().detach())

    assert skewness(constant(p30=1.0)) > 0.5
    assert skewness(constant(p30=-1.0)) < -0.5
    assert abs(skewness(constant(p20=1.0, p22=0.5, p04=-0.3))) < 1e-3


def test_the_monomials_go_with_the_kernel() -> None:
    """A kernel twice as wide has the same shapes, seen at twice the distance, but for 0.1 added to its variance."""
    small, wide = (monomials(isotropic_gaussian(sigma, SIZE)[None])[0] for sigma in (1.5, 3.0))
    torch.testing.assert_close(wide[..., 1::2, 1::2], small[..., 8:23, 8:23], atol=0.01, rtol=0.08)


def test_it_stays_a_kernel_under_any_change() -> None:
    correction = KernelCorrection((4,)).eval()
    torch.nn.init.normal_(correction.mlp[-1].weight, std=3.0)
    before = Degradation(anisotropic_gaussian(4.0, 0.7, 0.4, SIZE)[None].repeat(4, 1, 1), torch.full((4,), 2.0))
    after = correction(before, torch.full((4,), 4), correction_features(4))
    kernel, noise_level = after.kernel, after.noise_level
    assert bool(kernel.isfinite().all())
    assert kernel.min() >= 0
    torch.testing.assert_close(kernel.sum((1, 2)), torch.ones(4))
    assert bool((noise_level > 0).all())


def test_it_learns_what_the_true_image_shows() -> None:
    """Of kernels 25 % too wide or too narrow, the residual with the true image tells which: new ones are mended."""

    def example(seed: int) -> tuple[Degradation, CorrectionFeatures, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        x = torch.rand(32, 1, 96, 96, generator=generator)
        true = torch.stack([isotropic_gaussian(1.5 + float(torch.rand((), generator=generator)), SIZE)] * 32)
        factor = torch.where(torch.rand(32, generator=generator) < 0.5, 0.75, 1.25)
        width = float(monomials(true[:1])[2])
        believed = torch.stack([isotropic_gaussian(width * float(f), SIZE) for f in factor])
        y = DegradationOperator(true, 2)(x)
        shown = CorrectionFeatures(
            spectral_statistics(y), spectral_statistics(x), kernel_error_map(y, x, believed, 2, SIZE), torch.zeros(32)
        )
        return Degradation(believed, torch.full((32,), 0.3)), shown, true

    torch.manual_seed(0)
    correction, scale = KernelCorrection((2,)), torch.full((32,), 2)
    optimiser = torch.optim.Adam(correction.parameters(), 3e-3)
    seen = [example(seed) for seed in range(6)]
    for step in range(200):  # the running averages of the inputs need so many
        believed, shown, true = seen[step % 6]
        loss = (correction(believed, scale, shown).kernel - true).abs().sum((1, 2)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    believed, shown, true = example(100)
    with torch.no_grad():
        after = correction.eval()(believed, scale, shown).kernel
    before = float((believed.kernel - true).abs().sum((1, 2)).mean())
    assert float((after - true).abs().sum((1, 2)).mean()) < 0.6 * before
