"""The kernel of a camera shake is told from its mirror image by the sparsity of edges, and taken where it is clear."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from blinddiff import BlindDiffPipeline
from blinddiff.degradation import Degradation, DegradationOperator, Observation
from blinddiff.degradation.kernels import FAMILIES, isotropic_gaussian
from blinddiff.sampling import alternation
from blinddiff.sampling.alternation import COMPARED, find_shake
from blinddiff.sampling.decision import AS_ESTIMATED, SHAKEN
from blinddiff.training.pictures import dead_leaves

SIDE = 31
SHAKE = FAMILIES["hand_shake"].sample(12, 1, SIDE, torch.Generator().manual_seed(2))[5:6]


def blurred(kernel: Tensor) -> Observation:
    """A picture of random occluding shapes, blurred, with noise of 1 grey level."""
    x = dead_leaves(192, 192, np.random.default_rng(0), 3.0)[None]
    y = DegradationOperator(kernel, 1, boundary="circular")(x)[..., 16:-16, 16:-16]
    return Observation((y + torch.randn(y.shape, generator=torch.Generator().manual_seed(1)) / 255).clamp(0, 1), 1)


def retrieving(kernel: Tensor | None) -> Callable[[Observation, Tensor], Tensor | None]:
    """A perfect retrieval, which knows nothing of the mirror image either."""

    def retrieve(observation: Observation, noise_level: Tensor) -> Tensor | None:
        return None if kernel is None else kernel[:, None].expand(len(observation), COMPARED, -1, -1)

    return retrieve


@pytest.mark.parametrize("turned", [False, True])
def test_the_kernel_is_told_from_its_mirror_image(turned: bool) -> None:
    kernel = SHAKE.flip((1, 2)) if turned else SHAKE
    network = SimpleNamespace(shaken_kernels=retrieving(SHAKE))
    shake = find_shake(network, blurred(kernel), Degradation(SHAKE, torch.tensor([1.0])))
    assert shake is not None
    assert torch.equal(shake.kernel, kernel)
    assert shake.is_clear.tolist() == [True]


def test_a_symmetric_kernel_is_left_to_the_estimator() -> None:
    gaussian = isotropic_gaussian(1.5, SIDE)[None]
    network = SimpleNamespace(shaken_kernels=retrieving(gaussian))
    shake = find_shake(network, blurred(gaussian), Degradation(gaussian, torch.tensor([1.0])))
    assert shake is not None
    assert shake.is_clear.tolist() == [False]


def test_the_pipeline_says_and_keeps_what_it_took(
    tiny_pipeline: BlindDiffPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = tiny_pipeline
    monkeypatch.setattr(alternation, "MAX_LOSS", float("inf"))  # because the estimate of random weights is random
    y = blurred(SHAKE).y

    def restore(kernel: Tensor | None) -> Any:
        monkeypatch.setattr(pipeline.network, "shaken_kernels", retrieving(kernel))
        generator = torch.Generator().manual_seed(0)
        return pipeline(y, 1, "fast", kernel_step="alternate", noise_level=1.0, generator=generator, output_type="pt")

    shaken, estimated = restore(SHAKE), restore(None)
    assert [d.fallback for d in shaken.decisions] == [SHAKEN]
    assert "camera shake" in shaken.decisions[0].sentence
    torch.testing.assert_close(shaken.kernels, SHAKE)
    assert [d.fallback for d in estimated.decisions] == [AS_ESTIMATED]
    default = pipeline(y, 1, "fast", noise_level=1.0, generator=torch.Generator().manual_seed(0), output_type="pt")
    assert torch.equal(estimated.images, default.images)
