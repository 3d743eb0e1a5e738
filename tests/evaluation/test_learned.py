"""LPIPS and DISTS: called correctly where they are installed, left out where they are not."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

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
