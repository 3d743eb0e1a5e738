"""What a picture is: flatness, and the classifier before and after a little training."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff.degradation import Observation
from blinddiff.models.mcformer import MCFormer
from blinddiff.models.picture_kind import (
    BINS,
    PICTURE_KINDS,
    PictureClassifier,
    PictureKind,
    flatness,
    interpolation_peaks,
    pixel_statistics,
)
from blinddiff.models.statistics import estimator_statistics
from blinddiff.training.pictures import make_picture


def noise(batch: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, 40, 48, generator=torch.Generator().manual_seed(seed))


def test_flatness_counts_equal_neighbours_and_colours() -> None:
    y = torch.zeros(1, 3, 10, 20)
    y[..., 10:] = 1 / 255  # 2 colours of 8 bits, 1 of 5 bits
    y[:, :, 5:] += 40 / 255  # 4 and 2
    equal_right, equal_down, near_right, near_down, colours, coarse = flatness(y)[0].tolist()
    assert equal_right == pytest.approx(18 / 19)
    assert equal_down == pytest.approx(8 / 9)
    assert near_right == 1
    assert near_down == pytest.approx(8 / 9)
    assert np.exp(colours) == pytest.approx(4 / 200)
    assert np.exp(coarse) == pytest.approx(2 / 200)


def test_flatness_of_noise_and_of_doubled_pixels() -> None:
    y = (255 * noise()).round() / 255
    assert float(flatness(y)[:, :2].max()) < 0.01
    doubled = F.interpolate(y, scale_factor=2, mode="nearest")
    assert torch.allclose(flatness(doubled)[:, :2], torch.tensor(0.5), atol=0.02)


def strongest(y: Tensor, order: int) -> tuple[float, float]:
    """The frequency of the strongest peak along both axes, of first or second differences, and its log magnitude."""
    peaks = interpolation_peaks(y)[0].view(2, 2, BINS)[:, order - 1].mean(0)
    peaks[: BINS // 8] = 0  # content
    return (int(peaks.argmax()) + 0.5) / (2 * BINS), float(peaks.max())


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize(
    ("factor", "order", "frequency"), [(2.0, 1, 1 / 2), (3.0, 2, 1 / 3), (4.0, 2, 1 / 4), (1.5, 2, 1 / 3)]
)
def test_an_enlarged_picture_has_a_peak_at_its_sampling_frequency(
    mode: str, factor: float, order: int, frequency: float
) -> None:
    y = noise(1, seed=3)
    found, height = strongest(F.interpolate(y, scale_factor=factor, mode=mode), order)
    assert found == pytest.approx(frequency, abs=1.5 / (2 * BINS))
    assert height > strongest(y, order)[1] + 0.5


def test_an_untrained_classifier_takes_everything_for_a_photograph() -> None:
    network = MCFormer(dim=8, num_blocks=(1, 1, 1), heads=(1, 2, 4), embedding_dim=16, estimator_hidden=16).eval()
    with torch.no_grad():
        kind = network.picture_kind(Observation(noise(), 1))
    assert float(kind.of("photograph").min()) > 0.99
    assert torch.all(kind.factor >= 1)
    assert torch.all(kind.limits >= 1000)
    torch.testing.assert_close(kind.probabilities.sum(1), torch.ones(2))


def test_probabilities_are_found_by_name() -> None:
    kind = PictureKind(torch.tensor([[0.1, 0.2, 0.3, 0.4]]), torch.ones(1), torch.ones(3))
    assert [float(kind.of(name)) for name in PICTURE_KINDS] == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_the_classifier_learns_kinds_and_factors() -> None:
    rng = np.random.default_rng(0)
    photographs = F.avg_pool2d(noise(24, seed=1), 3, 1, 1)
    truth = rng.integers(len(PICTURE_KINDS), size=24)
    made = [make_picture(PICTURE_KINDS[kind], x, rng) for kind, x in zip(truth, photographs, strict=True)]
    y, factor = torch.stack([picture for picture, _ in made]), torch.tensor([each for _, each in made])
    statistics, pixels = estimator_statistics(Observation(y, 1)), pixel_statistics(y)
    torch.manual_seed(0)
    classifier = PictureClassifier()
    optimiser = torch.optim.Adam(classifier.parameters(), 3e-3)
    for _ in range(60):
        logits, log_factor = classifier(statistics, pixels)
        wrong = ((log_factor - factor.log()).square() * (factor > 1)).mean()
        (F.cross_entropy(logits, torch.from_numpy(truth)) + wrong).backward()
        optimiser.step()
        optimiser.zero_grad()
    kind = classifier.kind(statistics, y)
    assert (kind.probabilities.argmax(1).numpy() == truth).mean() > 0.9
    enlarged = factor > 1
    assert float((kind.factor / factor)[enlarged].log().abs().max()) < 0.3
