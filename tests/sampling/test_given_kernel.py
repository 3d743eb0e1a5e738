"""A kernel that the user gives is returned, guides the image, and modulates the network."""

import numpy as np
import pytest
import torch

from blinddiff.degradation import Degradation, DegradationOperator, Observation
from blinddiff.errors import KernelError


@pytest.fixture
def restore(tiny_pipeline, photograph):
    def restore(image=photograph, **arguments):
        arguments = {"scale": 4, "generator": torch.Generator().manual_seed(0), "output_type": "pt", **arguments}
        return tiny_pipeline(image, **arguments)

    return restore


@pytest.fixture
def modulations(tiny_pipeline, monkeypatch):
    """Kernel and noise level of every call of the network."""
    calls = []
    forward = tiny_pipeline.network.forward

    def listen(x_t, timestep, observation, degradation, **options):
        calls.append((degradation.kernel, degradation.noise_level))
        return forward(x_t, timestep, observation, degradation, **options)

    monkeypatch.setattr(tiny_pipeline.network, "forward", listen)
    return calls


@pytest.mark.parametrize("kernel_step", [None, "fixed", "first"])
def test_it_is_returned_unchanged(restore, motion, kernel_step):
    expected = torch.from_numpy(motion).float()[None]
    for kernel in (motion, motion.astype(np.float32), torch.from_numpy(motion), expected):
        out = restore(kernel=kernel, kernel_step=kernel_step, num_inference_steps=3)
        assert torch.allclose(out.kernels, expected, atol=1e-7)
        assert torch.equal(out.kernel_trajectory, expected.expand(3, 1, -1, -1))


def test_each_image_may_have_its_own(restore, photograph, motion):
    kernels = np.stack([motion, motion[::-1]])
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    batch = restore([photograph, photograph], kernel=kernels, noise_level=0, generator=generators)
    assert np.allclose(batch.kernels, kernels)
    for index in range(2):
        single = restore(kernel=kernels[index], noise_level=0)
        assert torch.allclose(batch.images[index], single.images[0], atol=1e-5)
    assert not torch.allclose(batch.images[0], batch.images[1], atol=1e-2)


def test_one_serves_the_whole_batch(restore, photograph, motion):
    out = restore([photograph, 255 - photograph], kernel=motion)
    assert np.allclose(out.kernels, np.stack([motion, motion]))


def test_it_guides_the_image(restore, sharp, motion, degraded):
    y = degraded(sharp, motion, 4)
    inside = np.s_[4:-4, 4:-4]

    def unexplained(out):
        """RMS of y - A x with the kernel that y was made with, grey levels."""
        explained = degraded(out.images[0].permute(1, 2, 0).double().numpy(), motion, 4)
        return 255 * np.sqrt(np.square(y - explained)[inside].mean())

    guided = restore(y, kernel=motion, noise_level=0)
    misled = restore(y, kernel=motion[:, ::-1], noise_level=0)
    unguided = restore(y, kernel=motion, noise_level=0, image_step="none")
    assert np.allclose(guided.residuals[0, :, 4:-4, 4:-4], 0, atol=3)
    assert unexplained(guided) < 0.5
    assert unexplained(guided) < 0.2 * unexplained(misled)
    assert unexplained(guided) < 0.5 * unexplained(unguided)


def test_it_modulates_the_network(restore, motion, modulations):
    restore(kernel=motion, noise_level=4.5, num_inference_steps=2)
    assert len(modulations) == 2
    for kernel, noise_level in modulations:
        assert torch.equal(kernel[0], torch.from_numpy(motion).float())
        assert noise_level.tolist() == [4.5]


@pytest.mark.parametrize("what", ["kernel", "noise_level"])
def test_the_modulation_changes_the_prediction(tiny_pipeline, motion, what):
    generator = torch.Generator().manual_seed(0)
    x_t = torch.randn(1, 3, 32, 32, generator=generator)
    observation = Observation(torch.rand(1, 3, 8, 8, generator=generator), 4)
    given = {"kernel": torch.from_numpy(motion).float()[None], "noise_level": torch.tensor([2.0])}
    other = {"kernel": torch.ones(1, 1, 1), "noise_level": torch.tensor([20.0])}

    def predicted(**changes):
        known = Degradation(**{**given, **changes}).with_closed_form(observation, torch.zeros(1, 3, 32, 32))
        return tiny_pipeline.network(x_t, torch.tensor([500]), observation, known).x0_hat

    assert float((predicted() - predicted(**{what: other[what]})).abs().max()) > 1e-5  # rounding is 1e-7


def test_a_shift_in_the_kernel_moves_the_image_back(restore, sharp):
    kernel = np.zeros((9, 9))
    kernel[4 + 2, 4 - 3] = 1  # x (*) kernel moves x down by 2 and left by 3
    out = restore(np.roll(sharp, (2, -3), (0, 1)), scale=1, kernel=kernel, noise_level=0)
    moved = out.images[0].permute(1, 2, 0).numpy()
    assert np.abs(moved - sharp)[12:-12, 12:-12].max() < 0.01


def test_a_given_noise_level_is_trusted(restore):
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    outs = [restore(kernel=kernel, noise_level=level, scale=2) for level in (0, 5, 50.0)]
    assert [float(out.noise_levels) for out in outs] == [0, 5, 50]
    # The noisier the input is said to be, the less of it is explained.
    unexplained = [float(out.residuals.square().mean().sqrt()) for out in outs]
    assert unexplained[0] < 0.8 * unexplained[1] < 0.64 * unexplained[2]


@pytest.mark.parametrize("kernel_step", ["network", "refine", "first"])
def test_a_given_noise_level_is_returned(restore, modulations, kernel_step):
    out = restore(noise_level=3, kernel_step=kernel_step, num_inference_steps=2)
    assert out.noise_levels.tolist() == [3]
    assert [noise_level.tolist() for _, noise_level in modulations] == [[3], [3]]


def test_arrays_of_any_layout(restore, motion):
    out = restore(kernel=motion[::-1, ::-1])
    assert np.allclose(out.kernels[0], motion[::-1, ::-1])
    assert np.allclose(restore(kernel=np.array([[0, 0], [0, 1]])).kernels, [[[0, 0], [0, 1]]])


def test_a_first_kernel_may_be_left_behind(restore, motion):
    """Where another kernel step is chosen, the given kernel is where it starts."""
    out = restore(kernel=motion, kernel_step="network", num_inference_steps=2)
    assert out.kernels.shape == (1, 31, 31)


KERNELS = {
    "sums to 2": np.full((3, 3), 2 / 9),
    "sums to 9": np.ones((3, 3), dtype=int),
    "negative entries": np.array([[5.5, -4.5]]),
    "not finite": np.array([[np.nan, 1.0]]),
    r"shape \(2, 3, 3\).*each of 1 images": np.full((2, 3, 3), 1 / 9),
    r"shape \(1,\)": np.ones(1),
    "kernel of shape": np.zeros((0, 0)),
    "33x3 is larger than the result, 32x40": np.full((3, 33), 1 / 99),
    "3x41 is larger than the result, 32x40": np.full((41, 3), 1 / 123),
}


@pytest.mark.parametrize(("reason", "kernel"), KERNELS.items())
@pytest.mark.parametrize("as_tensor", [False, True])
def test_refused(tiny_pipeline, reason, kernel, as_tensor):
    image = torch.zeros(3, 10, 8)
    if as_tensor:
        kernel = torch.from_numpy(kernel)
    for call in (tiny_pipeline, tiny_pipeline.closed_form):
        with pytest.raises(KernelError, match=reason) as caught:
            call(image, 4, kernel=kernel)
        assert "\n" not in str(caught.value)


def test_as_large_as_the_result_is_accepted(tiny_pipeline):
    out = tiny_pipeline(torch.rand(3, 10, 8), 4, kernel=np.full((40, 32), 1 / 1280), output_type="pt")
    assert out.kernels.shape == (1, 40, 32)
    assert bool(torch.isfinite(out.residuals).all())


def test_one_with_nothing_where_the_network_looks_is_refused(tiny_pipeline):
    kernel = np.zeros((65, 81))
    kernel[2, 2] = 1
    with pytest.raises(KernelError, match="has no mass within 31x31 pixels"):
        tiny_pipeline(np.zeros((20, 24, 3), np.uint8), 4, kernel=kernel)


def test_what_stays_is_not_made_again(tiny_pipeline, restore, motion, monkeypatch):
    solved = []
    proximal = DegradationOperator.proximal
    monkeypatch.setattr(DegradationOperator, "proximal", lambda *args: solved.append(0) or proximal(*args))
    restore(kernel=motion, noise_level=3.0, num_inference_steps=5, image_step="none")
    assert len(solved) == 1


@pytest.mark.parametrize(
    "kernel",
    [
        "kernel.csv",
        object(),
        [[0.5, 0.5], [0.0]],
        np.full((1, 1), 1 + 0j),
        np.full((1, 1), True),
        np.full((1, 1), "1"),
        torch.full((1, 1), 1 + 0j),
        torch.full((1, 1), True),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(restore, kernel):
    with pytest.raises(KernelError, match="a kernel is an array of numbers, not") as caught:
        restore(kernel=kernel)
    assert "\n" not in str(caught.value)


def test_kernels_of_integers_lists_and_other_byte_orders(restore, motion):
    whole = np.zeros((3, 3), int)
    whole[1, 1] = 1
    expected = restore(kernel=whole.astype(np.float32)).images
    for kernel in (whole, whole.tolist(), torch.from_numpy(whole), whole.astype(">f8"), whole.astype(">i4")):
        assert torch.equal(restore(kernel=kernel).images, expected)
