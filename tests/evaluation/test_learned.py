"""LPIPS and DISTS: from a folder of weights, called correctly where they are installed, else left out."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from blinddiff.errors import WeightsError
from blinddiff.evaluation import image_metrics as learned
from blinddiff.evaluation.data import Case, CaseId, Restoration
from blinddiff.evaluation.image_metrics import Sample, available_learned_metrics
from blinddiff.evaluation.statistics import METRICS

LPIPS, DISTS = METRICS["lpips"], METRICS["dists"]


@pytest.fixture
def sample() -> Sample:
    hr = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    case = Case(CaseId("", "made", 0), 4, hr, torch.zeros(3, 8, 8), None, None, 0)
    return Sample(case, Restoration(hr / 2, None, None, 0.0, 0))


@pytest.fixture
def backbones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty place for torchvision's weights, and nothing remembered."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    for load in (learned.lpips, learned.dists):
        load.cache_clear()
    yield tmp_path / "checkpoints"
    for load in (learned.lpips, learned.dists):
        load.cache_clear()


class Mean(torch.nn.Module):
    """A distance that shows what it was given: the mean of the first image in [0, 1]."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.options = options

    def forward(self, a: torch.Tensor, b: torch.Tensor, normalize: bool | None = None) -> torch.Tensor:
        assert a.shape == b.shape == (1, 3, 32, 32)
        assert a.dtype == b.dtype == torch.float32
        assert normalize is (True if self.options else None)  # LPIPS is for [-1, 1] otherwise
        return a.mean().reshape(1)


def install(monkeypatch: pytest.MonkeyPatch, name: str, kind: str) -> None:
    module = ModuleType(name)
    module.__spec__ = __import__("importlib.machinery").machinery.ModuleSpec(name, None)
    setattr(module, kind, Mean)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize(
    ("package", "kind", "backbone", "metric"),
    [
        ("lpips", "LPIPS", "alexnet-owt-7be5be79.pth", LPIPS),
        ("DISTS_pytorch", "DISTS", "vgg16-397923af.pth", DISTS),
    ],
)
def test_it_is_used_where_package_and_weights_are(
    package: str,
    kind: str,
    backbone: str,
    metric: object,
    sample: Sample,
    backbones: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, package, kind)
    assert available_learned_metrics() == []  # the package alone would download its weights
    for load in (learned.lpips, learned.dists):
        load.cache_clear()
    (backbones / backbone).touch()
    assert available_learned_metrics() == [kind.lower()]
    assert metric.measure(sample) == pytest.approx(float(sample.image.mean()))  # type: ignore[attr-defined]


def test_a_package_that_does_not_work_is_as_none(
    backbones: Path, monkeypatch: pytest.MonkeyPatch, sample: Sample
) -> None:
    install(monkeypatch, "lpips", "SomethingElse")
    (backbones / "alexnet-owt-7be5be79.pth").touch()
    assert LPIPS.measure(sample) is None


def test_without_a_truth_there_is_no_distance(sample: Sample, backbones: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "lpips", "LPIPS")
    (backbones / "alexnet-owt-7be5be79.pth").touch()
    unknown = Case(CaseId("", "made", 0), 4, None, sample.case.y, None, None, 0)
    assert LPIPS.measure(Sample(unknown, sample.restoration)) is None


def made_backbone(layers: dict[int, tuple[int, int, int]], seed: int) -> dict[str, torch.Tensor]:
    """Random tensors in torchvision's layout: index of the layer -> (channels out, channels in, size)."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for index, (out, into, size) in layers.items():
        weight = torch.randn((out, into, size, size), generator=generator)
        found[f"features.{index}.weight"] = weight * (2 / (into * size * size)) ** 0.5
        found[f"features.{index}.bias"] = 0.1 * torch.randn(out, generator=generator)
    return found


ALEXNET = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
VGG16 = {0: (64, 3, 3), 2: (64, 64, 3), 5: (128, 64, 3), 7: (128, 128, 3), 10: (256, 128, 3), 12: (256, 256, 3)}
VGG16 |= {14: (256, 256, 3), 17: (512, 256, 3), **dict.fromkeys((19, 21, 24, 26, 28), (512, 512, 3))}


@pytest.fixture(scope="module")
def made_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights in the published layouts and under the published names."""
    folder = tmp_path_factory.mktemp("learned")
    generator = torch.Generator().manual_seed(2)
    torch.save(made_backbone(ALEXNET, 0), folder / "alexnet-owt-7be5be79.pth")
    torch.save(made_backbone(VGG16, 1), folder / "vgg16-397923af.pth")
    sizes = enumerate((64, 192, 384, 256, 256))
    linear = {f"lin{i}.model.1.weight": torch.rand((1, n, 1, 1), generator=generator) for i, n in sizes}
    torch.save(linear, folder / "alex.pth")
    both = {name: torch.rand((1, 1475, 1, 1), generator=generator) for name in ("alpha", "beta")}
    torch.save(both, folder / "weights.pt")
    torch.save(torch.rand((2, 3, 64, 72), generator=generator), folder / "images.pt")
    return folder


def test_networks_from_a_folder_are_those_of_the_published_packages(made_weights: Path) -> None:
    """The expected values were computed by lpips 0.1.4 and DISTS_pytorch 0.1 with the same weights and images."""
    assert available_learned_metrics(made_weights) == ["lpips", "dists"]
    hr, image = torch.load(made_weights / "images.pt", weights_only=True)
    values = []
    for load in (learned.lpips, learned.dists):
        network = load(made_weights)
        assert network is not None
        with torch.no_grad():
            values.append(float(network(hr[None], image[None])))
            assert float(network(hr[None], hr[None])) == pytest.approx(0, abs=1e-6)
    assert values == pytest.approx([0.98791367, 0.09015548], rel=1e-5)


def test_a_sample_is_measured_with_the_weights_of_its_folder(sample: Sample, made_weights: Path) -> None:
    measured = Sample(sample.case, sample.restoration, made_weights)
    for metric, load in ((LPIPS, learned.lpips), (DISTS, learned.dists)):
        network = load(made_weights)
        assert network is not None
        assert sample.reference is not None
        with torch.no_grad():
            expected = float(network(sample.image[None].float(), sample.reference[None].float()))
        assert metric.measure(measured) == pytest.approx(expected, rel=1e-6)
        assert expected > 0.01


def test_a_folder_may_hold_one_of_them_and_a_damaged_file_is_named(made_weights: Path, tmp_path: Path) -> None:
    for name in ("alexnet-owt-7be5be79.pth", "alex.pth"):
        (tmp_path / name).write_bytes((made_weights / name).read_bytes())
    assert available_learned_metrics(tmp_path) == ["lpips"]
    learned.lpips.cache_clear()
    (tmp_path / "alex.pth").write_bytes(b"broken")
    with pytest.raises(WeightsError, match=r"alexnet-owt-7be5be79\.pth or alex\.pth cannot be loaded"):
        available_learned_metrics(tmp_path)
