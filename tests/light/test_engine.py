"""The engine without torch: its decisions and conversions against those of the pipeline."""

import hashlib
import json
import shutil
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from blinddiff.degradation import Degradation
from blinddiff.errors import ImageError, ParameterError, WeightsError
from blinddiff.sampling.decision import AS_ESTIMATED, FALLBACKS, INTERPOLATED, consistency, measured, residual_rms
from blinddiff.sampling.output import to_batch

pytest.importorskip("onnxruntime")

from blinddiff.light import engine
from blinddiff.light.engine import Engine
from blinddiff.light.graphs import ESTIMATES, Estimate, Graphs


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


def test_a_photograph_is_restored_as_estimated(tiny_graphs, monkeypatch):
    stand_in = StandIn(PHOTOGRAPH)
    out = stand_in.engine(tiny_graphs, monkeypatch)(picture(), 2)
    assert [call[:2] for call in stand_in.calls] == [("estimate", 2), ("restore_fast", 2)]
    assert np.array_equal(out.images[0], picture().repeat(2, 0).repeat(2, 1))
    assert out.decisions[0].fallback == AS_ESTIMATED
    assert out.decisions[0].kind == "photograph"


def test_graphs_are_run_by_onnx_runtime(tiny_graphs):
    out = Engine(tiny_graphs)(picture(), 3)
    assert np.array_equal(out.images[0], picture().repeat(3, 0).repeat(3, 1))
    assert out.kernels.sum() == pytest.approx(1)
    assert float(out.consistency[0]) == 0


@pytest.mark.parametrize("bad", [0, 1, 2, 3, 9])
def test_milder_restorations_until_one_is_accepted(tiny_graphs, monkeypatch, bad):
    stand_in = StandIn(PHOTOGRAPH, residuals=[50.0] * bad + [0.0])
    out = stand_in.engine(tiny_graphs, monkeypatch)(picture(), 2)
    assert out.decisions[0].fallback == [AS_ESTIMATED, *FALLBACKS][min(bad, 3)]
    assert len(stand_in.calls) == 2 + min(bad, 3)


def test_as_is_decides_nothing(tiny_graphs, monkeypatch):
    stand_in = StandIn(ENLARGED, 2.0, [50.0])
    assert stand_in.engine(tiny_graphs, monkeypatch)(picture(), 2, as_is=True).decisions is None
    assert len(stand_in.calls) == 2


def test_an_enlarged_picture_is_restored_from_its_own_size(tiny_graphs, monkeypatch):
    stand_in = StandIn(ENLARGED, 2.0)
    out = stand_in.engine(tiny_graphs, monkeypatch)(picture(32, 48), 2)
    assert [(part, scale, shape[2:]) for part, scale, shape, _ in stand_in.calls] == [
        ("estimate", 2, (32, 48)),
        ("estimate", 4, (16, 24)),
        ("restore_fast", 4, (16, 24)),
    ]
    assert out.images.shape == (1, 64, 96, 3)
    assert out.residuals.shape == (1, 3, 32, 48)
    assert out.decisions[0].factor == 2.0


@pytest.mark.parametrize("name", FALLBACKS)
def test_milder_estimates_are_the_same_for_arrays_and_tensors(name):
    generator = np.random.default_rng(1)
    kernel = generator.random((1, 31, 31), np.float32)
    kernel /= kernel.sum()
    residual = generator.normal(0, 3, (1, 3, 9, 8)).astype(np.float32)
    level, error = np.array([1.2], np.float32), np.array([0.1], np.float32)
    ours = FALLBACKS[name](Estimate(kernel, level, error, np.ones((1, 16, 16), np.float32)), residual_rms(residual))
    degradation = Degradation(*map(torch.from_numpy, (kernel, level, error)))
    theirs = FALLBACKS[name](degradation, residual_rms(torch.from_numpy(residual)))
    assert np.allclose(ours.kernel, theirs.kernel, atol=1e-7)
    assert np.allclose(ours.noise_level, theirs.noise_level)
    x, y = generator.random((1, 3, 8, 8), np.float32), generator.random((1, 3, 4, 4), np.float32)
    assert measured(x, y, 1.0) == pytest.approx(measured(torch.from_numpy(x), torch.from_numpy(y), 1.0), rel=1e-4)
    quality = consistency(torch.from_numpy(residual), torch.from_numpy(level))
    assert np.allclose(consistency(residual, level), quality)


def test_a_framed_photograph_is_restored_without_its_frame(tiny_graphs, monkeypatch):
    inner = 0.2 + 0.6 * picture(40, 48)
    framed = np.pad(inner, ((6, 6), (10, 10), (0, 0)), constant_values=1.0)
    stand_in = StandIn(PHOTOGRAPH)
    made = stand_in.engine(tiny_graphs, monkeypatch)
    out = made(framed, 2)
    assert [shape[2:] for _, _, shape, _ in stand_in.calls] == [(40, 48), (40, 48)]
    assert np.array_equal(out.images[0], framed.repeat(2, 0).repeat(2, 1))
    assert out.residuals.shape == (1, 3, 52, 68)
    made.estimate(framed, 2)
    assert stand_in.calls[-1][2][2:] == (40, 48)
    assert made(framed, 2, as_is=True).images.shape == (1, 104, 136, 3)
    assert stand_in.calls[-1][2][2:] == (52, 68)


def test_a_graphic_whose_colour_would_move_is_only_enlarged(tiny_graphs, monkeypatch):
    few = (picture() > 0.4).astype(np.float32)
    stand_in = StandIn(PHOTOGRAPH)
    made = stand_in.engine(tiny_graphs, monkeypatch)
    monkeypatch.setattr(engine, "keeps_colours", lambda *_: False)
    out = made(few, 2)
    assert out.decisions[0].fallback == INTERPOLATED
    assert np.array_equal(out.images[0], few.repeat(2, 0).repeat(2, 1))


def test_a_result_beyond_the_memory_is_made_on_disk(tiny_graphs):
    """It is the same, and the peak of NumPy's memory is bounded by the tiles, not by the result."""
    image = np.random.default_rng(0).random((600, 700, 3), np.float32)
    outs, peaks = [], []
    for max_memory in (None, 1):
        tracemalloc.start()
        outs.append(Engine(tiny_graphs)(image, 4, max_memory=max_memory, as_is=True))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    result = outs[0].images.nbytes
    assert np.array_equal(outs[0].images, outs[1].images)
    assert peaks[0] > result
    assert peaks[1] < peaks[0] - 0.9 * result
    needs = [Engine(tiny_graphs).needs((600, 700), 4, "fast", 1, most).memory for most in (None, 1)]
    assert needs[0] - needs[1] == 2 * result


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16"])
def test_pictures_are_read_as_by_the_pipeline(mode):
    eight = Image.fromarray((picture() * 255).astype(np.uint8))
    values = (picture()[..., 0] * 65535).astype(np.uint16)
    given = Image.fromarray(values) if mode == "I;16" else eight.convert(mode)
    assert np.allclose(engine.to_planes(given), to_batch(given), atol=1e-6)


def test_large_images_are_blended_from_tiles(tiny_graphs, monkeypatch):
    stand_in = StandIn(PHOTOGRAPH)
    y, tiles = picture(20, 700), []
    made = stand_in.engine(tiny_graphs, monkeypatch)
    out = made(y, 3, as_is=True, on_tile=lambda *count: tiles.append(count))
    assert tiles == [(1, 3), (2, 3), (3, 3)]
    needs = made.needs((20, 700), 3, "fast", 1, None)
    widths = [call[2][3] * 3 for call in stand_in.calls if call[0] == "restore_fast"]
    assert (needs.tiles, needs.pixels) == (3, 60 * sum(widths))
    assert max(widths) <= 1024
    assert np.allclose(out.images[0], y.repeat(3, 0).repeat(3, 1), atol=1e-6)
    assert out.noise_levels[0] == pytest.approx(1.0)
    assert np.allclose(out.kernels, 1 / 961)


def test_bad_input_is_one_clear_line(tiny_graphs, tmp_path):
    made = Engine(tiny_graphs)
    with pytest.raises(ParameterError, match="scale 5 is not one of 1, 2, 3, 4"):
        made(picture(), 5)
    for image, message in (
        (picture(4, 30), "too small"),
        (picture()[..., :2], "not .h, w., "),
        (picture() * 200, r"lie in \[0, 1\]"),
        (picture().astype(np.int32), "int32"),
    ):
        with pytest.raises(ImageError, match=message):
            made(image)
    for option in ({"num_samples": 2}, {"num_inference_steps": 3}, {"kernel": np.ones((1, 1))}, {"noise_level": 2.0}):
        with pytest.raises(ParameterError, match="is fixed in graphs; --engine torch takes it"):
            made(picture(), **option)
    with pytest.raises(ParameterError, match="mode 'fidelity' needs other graphs"):
        made(picture(), mode="fidelity")
    with pytest.raises(WeightsError, match="no exported graphs"):
        Engine(tmp_path / "nothing")
    (tmp_path / "blinddiff.json").write_text((tiny_graphs / "blinddiff.json").read_text())
    with pytest.raises(WeightsError, match="cannot be loaded"):
        Engine(tmp_path)(picture())


def test_graphs_of_other_weights_are_refused(tiny_graphs, tmp_path):
    folder = tmp_path / "graphs"
    shutil.copytree(tiny_graphs, folder)
    description = json.loads((folder / "blinddiff.json").read_text())
    description["weights"] = {"file": "w.safetensors", "sha256": hashlib.sha256(b"weights").hexdigest()}
    (folder / "blinddiff.json").write_text(json.dumps(description))
    with pytest.raises(WeightsError, match=r"cannot be read: w\.safetensors"):
        Engine(folder)
    (folder / "w.safetensors").write_bytes(b"weights")
    assert Engine(folder)(picture(), 2).images.shape == (1, 48, 72, 3)
    (folder / "w.safetensors").write_bytes(b"others!")
    with pytest.raises(WeightsError, match="made from other weights; export them again"):
        Engine(folder)


def test_names_are_those_of_the_exporter():
    graphs = pytest.importorskip("blinddiff.export.graphs")
    assert ESTIMATES == graphs.ESTIMATES
