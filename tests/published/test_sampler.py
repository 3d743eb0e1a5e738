"""The published sampler, step by step against a recording of the authors' code."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from blinddiff.degradation import Observation
from blinddiff.published.network import network_from_published, read_published
from blinddiff.sampling.image_steps import IMAGE_STEPS
from blinddiff.sampling.kernel_steps import KERNEL_STEPS
from blinddiff.sampling.loop import restore
from blinddiff.sampling.pipeline import MODES
from blinddiff.sampling.schedulers import NoiseSource, make_scheduler

REFERENCE = Path(__file__).parents[2] / ".." / "shared" / "reference"


class RecordedNoise(NoiseSource):
    """The draws of the recording, in their order."""

    def __init__(self, draws: list[Tensor]) -> None:
        super().__init__((1, 3, 64, 64), None, torch.device("cpu"))
        self._recorded = iter(draws)

    def __call__(self) -> Tensor:
        return next(self._recorded)


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the recorded tensors are not beside the repository")
def test_paper_mode_reproduces_the_recorded_trajectory() -> None:
    network = network_from_published(read_published(REFERENCE / "official_small_checkpoint.pth"))
    network = network.eval().requires_grad_(False)
    recorded = load_file(REFERENCE / "official_outputs.safetensors")
    mode = MODES["paper"]
    scheduler = make_scheduler(mode.scheduler, network, 6, torch.device("cpu"))
    assert torch.equal(scheduler.timesteps, recorded["sampler.timesteps"])
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    restore(
        network,
        scheduler,
        Observation(recorded["sampler.y"], 4),
        None,
        RecordedNoise([recorded["sampler.x_T"], *recorded["sampler.noise"].split(1)]),
        IMAGE_STEPS[mode.image_step],
        KERNEL_STEPS[mode.kernel_step],
        lambda _, __, x_t, x0_hat, k_t: steps.append((x_t, x0_hat, k_t)),
    )
    assert len(steps) == 6
    for i, (x_t, x0_hat, k_t) in enumerate(steps):
        # Random weights give a few pixels standard deviations in the thousands: hence the relative part.
        torch.testing.assert_close(x_t[0], recorded["sampler.x_prev"][i], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(x0_hat[0], recorded["sampler.pred_x0"][i], atol=1e-4, rtol=1e-4)
        # Their kernels are correlated with, ours convolved.
        torch.testing.assert_close(k_t[0].flip(-1, -2), recorded["sampler.kernel"][i], atol=1e-4, rtol=0)
