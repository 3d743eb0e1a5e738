"""The engine without torch: its decisions and conversions against those of the pipeline."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from blinddiff.degradation import Degradation
from blinddiff.errors import ImageError, ParameterError, WeightsError
from blinddiff.models.picture_kind import LIMITS, PICTURE_KINDS
from blinddiff.sampling import safety
from blinddiff.sampling.decision import AS_ESTIMATED, FALLBACK_NAMES
from blinddiff.sampling.output import to_batch

pytest.importorskip("onnxruntime")

from blinddiff.light import engine
from blinddiff.light.engine import Engine
from blinddiff.light.graphs import ESTIMATES, Estimate, Graphs, Restored

DESCRIPTION = {
    "scales": [1, 2, 3, 4],
    "size_multiple": 16,
    "picture_kinds": list(PICTURE_KINDS),
    "acceptable": dict.fromkeys(LIMITS, 0.2),
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "blinddiff.json").write_text(json.dumps(DESCRIPTION))
    return tmp_path


class StandIn:
    """Graphs that enlarge by repetition; the results, from the first on, have these residuals."""

    def __init__(self, probabilities, factor=1.0, residuals=(0.0,)):
        self.probabilities, self.factor, self.residuals = probabilities, factor, list(residuals)
        self.calls = []

    def run(self, part, scale, y, **inputs):
        self.calls.append((part, scale, y.shape, inputs))
        if part == "estimate":
            return {
                "kernel": np.full((1, 31, 31), 1 / 961, np.float32),
                "noise_level": np.ones(1, np.float32),
                "expected_kernel_error": np.full(1, 0.1, np.float32),
                "noise_spectrum": np.ones((1, 16, 16), np.float32),
                "picture_probabilities": np.array([self.probabilities], np.float32),
                "enlarged_by": np.full(1, self.factor, np.float32),
            }
        residual = self.residuals.pop(0) if len(self.residuals) > 1 else self.residuals[0]
        return {
            "x": y.repeat(scale, 2).repeat(scale, 3),
            "residual": np.full_like(y, residual),
            "refined_kernel": inputs["kernel"],
            "refined_noise_level": inputs["noise_level"],
        }

    def engine(self, folder, monkeypatch):
        made = Engine(folder)
        monkeypatch.setattr(Graphs, "_run", lambda _, part, scale, **inputs: self.run(part, scale, **inputs))
        return made


PHOTOGRAPH = (0.9, 0.05, 0.05, 0.0)
ENLARGED = (0.1, 0.9, 0.0, 0.0)


def picture(height=24, width=36):
    return np.random.default_rng(0).random((height, width, 3), np.float32)


def test_it_needs_no_torch():
    blocked = "import sys; sys.modules['torch'] = None; import blinddiff.light.engine; print('torch' in dir())"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_photograph_is_restored_as_estimated(folder, monkeypatch):
    stand_in = StandIn(PHOTOGRAPH)
    result = stand_in.engine(folder, monkeypatch).restore(picture(), 2)
    assert [call[:2] for call in stand_in.calls] == [("estimate", 2), ("restore", 2)]
    assert np.array_equal(result.image, picture().repeat(2, 0).repeat(2, 1))
    assert result.decision.fallback == AS_ESTIMATED
    assert result.decision.kind == "photograph"
    assert result.picture.size == (72, 48)


@pytest.mark.parametrize("bad", [0, 1, 2, 3, 9])
def test_milder_restorations_until_one_is_accepted(folder, monkeypatch, bad):
    stand_in = StandIn(PHOTOGRAPH, residuals=[50.0] * bad + [0.0])
    result = stand_in.engine(folder, monkeypatch).restore(picture(), 2)
    assert result.decision.fallback == [AS_ESTIMATED, *FALLBACK_NAMES][min(bad, 3)]
    assert len(stand_in.calls) == 2 + min(bad, 3)


def test_as_is_decides_nothing(folder, monkeypatch):
    stand_in = StandIn(ENLARGED, 2.0, [50.0])
    result = stand_in.engine(folder, monkeypatch).restore(picture(), 2, as_is=True)
    assert result.decision is None
    assert len(stand_in.calls) == 2


def test_an_enlarged_picture_is_restored_from_its_own_size(folder, monkeypatch):
    stand_in = StandIn(ENLARGED, 2.0)
    result = stand_in.engine(folder, monkeypatch).restore(picture(32, 48), 2)
    assert [(part, scale, shape[2:]) for part, scale, shape, _ in stand_in.calls] == [
        ("estimate", 2, (32, 48)),
        ("estimate", 4, (16, 24)),
        ("restore", 4, (16, 24)),
    ]
    assert result.image.shape == (64, 96, 3)
    assert result.residual.shape == (32, 48, 3)
    assert result.decision.factor == 2.0


@pytest.mark.parametrize("name", FALLBACK_NAMES)
def test_milder_estimates_are_those_of_the_pipeline(name):
    generator = np.random.default_rng(1)
    kernel = generator.random((31, 31), np.float32)
    kernel /= kernel.sum()
    residual = generator.normal(0, 3, (3, 9, 8)).astype(np.float32)
    spectrum = np.ones((16, 16), np.float32)
    ours = engine.FALLBACKS[name](Estimate(kernel, 1.2, 0.1, spectrum), Restored(residual, kernel, 1.0, residual))
    degradation = Degradation(torch.from_numpy(kernel)[None], torch.tensor([1.2]), torch.tensor([0.1]))
    out = type("Out", (), {"residuals": torch.from_numpy(residual)[None]})
    theirs = safety.FALLBACKS[name](degradation, out)
    assert np.allclose(ours.kernel, theirs.kernel[0], atol=1e-7)
    assert ours.noise_level == pytest.approx(float(theirs.noise_level), rel=1e-5)


@pytest.mark.parametrize("size", [(11, 40), (48, 30)])
def test_resizing_is_that_of_the_pipeline(size):
    planes = picture().transpose(2, 0, 1)
    theirs = F.interpolate(torch.from_numpy(planes)[None], size, mode="bicubic", antialias=True)[0]
    assert np.allclose(engine.resized(np.ascontiguousarray(planes), size), theirs, atol=2e-3)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16"])
def test_pictures_are_read_as_by_the_pipeline(mode):
    eight = Image.fromarray((picture() * 255).astype(np.uint8))
    values = (picture()[..., 0] * 65535).astype(np.uint16)
    given = Image.fromarray(values) if mode == "I;16" else eight.convert(mode)
    assert np.allclose(engine.to_planes(given), to_batch(given)[0], atol=1e-6)


def test_large_images_are_blended_from_tiles(folder, monkeypatch):
    stand_in = StandIn(PHOTOGRAPH)
    y = picture(20, 700)
    restored = stand_in.engine(folder, monkeypatch).restore(y, 3, as_is=True)
    assert sum(call[0] == "restore" for call in stand_in.calls) == 3
    assert max(call[2][3] for call in stand_in.calls if call[0] == "restore") * 3 <= 1024
    assert np.allclose(restored.image, y.repeat(3, 0).repeat(3, 1), atol=1e-6)
    assert restored.noise_level == pytest.approx(1.0)
    assert np.allclose(restored.kernel, 1 / 961)


def test_bad_input_is_one_clear_line(folder, tmp_path):
    made = Engine(folder)
    with pytest.raises(ParameterError, match="scale 5 is not one of 1, 2, 3, 4"):
        made.restore(picture(), 5)
    for image, message in (
        (picture(4, 30), "too small"),
        (picture()[..., :2], "not .h, w. or"),
        (picture() * 200, r"lie in \[0, 1\]"),
        (picture().astype(np.int32), "int32"),
    ):
        with pytest.raises(ImageError, match=message):
            made.restore(image)
    with pytest.raises(WeightsError, match="no exported graphs"):
        Engine(tmp_path / "nothing")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        made.restore(picture())


def test_names_are_those_of_the_exporter():
    graphs = pytest.importorskip("blinddiff.export.graphs")
    assert ESTIMATES == graphs.ESTIMATES
