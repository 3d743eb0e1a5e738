"""Kernels are found from their power spectra, up to a shift and the mirror image."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from blinddiff.degradation.kernel_measures import centroid
from blinddiff.degradation.kernels import FAMILIES
from blinddiff.degradation.phase_retrieval import retrieve_kernels

GRID = 64
REPOSITORY = Path(__file__).resolve().parents[2]


def distance(kernel: Tensor, truth: Tensor) -> float:
    """Smallest sum |k - k_true| over shifts and the mirror image."""
    margin = 12
    kernel, truth = (torch.nn.functional.pad(each, [margin] * 4) for each in (kernel, truth))
    shifts = range(-margin, margin + 1)
    moved = [each.roll((i, j), (0, 1)) for each in (kernel, kernel.flip((0, 1))) for i in shifts for j in shifts]
    return min(float((each - truth).abs().sum()) for each in moved)


def power_of(kernels: Tensor) -> Tensor:
    return torch.fft.rfft2(kernels, s=(GRID, GRID)).abs().square()


def test_shaken_kernels_are_found() -> None:
    kernels = FAMILIES["hand_shake"].sample(8, 1, 31, torch.Generator().manual_seed(1))
    all_found, misfits = retrieve_kernels(power_of(kernels), 31)
    found, misfit = all_found[:, 0], misfits[:, 0]
    errors = [distance(one, truth) for one, truth in zip(found, kernels, strict=True)]
    assert sorted(errors)[6] < 0.05, errors  # at most one start in eight ends elsewhere
    assert float(misfit.median()) < 1e-3
    torch.testing.assert_close(found.sum((1, 2)), torch.ones(8))
    assert bool((found >= 0).all())
    assert float(centroid(found).abs().max()) < 0.6


def test_a_wrong_spectrum_shows_in_the_misfit() -> None:
    kernels = FAMILIES["hand_shake"].sample(2, 1, 31, torch.Generator().manual_seed(2))
    noise = torch.randn(2, GRID, GRID // 2 + 1, generator=torch.Generator().manual_seed(3))
    _, true = retrieve_kernels(power_of(kernels), 31)
    _, wrong = retrieve_kernels(power_of(kernels) * noise.exp(), 31)
    assert bool((wrong[:, 0] > 5 * true[:, 0]).all())


def test_kernels_of_real_camera_shake_are_found() -> None:
    named = os.environ.get("BLINDDIFF_DATA")
    file = (Path(named) if named else REPOSITORY.parent / "shared/data/test") / "kernels/levin09.npz"
    if not file.exists():
        pytest.skip("the kernels of Levin et al. are not there")
    with np.load(file) as stored:
        kernels = [torch.from_numpy(stored[f"k{number}"]).float() for number in range(1, 9)]
    for kernel in kernels:
        truth = torch.zeros(31, 31)
        truth[: kernel.shape[0], : kernel.shape[1]] = kernel
        ((found, *_),), _ = retrieve_kernels(power_of(truth[None]), 31)
        assert distance(found, truth) < 0.05
