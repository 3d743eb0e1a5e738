"""Pixels that are not believed: the data term without them, their first guess, and what must not depend on them."""

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from skimage.restoration import inpaint_biharmonic

from blinddiff.degradation import Degradation, DegradationOperator, Observation
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.degradation.observation import MODEL_ERROR
from blinddiff.errors import ImageError
from blinddiff.imaging.mask import marked_pixels
from blinddiff.models.statistics import estimator_statistics
from blinddiff.sampling import restoration
from blinddiff.sampling.image_steps import Gradient, Proximal
from blinddiff.sampling.mask import smooth_fill
from blinddiff.sampling.pipeline import BlindDiffPipeline
from blinddiff.sampling.wrappers import MIN_PLANNED_SIDE, Tiles


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_mask(share, *shape):
    return torch.rand(shape, generator=seeded(7)) < share


@pytest.fixture(scope="module")
def photograph():
    """Part of a photograph, (1, 3, 60, 84)."""
    pixels = skimage.data.astronaut()[30:210:3, 100:352:3] / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float()


@pytest.fixture
def restore(tiny_pipeline):
    def restore(image, **arguments):
        settings = {"scale": 2, "generator": seeded(), "output_type": "pt", "as_is": True, **arguments}
        return tiny_pipeline(image, **settings)

    return restore


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_repeated_image_steps_solve_the_weighted_least_squares_problem(scale):
    """Against a dense solve without the rows of A that are not believed."""
    kernel = torch.rand(1, 5, 5, generator=seeded(1), dtype=torch.float64) + 0.1
    kernel /= kernel.sum()
    degradation = Degradation(kernel, torch.tensor([8.0], dtype=torch.float64))
    operator = DegradationOperator(kernel, scale, boundary="circular")  # for which the proximal step is exact
    degradation._operators[scale] = operator
    x_hat = torch.rand(1, 3, 6 * scale, 5 * scale, generator=seeded(2), dtype=torch.float64)
    y = torch.rand(1, 3, 6, 5, generator=seeded(3), dtype=torch.float64)
    believed = ~random_mask(0.3, 1, 1, 6, 5)
    prior_error = 0.05

    observation, x = Observation(y, scale, mask=believed), x_hat
    steps = []
    for _ in range(60):
        observation = observation.filled(degradation, x)
        x, _ = Proximal()(x_hat, x_hat, observation, degradation, prior_error)
        steps.append(x)

    pixels = 30 * scale**2
    units = torch.eye(pixels, dtype=torch.float64).view(pixels, 1, 6 * scale, 5 * scale)
    a = operator(units).flatten(1).T[believed.flatten()].numpy()
    rho = (8**2 + MODEL_ERROR**2) / 255**2 / prior_error**2
    for channel in range(3):
        centre, data = x_hat[0, channel].flatten().numpy(), y[0, channel][believed[0, 0]].numpy()
        expected = np.linalg.solve(a.T @ a + rho * np.eye(pixels), a.T @ data + rho * centre)
        assert np.abs(steps[-1][0, channel].flatten().numpy() - expected).max() < 1e-6
        first = np.abs(steps[0][0, channel].flatten().numpy() - expected).max()
        assert 1e-4 < first < np.abs(centre - expected).max()


def test_the_gradient_step_leaves_them_out():
    """Without the rows of A that are not believed: by automatic differentiation."""
    degradation = Degradation(isotropic_gaussian(1.0, 7)[None], torch.tensor([2.0]))
    x = torch.rand(1, 3, 24, 16, generator=seeded()).requires_grad_()
    y, believed = torch.rand(1, 3, 12, 8, generator=seeded(1)), ~random_mask(0.3, 1, 1, 12, 8)
    observation = Observation(y, 2, mask=believed).filled(degradation, x.detach())
    _, guidance = Gradient()(x, x, observation, degradation, 0.03)
    residual = (y - degradation.operator(2)(x))[believed.expand(-1, 3, -1, -1)]
    (expected,) = torch.autograd.grad(2**2 / 2 * residual.square().sum(), x)
    assert torch.allclose(guidance, -expected, atol=1e-6)


def test_without_a_mask_an_observation_is_its_own_filling():
    observation = Observation(torch.rand(1, 3, 8, 8), 2)
    assert observation.filled(Degradation(torch.ones(1, 1, 1), torch.zeros(1)), torch.rand(1, 3, 16, 16)) is observation


def test_the_first_guess_is_that_of_scikit_image(photograph):
    y = photograph[0]
    marked = np.zeros((60, 84), bool)
    marked[10:13, 5:70] = marked[20:50, 30:32] = marked[40:48, 60:68] = marked[57:, :9] = True
    expected = inpaint_biharmonic(y.permute(1, 2, 0).double().numpy(), marked, channel_axis=-1)
    filled = smooth_fill(y, ~torch.from_numpy(marked)[None]).permute(1, 2, 0).numpy()
    inside = marked.copy()
    inside[56:] = False  # at the border, the Laplacians differ
    assert np.abs(filled - expected)[inside].max() < 2e-3
    assert np.array_equal(filled[~marked], y.permute(1, 2, 0).numpy()[~marked])


def test_the_first_guess_continues_a_gradient():
    ramp = (torch.arange(40) / 50 + torch.arange(30)[:, None] / 200).expand(3, -1, -1)
    believed = torch.ones(1, 30, 40, dtype=torch.bool)
    believed[:, 8:14, 5:30] = False
    assert float((smooth_fill(ramp.where(believed, 1), believed) - ramp).abs().max()) < 1e-3


@pytest.mark.parametrize(
    ("mode", "scale", "image_step"),
    [("fidelity", 1, None), ("fidelity", 2, "gradient"), ("fast", 3, None), ("perceptual", 4, None)],
)
def test_what_is_under_the_mask_changes_nothing(restore, photograph, scale, mode, image_step):
    marked = random_mask(0.02, 60, 84)
    outs = [
        restore(photograph.where(~marked, value), scale=scale, mode=mode, image_step=image_step, mask=marked)
        for value in (0.0, 1.0)
    ]
    assert torch.equal(outs[0].images, outs[1].images)
    assert torch.equal(outs[0].kernels, outs[1].kernels)
    assert torch.equal(outs[0].consistency, outs[1].consistency)
    assert not outs[0].residuals[:, :, marked].any()


def test_images_of_a_batch_have_their_own_masks(restore, photograph):
    images = torch.cat([photograph, photograph.flip(-1)])
    marked = torch.stack([random_mask(0.02, 60, 84), torch.zeros(60, 84, dtype=torch.bool)])
    several = {"num_samples": 2, "num_inference_steps": 1}
    together = restore(images, mask=marked, generator=[seeded(), seeded()], **several)
    for index in range(2):
        mask = marked[index] if index == 0 else None
        alone = restore(images[[index]], mask=mask, generator=[seeded()], **several)
        assert torch.allclose(together.images[index], alone.images[0], atol=1e-4)
        assert torch.allclose(together.consistency[index], alone.consistency[0], rtol=1e-3)


def test_the_consistency_is_that_of_the_believed_pixels(restore, photograph):
    marked = torch.zeros(60, 84)
    marked[:30] = 1
    out = restore(photograph, mask=marked)
    rms = out.residuals[:, :, 30:].square().mean().sqrt()
    assert torch.allclose(out.consistency, rms / (out.noise_levels.square() + 1 / 12).sqrt(), rtol=1e-4)


def test_the_estimate_does_not_see_them():
    pixels = torch.from_numpy(skimage.data.astronaut()[:256, :160] / 255).permute(2, 0, 1)[None].float()
    changed = pixels.clone()
    changed[..., :40] = torch.rand(1, 3, 256, 40, generator=seeded())
    believed = torch.ones(1, 1, 256, 160, dtype=torch.bool)
    believed[..., :64] = False
    first, second, without = (
        estimator_statistics(Observation(y, 2, mask=mask))
        for y, mask in ((pixels, believed), (changed, believed), (changed, None))
    )
    for one, other, plain in zip(first, second, without, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(one, plain, rtol=1e-4, atol=1e-4)


def test_tiles_equal_the_whole(restore, photograph, monkeypatch):
    image = photograph.repeat(1, 1, 1, 4)
    marked = random_mask(0.01, 60, 336)
    outs = []
    for side in (None, MIN_PLANNED_SIDE):
        monkeypatch.setattr(
            restoration, "plan_tiles", lambda y, scale, network, *_, s=side: Tiles(y, scale, network.size_multiple, s)
        )
        outs.append(restore(image, mask=marked))
    difference = 255 * (outs[0].images - outs[1].images)
    assert 0 < float(difference.square().mean().sqrt()) < 0.5


def test_an_enlarged_picture_is_restored_from_its_own_size_with_its_mask(restore, photograph, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "blinddiff.sampling.safety.restore_safely",
        lambda run, kind, observation, _: _from_own_size(run, observation, seen),
    )
    marked = torch.zeros(60, 84)
    marked[20:24] = 1
    restore(photograph, mask=marked, as_is=False)
    (mask,) = seen
    assert mask.shape == (1, 1, 30, 42)
    assert torch.equal(mask[0, 0].all(1), torch.tensor([row not in (10, 11) for row in range(30)]))


def _from_own_size(run, observation, seen):
    from blinddiff.sampling.safety import _restore_from_own_size

    def watched(reduced, degradation, images):
        seen.append(reduced.mask)
        return run(reduced, degradation, images)

    return _restore_from_own_size(watched, observation, 2.0, 0)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.zeros((84, 60)), "a mask of 60x84 pixels for an image of 84x60: both must have the same size"),
        (np.zeros((2, 60, 84)), "a mask of 84x60 pixels"),
        (np.ones((60, 84), bool), "marks every pixel"),
        (np.full((60, 84), np.nan), "not finite"),
        (-np.ones((60, 84)), "negative"),
        ("scratches.png", "not 'scratches.png'"),
        (None, "not None"),
    ],
)
def test_bad_masks_give_one_clear_line(mask, said):
    with pytest.raises(ImageError, match=said) as error:
        marked_pixels(mask, 1, (60, 84))
    assert "\n" not in str(error.value)


def test_masks_of_any_type_mark_the_same_pixels():
    marked = random_mask(0.1, 60, 84)
    numbers = marked.numpy()
    for mask in (
        marked,
        marked[None].float(),
        numbers.astype(np.uint8),
        numbers.astype(np.uint16) * 65535,
        Image.fromarray(numbers.astype(np.uint8) * 255),
        Image.fromarray(numbers),
    ):
        assert np.array_equal(marked_pixels(mask, 1, (60, 84))[0], marked)
    assert not marked_pixels(torch.zeros(60, 84), 1, (60, 84)).any()


def test_scratches_are_restored():
    """With the default weights: 10 dB better than without a mask, and the rest is better too."""
    pipeline = BlindDiffPipeline.from_pretrained(device="cpu")
    x = torch.from_numpy(skimage.data.coffee()[100:340, 150:390] / 255).permute(2, 0, 1)[None].float()
    y = DegradationOperator(isotropic_gaussian(1.2, 21), 2)(x).clamp(0, 1)
    marked = torch.zeros(120, 120, dtype=torch.bool)
    for row in range(100):  # two scratches of 2 pixels
        marked[row + 5, 20 + row // 3 : 22 + row // 3] = marked[70 - row // 4, row + 8] = marked[
            71 - row // 4, row + 8
        ] = True
    scratched = y.where(~marked, 1.0)
    hidden = marked.repeat_interleave(2, 0).repeat_interleave(2, 1)

    def error(image):
        return float((image - x)[..., hidden].square().mean())

    settings = {"scale": 2, "mode": "fast", "output_type": "pt"}
    masked, plain = (pipeline(scratched, generator=seeded(), mask=mask, **settings) for mask in (marked, None))
    assert error(masked.images) < error(plain.images) / 10
    far = ~hidden
    assert float((masked.images - x)[..., far].square().mean()) < float((plain.images - x)[..., far].square().mean())
