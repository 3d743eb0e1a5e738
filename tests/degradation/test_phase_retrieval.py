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
    """Sum |k - k_true| with the centroids in one place, exactly or by whole pixels; the least with the mirror image."""
    rows, columns = torch.fft.fftfreq(GRID)[:, None], torch.fft.rfftfreq(GRID)
    target = torch.fft.irfft2(torch.fft.rfft2(truth, s=(GRID, GRID)), s=(GRID, GRID))
    found = []
    for given in (kernel, kernel.flip((0, 1))):
        offset = centroid(given) - centroid(truth)
        for down, across in (offset.tolist(), offset.round().tolist()):
            phase = torch.exp(2j * torch.pi * (rows * down + columns * across))
            moved = torch.fft.irfft2(torch.fft.rfft2(given, s=(GRID, GRID)) * phase, s=(GRID, GRID))
            found.append(float((moved - target).abs().sum()))
    return min(found)


def power_of(kernels: Tensor) -> Tensor:
    return torch.fft.rfft2(kernels, s=(GRID, GRID)).abs().square()


def test_most_shaken_kernels_are_found_to_a_hundredth() -> None:
    kernels = FAMILIES["motion"].sample(8, 4, 31, torch.Generator().manual_seed(1))
    all_found, misfits = retrieve_kernels(power_of(kernels), 31)
    found = all_found[:, 0]
    errors = [distance(one, truth) for one, truth in zip(found, kernels, strict=True)]
    assert sorted(errors)[5] < 0.01, errors  # the others stop at a near miss, which their misfits show
    assert float(misfits[:, 0].median()) < 1e-4
    assert bool((misfits.diff(dim=1) >= 0).all())
    torch.testing.assert_close(all_found.sum((2, 3)), torch.ones(misfits.shape))
    assert bool((all_found >= 0).all())


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
