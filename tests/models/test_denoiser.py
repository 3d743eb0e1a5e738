"""Noise schedules."""

import pytest
import torch

from blinddiff.errors import ParameterError
from blinddiff.models.denoiser import NUM_TRAIN_TIMESTEPS, SCHEDULES, alpha_bar, betas


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_only_adds_noise(name: str) -> None:
    b, a = betas(name), alpha_bar(name)
    assert b.shape == a.shape == (NUM_TRAIN_TIMESTEPS,) == (1000,)
    assert ((b > 0) & (b < 1)).all()
    assert (a.diff() < 0).all()
    assert 0 < a[-1] < a[0] < 1
    torch.testing.assert_close(a[1:] / a[:-1], 1 - b[1:])
    torch.testing.assert_close(a[0], 1 - b[0])


def test_log_sigma_is_geometric_from_a_hundredth_to_ten() -> None:
    a = alpha_bar("log_sigma")
    sigma = ((1 - a) / a).sqrt()
    assert float(sigma[0]) == pytest.approx(0.01, rel=1e-9)
    assert float(sigma[-1]) == pytest.approx(10, rel=1e-9)
    steps = sigma.log().diff()
    torch.testing.assert_close(steps, steps.mean().expand_as(steps), rtol=1e-6, atol=0)


def test_linear_is_ho_et_al() -> None:
    b = betas("linear")
    assert float(b[0]) == pytest.approx(1e-4)
    assert float(b[-1]) == pytest.approx(0.02)
    torch.testing.assert_close(b.diff(), b.diff().mean().expand(999), rtol=1e-9, atol=0)


def test_unknown_schedule() -> None:
    with pytest.raises(ParameterError, match="'cosine' is not one of linear, log_sigma"):
        betas("cosine")
