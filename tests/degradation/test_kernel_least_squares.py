"""The kernel from an image and its degraded version, against dense constrained least squares."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.optimize import nnls
from torch import Tensor

from blinddiff.degradation import Bicubic, Decimate, DegradationOperator, Downsampling
from blinddiff.degradation.kernel_fit import fit_kernel, kernel_normal_equations, project_to_simplex
from blinddiff.degradation.kernels import anisotropic_gaussian, isotropic_gaussian
from blinddiff.errors import ParameterError


@dataclass(frozen=True)
class Case:
    """A downsampling at a scale, and the side of the kernel."""

    downsampling: Downsampling
    scale: int
    size: int

    def degrade(self, x: Tensor, kernel: Tensor) -> Tensor:
        return DegradationOperator(kernel, self.scale, self.downsampling)(x)

    def __str__(self) -> str:
        name = f"decimate{self.downsampling.offset}" if isinstance(self.downsampling, Decimate) else "bicubic"
        return f"{name}-x{self.scale}-k{self.size}"


CASES = [
    Case(Bicubic(), 1, 5),
    Case(Bicubic(), 2, 5),
    Case(Bicubic(), 3, 6),
    Case(Bicubic(), 4, 7),
    Case(Decimate(0), 1, 4),
    Case(Decimate(1), 2, 5),
    Case(Decimate(0), 3, 5),
    Case(Decimate(2), 3, 7),
    Case(Decimate(3), 4, 6),
]


def random_kernels(count: int, size: int, generator: torch.Generator) -> Tensor:
    kernel = torch.rand(count, size, size, generator=generator, dtype=torch.float64) ** 3
    return kernel / kernel.sum((1, 2), keepdim=True)


def random_images(count: int, side: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, 3, side, side, generator=generator, dtype=torch.float64)


def design(case: Case, x: Tensor) -> npt.NDArray[np.float64]:
    """A(x, delta_q) for each entry q of the kernel: (C, h, w, size^2); the operator itself is tested elsewhere."""
    deltas = torch.eye(case.size**2, dtype=torch.float64).unflatten(1, (case.size, case.size))
    columns = case.degrade(x.expand(len(deltas), -1, -1, -1), deltas)
    return columns.permute(1, 2, 3, 0).numpy()


def inside(case: Case) -> slice:
    """LR pixels whose downsampling filter (2 LR pixels to either side) surely lies within the image."""
    return slice(2, -2) if isinstance(case.downsampling, Bicubic) and case.scale > 1 else slice(None)


# Antialiasing by 3 and 4 removes kernel entries' differences below any sensible weight (eigenvalues of G under 1e-9).
WELL_POSED = [case for case in CASES if isinstance(case.downsampling, Decimate) or case.scale < 3]


@pytest.mark.parametrize("case", WELL_POSED, ids=str)
def test_recovers_a_random_kernel(case: Case, generator: torch.Generator) -> None:
    truth = random_kernels(2, case.size, generator)
    x = random_images(2, 20 * case.scale, generator)
    prior = torch.full_like(truth, 1 / case.size**2)
    found = fit_kernel(case.degrade(x, truth), x, prior, 1e-9, case.scale, case.downsampling)
    assert (found - truth).abs().sum((1, 2)).max() < 1e-3


def test_recovers_a_kernel_from_a_photograph(photograph: Tensor) -> None:
    truth = anisotropic_gaussian(2.2, 1.1, 0.7, 15).double()[None]
    x = photograph[..., :256, :384]
    y = DegradationOperator(truth, 2)(x)
    prior = isotropic_gaussian(1.6, 15).double()[None]
    found = fit_kernel(y, x, prior, 1e-7, 2)
    assert (found - truth).abs().sum() < 0.1 * (prior - truth).abs().sum()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_normal_equations_are_those_of_the_dense_problem(case: Case, generator: torch.Generator) -> None:
    x = random_images(2, 12 * case.scale, generator)
    y = random_images(2, 12, generator)
    gram, moment = kernel_normal_equations(y, x, case.size, case.scale, case.downsampling)
    assert gram.shape == (2, case.size**2, case.size**2)
    kernels = random_kernels(6, case.size, generator).flatten(1)
    for i in range(2):
        matrix = torch.from_numpy(design(case, x[i : i + 1]))[:, inside(case), inside(case)].flatten(0, 2)
        target = y[i, :, inside(case), inside(case)].flatten()
        exact = (target - kernels @ matrix.T).square().mean(1)
        quadratic = ((kernels @ gram[i]) * kernels).sum(1) - 2 * kernels @ moment[i]
        torch.testing.assert_close(quadratic - quadratic[0], exact - exact[0], atol=1e-10, rtol=0)


def constrained_solution(gram: npt.NDArray[np.float64], moment: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """argmin k^T G k - 2 b^T k, k >= 0, sum k = 1, by scipy's active set."""
    heavy = 1e4  # a sum other than 1 costs more than all else
    factor = np.linalg.cholesky(gram)
    rows = np.vstack([factor.T, heavy * np.ones((1, len(gram)))])
    right = np.append(np.linalg.solve(factor, moment), heavy)
    solution: npt.NDArray[np.float64] = nnls(rows, right, maxiter=20_000)[0]
    return solution


@pytest.mark.parametrize("weight", [1e-4, 1e-2])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_the_constrained_solution(case: Case, weight: float, generator: torch.Generator) -> None:
    # Strong noise, so that the constraint k >= 0 is at work.
    truth, prior = random_kernels(2, case.size, generator)
    x = random_images(1, 12 * case.scale, generator)
    y = case.degrade(x, truth)
    y = y + 0.1 * torch.randn(y.shape, generator=generator, dtype=torch.float64)
    found = fit_kernel(y, x, prior[None], weight, case.scale, case.downsampling)[0]

    matrix = design(case, x)[:, inside(case), inside(case)].reshape(-1, case.size**2)
    target = y[0, :, inside(case), inside(case)].numpy().ravel()
    gram = matrix.T @ matrix / len(target) + weight * np.eye(case.size**2)
    expected = constrained_solution(gram, matrix.T @ target / len(target) + weight * prior.numpy().ravel())
    np.testing.assert_allclose(found.numpy().ravel(), expected, atol=1e-5)


@pytest.mark.parametrize("weight", [1e-3, 1e-2, 1e-1])
def test_is_the_constrained_solution_on_a_photograph(photograph: Tensor, weight: float) -> None:
    # Natural images condition G badly (1e15), which is what the iteration has to cope with.
    truth, prior = anisotropic_gaussian(2.2, 1.1, 0.7, 15).double(), isotropic_gaussian(2.0, 15).double()
    x = photograph[..., :256, :256]
    y = DegradationOperator(truth, 4)(x)
    y = y + 0.005 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gram, moment = (part[0].numpy() for part in kernel_normal_equations(y, x, 15, 4))
    expected = constrained_solution(gram + weight * np.eye(225), moment + weight * prior.numpy().ravel())
    found = fit_kernel(y, x, prior[None], weight, 4)
    assert np.abs(found.numpy().ravel() - expected).sum() < 5e-4


def test_the_constraint_was_at_work(generator: torch.Generator) -> None:
    x = random_images(1, 24, generator)
    truth = isotropic_gaussian(0.5, 7).double()
    y = DegradationOperator(truth, 2)(x) + 0.05 * torch.randn(1, 3, 12, 12, generator=generator, dtype=torch.float64)
    found = fit_kernel(y, x, torch.full((1, 7, 7), 1 / 49, dtype=torch.float64), 1e-6, 2)
    assert (found == 0).sum() > 5
    gram, moment = kernel_normal_equations(y, x, 7, 2)
    assert torch.linalg.solve(gram[0], moment[0]).min() < -1e-3, "without it, entries are negative"


@pytest.mark.parametrize("weight", [1e-6, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stays_on_the_simplex(weight: float, dtype: torch.dtype, generator: torch.Generator) -> None:
    x, y = random_images(3, 48, generator).to(dtype), random_images(3, 12, generator).to(dtype)
    found = fit_kernel(y, x, random_kernels(3, 9, generator).to(dtype), weight, 4)
    assert found.shape == (3, 9, 9)
    assert found.dtype == dtype
    assert found.min() >= 0
    torch.testing.assert_close(found.sum((1, 2)), torch.ones(3, dtype=dtype), atol=1e-5, rtol=0)


def test_a_huge_weight_returns_the_prior(generator: torch.Generator) -> None:
    x, y, prior = random_images(2, 48, generator), random_images(2, 12, generator), random_kernels(2, 9, generator)
    torch.testing.assert_close(fit_kernel(y, x, prior, 1e9, 4), prior, atol=1e-6, rtol=0)


def test_every_image_has_its_own_weight_and_solution(generator: torch.Generator) -> None:
    x, y, prior = random_images(2, 48, generator), random_images(2, 12, generator), random_kernels(2, 9, generator)
    weights = torch.tensor([1e-3, 1e6], dtype=torch.float64)
    both = fit_kernel(y, x, prior, weights, 4)
    torch.testing.assert_close(both[1], prior[1], atol=1e-5, rtol=0)
    for i in range(2):
        one = slice(i, i + 1)
        torch.testing.assert_close(
            both[one], fit_kernel(y[one], x[one], prior[one], float(weights[i]), 4), atol=1e-5, rtol=0
        )


def test_float32_is_close_to_float64(photograph: Tensor) -> None:
    x = photograph[..., :160, :200]
    y = DegradationOperator(isotropic_gaussian(1.8, 15).double(), 4)(x)
    prior = isotropic_gaussian(2.2, 15).double()[None]
    double = fit_kernel(y, x, prior, 1e-3, 4)
    single = fit_kernel(y.float(), x.float(), prior.float(), 1e-3, 4)
    assert (single.double() - double).abs().sum() < 1e-3


def test_projection_is_the_nearest_point_of_the_simplex(generator: torch.Generator) -> None:
    v = 2 * torch.randn(5, 8, generator=generator, dtype=torch.float64)
    nearest = project_to_simplex(v)
    for row, found in zip(v.numpy(), nearest.numpy(), strict=True):
        np.testing.assert_allclose(found, constrained_solution(np.eye(8), row), atol=1e-6)
    torch.testing.assert_close(project_to_simplex(nearest), nearest)


def test_an_image_too_small_for_the_filter() -> None:
    with pytest.raises(ParameterError, match="3x2 is too small"):
        fit_kernel(torch.zeros(1, 3, 2, 3), torch.zeros(1, 3, 8, 12), torch.full((1, 5, 5), 0.04), 1.0, 4)
