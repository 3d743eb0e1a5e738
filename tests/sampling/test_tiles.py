"""Tiles against the whole: the same but for what a tile cannot see, whatever the sizes, the steps and the memory."""

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.ndimage
import skimage.data
import torch

from blinddiff.degradation import Degradation, Observation
from blinddiff.errors import is_lack_of_memory
from blinddiff.models.denoiser import Prediction
from blinddiff.sampling import restoration
from blinddiff.sampling import wrappers as module
from blinddiff.sampling.image_steps import IMAGE_STEPS
from blinddiff.sampling.kernel_steps import KERNEL_STEPS
from blinddiff.sampling.spans import OVERLAP, RAMP
from blinddiff.sampling.wrappers import (
    MIN_PLANNED_SIDE,
    MIN_SIDE,
    Tiled,
    TiledImageStep,
    Tiles,
    plan_tiles,
    tiled_kernel_step,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def levels(difference):
    """RMS in grey levels."""
    return 255 * float(difference.square().mean().sqrt())


@pytest.fixture(scope="module")
def low():
    """Part of a photograph, blurred, (1, 3, 168, 232)."""
    pixels = skimage.data.astronaut()[40:376:2, :464:2] / 255
    pixels = scipy.ndimage.gaussian_filter(pixels, (1, 1, 0))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float()


@pytest.fixture(scope="module")
def known():
    line = torch.exp(-((torch.arange(-10, 11) / 2.0) ** 2) / 2)
    kernel = line[:, None] * line
    return Degradation(kernel[None] / kernel.sum(), torch.tensor([1.0]))


@pytest.fixture
def restore(tiny_pipeline, low, monkeypatch):
    """Restore `low` times 3 in tiles of a side, or whole."""

    def restore(side, image=low, **arguments):
        monkeypatch.setattr(
            restoration,
            "plan_tiles",
            lambda y, scale, network, *_: made.append(Tiles(y, scale, network.size_multiple, side)) or made[-1],
        )
        made = []
        settings = {"scale": 3, "num_inference_steps": 1, "generator": seeded(), "output_type": "pt", **arguments}
        out = tiny_pipeline(image, **settings)
        return out, made[0]

    return restore


@pytest.mark.parametrize("unit", [8, 16])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("side", [MIN_SIDE, 500, 1000])
def test_the_lattice(side, scale, unit):
    y = torch.zeros(1, 3, 8, 8)
    tiles = Tiles(y, scale, unit, side)
    lattice = math.lcm(unit, scale)
    for length in range(8 * scale, 4000 // scale * scale, 37 * scale):
        spans = tiles.spans(length)
        total = np.zeros(length, np.float32)
        for span in spans:
            assert span.start % lattice == 0
            assert span.stop - span.start <= max(side, 2 * OVERLAP + 2 * lattice)
            total[span.start : span.stop] += span.weights
        assert np.allclose(total, 1, atol=1e-6)
        assert spans[-1].stop == length
        for one, next_one in pairwise(spans):
            assert one.stop - next_one.start >= OVERLAP
            halo = (one.stop - next_one.start - RAMP) // 2 - lattice
            assert not one.weights[-halo:].any()
            assert not next_one.weights[:halo].any()
            assert np.abs(np.diff(one.weights)).max() < 2 / RAMP  # a ramp, not an edge


def test_the_plan_follows_the_memory(tiny_pipeline):
    y = torch.zeros(2, 3, 500, 700)
    sides = [
        plan_tiles(y, 4, tiny_pipeline.network, needs, memory).side
        for needs in (False, True)
        for memory in (2**40, 2**32, 2**31 + 2**30, 1)
    ]
    assert sides[0] is sides[4] is None  # all at once
    assert sides[1] > sides[2] > sides[3] == sides[7] == MIN_PLANNED_SIDE
    assert sides[5] < sides[1]
    thin = torch.zeros(1, 3, 8, 300_000)
    assert plan_tiles(thin, 4, tiny_pipeline.network, False, 2**33).side > 4000


def test_what_fits_goes_the_old_way(restore, tiny_pipeline, low, monkeypatch):
    """One tile: the network sees the very tensors, once a step."""
    seen = []
    forward = type(tiny_pipeline.network).forward
    monkeypatch.setattr(
        type(tiny_pipeline.network), "forward", lambda self, *a, **o: seen.append(a[0].shape) or forward(self, *a, **o)
    )
    restore(None, low.repeat(2, 1, 1, 1), num_inference_steps=2)
    assert seen == [(2, 3, 504, 696)] * 2


@pytest.mark.parametrize("mode", ["fidelity", "perceptual"])
def test_tiled_against_whole(restore, mode):
    whole, _ = restore(None, mode=mode, num_inference_steps=2)
    tiled, tiles = restore(MIN_PLANNED_SIDE, mode=mode, num_inference_steps=2)
    assert tiles.side == MIN_PLANNED_SIDE
    assert 0 < levels(tiled.images - whole.images) < 0.5
    assert float((tiled.kernels - whole.kernels).abs().sum()) < 0.05
    assert tiled.kernel_trajectory.shape == whole.kernel_trajectory.shape
    assert torch.equal(tiled.images, restore(MIN_PLANNED_SIDE, mode=mode, num_inference_steps=2)[0].images)


def test_a_batch_is_taken_image_by_image(restore, low):
    batch = torch.cat([low, low.flip(-1) ** 2])
    together, _ = restore(None, batch, generator=[seeded(1), seeded(2)])
    apart, _ = restore(1000, batch, generator=[seeded(1), seeded(2)])
    assert torch.allclose(together.images, apart.images, atol=1e-4)
    assert torch.allclose(together.kernels, apart.kernels, atol=1e-5)
    assert not torch.allclose(apart.kernels[0], apart.kernels[1], atol=1e-5)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.cuda.OutOfMemoryError("CUDA out of memory"), RuntimeError("CPU: can't allocate memory: 9 B")],
)
def test_what_counts_as_a_lack_of_memory(error):
    assert is_lack_of_memory(error)
    assert not is_lack_of_memory(RuntimeError("shapes differ"))
    assert not is_lack_of_memory(ValueError("out of memory"))


def test_running_out_of_memory_halves_the_tile(restore, tiny_pipeline, monkeypatch):
    forward = type(tiny_pipeline.network).forward
    expected, _ = restore(348)
    sizes = []

    def limited(self, x_t, *rest, **options):
        sizes.append(x_t.shape[-1])
        if x_t.shape[-1] > 400:
            raise MemoryError
        return forward(self, x_t, *rest, **options)

    monkeypatch.setattr(type(tiny_pipeline.network), "forward", limited)
    out, tiles = restore(None)
    assert tiles.side == 348
    assert sizes[0] == 696
    # The first image was there already, made whole.
    assert levels(out.images - expected.images) < 0.05
    monkeypatch.setattr(type(tiny_pipeline.network), "forward", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        restore(None)


def test_other_errors_halve_nothing(restore, tiny_pipeline, monkeypatch):
    monkeypatch.setattr(
        type(tiny_pipeline.network), "forward", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("else"))
    )
    with pytest.raises(RuntimeError, match="else"):
        restore(None)


@pytest.mark.parametrize("scale", [1, 3])
def test_the_physics_in_tiles_is_that_of_the_whole(tiny_pipeline, low, known, scale):
    """The closed form and the image step have no global parts: the halo is all they need."""
    y = low if scale == 3 else torch.nn.functional.interpolate(low, scale_factor=3)
    tiles = Tiles(y, scale, 16, MIN_SIDE)
    assert len(list(tiles)) > 2
    network = tiny_pipeline.network
    observation = Observation(y, scale)
    whole = network.closed_form_image(observation, known)
    tiled = Tiled(network, tiles).closed_form_image(observation, known)
    assert levels(tiled - whole) < 0.01
    x0_hat = (whole + 0.1 * torch.randn(whole.shape, generator=seeded())).clamp(0, 1)
    proximal = IMAGE_STEPS["proximal"]
    inputs = whole, x0_hat, observation, known, 0.03
    assert levels(TiledImageStep(proximal, tiles)(*inputs)[0] - proximal(*inputs)[0]) < 0.02
    kept, _ = TiledImageStep(IMAGE_STEPS["none"], tiles)(*inputs)
    assert torch.allclose(kept, x0_hat, atol=1e-6)


def test_a_shift_of_an_image_step_is_kept(low, known):
    tiles = Tiles(low, 3, 16, MIN_SIDE)
    x_t = torch.rand(1, 3, 504, 696, generator=seeded())

    def step(x_t, x0_hat, observation, degradation, prior_error):
        return x0_hat, 2 * x_t

    step.needs_gradient = False
    _, shift = TiledImageStep(step, tiles)(x_t, x_t, Observation(low, 3), known, 0.03)
    assert torch.allclose(shift, 2 * x_t, atol=1e-6)


def test_one_kernel_for_all_tiles_weighted_by_gradient_energy(low, known):
    """The flat half of an image does not count."""
    y = low.clone()
    y[..., 100:] = 0.5
    tiles = Tiles(y, 3, 16, MIN_SIDE)
    seen = []

    def step(state, prediction, part):
        flat = float(part.y.std()) < 1e-4
        seen.append(flat)
        return Degradation(state.kernel.roll(3, -1) if flat else state.kernel.roll(1, -1), state.noise_level + flat)

    prediction, observation = Prediction(torch.zeros(1, 3, 504, 696), known), Observation(y, 3)
    moved = tiled_kernel_step(step, tiles)(known, prediction, observation)
    assert {True, False} == set(seen)
    assert torch.allclose(moved.kernel, known.kernel.roll(1, -1), atol=1e-6)
    assert torch.allclose(moved.noise_level, known.noise_level)
    assert tiled_kernel_step(KERNEL_STEPS["fixed"], tiles)(known, prediction, observation) is known


def test_a_gradient_is_that_of_all_tiles_together(tiny_pipeline, low, known, monkeypatch):
    """Recomputed tile by tile, it is what recording everything at once gives."""
    tiles = Tiles(low, 3, 16, MIN_SIDE)
    network, observation = Tiled(tiny_pipeline.network, tiles), Observation(low, 3)
    x_y = network.closed_form_image(observation, known)
    step = TiledImageStep(IMAGE_STEPS["gradient"], tiles)
    shifts = []
    for _ in range(2):
        x_t = (network.normalize(x_y) + 0.1 * torch.randn(x_y.shape, generator=seeded())).requires_grad_()
        with torch.enable_grad():
            prediction = network(x_t, torch.tensor([300]), observation, known)
            shifts.append(step(x_t, prediction.x0_hat, observation, known, 0.03)[1])

        def recorded(call, *arguments, use_reentrant, **options):
            return call(*arguments, **options)

        monkeypatch.setattr(module, "checkpoint", recorded)
    assert shifts[0].abs().max() > 1e-3
    assert torch.allclose(*shifts, atol=1e-6)


def test_no_seams(restore):
    """A texture of the same statistics everywhere shows no lattice: neither in its level nor in its strength."""
    texture = 0.5 + 0.1 * torch.randn(1, 3, 8, 232 * 2, generator=seeded(5))
    texture = texture.repeat(1, 1, 24, 1) + 0.05 * torch.randn(1, 3, 192, 464, generator=seeded(6))
    texture = torch.from_numpy(scipy.ndimage.gaussian_filter(texture.numpy(), (0, 0, 1, 1)))
    out, tiles = restore(MIN_PLANNED_SIDE, texture)
    width = 464 * 3
    cuts = [s.start + int((s.weights < 0.5).sum()) for s in tiles.spans(width)[1:]]
    assert len(cuts) >= 2
    steps = 255 * (out.images[..., 1:] - out.images[..., :-1]).abs().mean((0, 1, 2)).numpy()
    near = np.zeros(width - 1, bool)
    for cut in cuts:
        near[cut - RAMP // 2 : cut + RAMP // 2] = True
    smooth = scipy.ndimage.uniform_filter(steps, 24)
    assert abs(smooth[near].mean() - smooth[~near].mean()) < 1
