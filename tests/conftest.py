"""A tiny network with random weights: everything about the pipeline but its quality can be tested with it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded; see `blinddiff.openmp_settings`
os.environ.setdefault("GOMP_SPINCOUNT", "0")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes of `make test` share the cores

import numpy as np
import pytest
import torch
from scipy import ndimage

from blinddiff.evaluation.data import shifted_kernel
from blinddiff.models.mcformer import ADDED, MCFormer
from blinddiff.sampling.pipeline import BlindDiffPipeline
from blinddiff.sampling.schedulers import default_scheduler


@pytest.fixture(scope="session")
def tiny_model() -> dict[str, Any]:
    """Arguments of `MCFormer`."""
    return {"dim": 8, "num_blocks": [1, 1], "heads": [1, 1], "estimator_hidden": 32, "embedding_dim": 16}


@pytest.fixture(scope="session")
def tiny_pipeline(tiny_model: dict[str, Any]) -> BlindDiffPipeline:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MCFormer(**tiny_model).eval().requires_grad_(False)
        # Layers that start at zero would hide whether what goes into them arrives.
        for name, parameter in network.named_parameters():
            if not parameter.any():
                parameter.normal_(std=0.003 if name.startswith(ADDED) else 0.1)
    return BlindDiffPipeline(network, default_scheduler(network))


@pytest.fixture(scope="session")
def tiny_weights(tiny_pipeline: BlindDiffPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder written by `save_pretrained`."""
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    tiny_pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def div2krk_degrade() -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:
    """How DIV2KRK was made: HR (H, W, 3) uint8, stored kernel and scale s -> LR (ceil(H / s), ceil(W / s), 3) uint8.

    *Correlation* with the shifted kernel, symmetric border, samples at 0, s, 2s ..., truncated to 8 bit (not rounded).
    """

    def degrade(hr: np.ndarray, kernel: np.ndarray, scale: int) -> np.ndarray:
        shifted = shifted_kernel(kernel, scale)
        planes = [
            ndimage.correlate(hr[..., channel].astype(np.float64), shifted, mode="reflect")[::scale, ::scale]
            for channel in range(3)
        ]
        return np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)

    return degrade
