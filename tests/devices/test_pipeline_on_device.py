"""The pipeline on a device other than the CPU: nothing is left on the CPU, and the result is that of the CPU."""

import copy
from dataclasses import fields
from typing import Any

import pytest
import torch
from stand_in import stand_in_device
from torch import Tensor

from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.models.picture_kind import PICTURE_KINDS, PictureClassifier, PictureKind
from blinddiff.published.network import PublishedMCFormer
from blinddiff.sampling.image_steps import IMAGE_STEPS
from blinddiff.sampling.kernel_steps import KERNEL_STEPS
from blinddiff.sampling.modes import MODES
from blinddiff.sampling.output import BlindDiffOutput
from blinddiff.sampling.pipeline import BlindDiffPipeline
from blinddiff.sampling.schedulers import SCHEDULERS, default_scheduler

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
KERNEL = isotropic_gaussian(1.5, 15)
MASK = torch.zeros(24, 20, dtype=torch.bool)
MASK[8:12, 5:15] = True
CALLS: dict[str, dict[str, Any]] = {
    **{f"mode {name}": {"mode": name} for name in MODES if name != "paper"},
    **{f"image step {name}": {"image_step": name, "num_inference_steps": 2} for name in IMAGE_STEPS},
    **{f"kernel step {name}": {"kernel_step": name} for name in KERNEL_STEPS if name != "fixed"},
    **{f"scheduler {name}": {"scheduler": name, "num_inference_steps": 3} for name in (*SCHEDULERS, "own")},
    **{f"scale {scale}": {"scale": scale, "mode": "fast"} for scale in (1, 2, 3, 4)},
    "given kernel": {"kernel": KERNEL.numpy(), "kernel_step": "damped"},
    "fixed kernel": {"kernel": KERNEL, "noise_level": 2.0},
    "mask": {"mask": MASK.numpy()},
    "samples": {"num_samples": 2, "mode": "perceptual", "num_inference_steps": 2},
    "tiles": {"max_memory": 1, "scale": 4, "mode": "fast", "image": torch.rand(1, 3, 140, 24)},
    "batch": {"image": torch.rand(2, 3, 24, 20), "jpeg_step": 6.0},
    "dark frame": {"image": torch.nn.functional.pad(torch.rand(1, 3, 24, 20), (6, 6, 6, 6))},
}


def call(pipeline: BlindDiffPipeline, **arguments: Any) -> BlindDiffOutput:
    image = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(1)
    return pipeline(**{"image": image, "scale": 2, "output_type": "pt", "generator": generator, **arguments})


def assert_same(found: Any, expected: Any) -> None:
    """All tensors of two outputs are on the CPU, and equal bit by bit."""
    for field in fields(expected):
        ours, theirs = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(theirs, Tensor):
            assert type(ours) is Tensor, f"{field.name} is still on the device"
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0, msg=field.name)


def on_both(pipeline: BlindDiffPipeline, **arguments: Any) -> tuple[BlindDiffOutput, BlindDiffOutput]:
    """The output on the stand-in device, and that on the CPU."""
    expected = call(pipeline, **arguments)
    with stand_in_device() as device:
        moved = copy.deepcopy(pipeline).to(device)
        assert all(parameter.device == device for parameter in moved.network.parameters())
        return call(moved, **arguments), expected


@pytest.mark.parametrize("name", CALLS)
def test_every_option_stays_on_the_device(tiny_pipeline: BlindDiffPipeline, name: str) -> None:
    assert_same(*on_both(tiny_pipeline, **CALLS[name]))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["mode fidelity", "mode perceptual", "image step gradient", "tiles"])
def test_reduced_precision_stays_on_the_device(tiny_pipeline: BlindDiffPipeline, name: str, dtype: str) -> None:
    reduced = copy.deepcopy(tiny_pipeline).to(DTYPES[dtype])
    found, expected = on_both(reduced, **CALLS[name])
    assert_same(found, expected)
    assert {parameter.dtype for parameter in reduced.network.parameters()} == {DTYPES[dtype]}


def test_a_picture_that_was_enlarged(tiny_pipeline: BlindDiffPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is restored from its own size, on the device."""

    def kind(self: PictureClassifier, statistics: Any, pixels: Tensor) -> PictureKind:
        probabilities = pixels.new_zeros(len(pixels), len(PICTURE_KINDS))
        probabilities[:, PICTURE_KINDS.index("enlarged")] = 1
        return PictureKind(probabilities, pixels.new_full((len(pixels),), 2.0), self.limits)

    monkeypatch.setattr(PictureClassifier, "kind", kind)
    found, expected = on_both(tiny_pipeline, image=torch.rand(1, 3, 48, 48), mode="fast")
    assert_same(found, expected)
    assert found.decisions is not None
    assert found.decisions[0].factor == 2


@pytest.mark.parametrize("mode", ["paper", "fidelity"])
def test_the_published_network(mode: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = PublishedMCFormer(dim=8, num_blocks=[1, 1], heads=[1, 1], embedding_dim=16, scales=(4,))
    pipeline = BlindDiffPipeline(network.requires_grad_(False), default_scheduler(network))
    assert_same(*on_both(pipeline, mode=mode, scale=4, num_inference_steps=2))


def test_what_needs_no_image_network(tiny_pipeline: BlindDiffPipeline) -> None:
    """Estimate, kernel map and closed form."""
    image = torch.rand(1, 3, 200, 100, generator=torch.Generator().manual_seed(0))

    def results(pipeline: BlindDiffPipeline) -> list[Tensor]:
        estimate, regions = pipeline.estimate(image, 2), pipeline.kernel_map(image, 2)
        assert estimate.noise_spectrum is not None
        closed_forms = pipeline.closed_form(image, 2), pipeline.closed_form(image, 2, KERNEL)
        return [estimate.kernel, estimate.noise_spectrum, regions.kernels, regions.contrasts, *closed_forms]

    expected = results(tiny_pipeline)
    with stand_in_device() as device:
        found = results(copy.deepcopy(tiny_pipeline).to(device))
    for ours, theirs in zip(found, expected, strict=True):
        assert type(ours) is Tensor
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="needs a GPU")
def test_a_gpu_gives_nearly_the_result_of_the_cpu(tiny_pipeline: BlindDiffPipeline) -> None:
    """The stand-in says nothing about a GPU's own rounding and missing operations."""
    gpu = copy.deepcopy(tiny_pipeline).to(torch.accelerator.current_accelerator())
    for name, arguments in CALLS.items():
        found, expected = call(gpu, **arguments), call(tiny_pipeline, **arguments)
        torch.testing.assert_close(found.images, expected.images, rtol=0, atol=0.02, msg=name)
