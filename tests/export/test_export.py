"""Exported graphs against the pipeline that they were traced from."""

import json

import numpy as np
import pytest
import torch

from blinddiff.errors import ParameterError
from blinddiff.sampling.pipeline import BlindDiffPipeline
from blinddiff.sampling.schedulers import NoiseSource

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from blinddiff.export import folder as module
from blinddiff.export.graphs import ESTIMATES, KIND, RESULTS
from blinddiff.export.onnx import in_half_precision, joined, run_graph, sample_image, with_linked_weights
from blinddiff.light.engine import Engine


def graph_of(nodes, inputs, outputs, weights=()):
    def values(names):
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in names]

    graph = helper.make_graph(nodes, "g", values(inputs), values(outputs), list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    return model


def test_weights_in_half_precision_lose_nothing():
    generator = np.random.default_rng(0)
    exact = generator.normal(size=100).astype(np.float16).astype(np.float32)
    inexact = np.float32(np.pi) * exact
    weights = [numpy_helper.from_array(exact, "a"), numpy_helper.from_array(inexact, "b")]
    nodes = [helper.make_node("Mul", ["y", "a"], ["c"]), helper.make_node("Add", ["c", "b"], ["x"])]
    model = graph_of(nodes, ["y"], ["x"], weights)
    y = generator.normal(size=100).astype(np.float32)
    before, bytes_before = run_graph(model, y=y)["x"], model.ByteSize()
    after = in_half_precision(model)
    onnx.checker.check_model(after)
    assert np.array_equal(run_graph(after, y=y)["x"], before)
    assert after.ByteSize() < bytes_before - 100


def test_weights_are_read_from_their_own_file(tmp_path):
    generator = np.random.default_rng(0)
    half, single = generator.normal(size=300).astype(np.float16), generator.normal(size=300).astype(np.float32)
    (tmp_path / "network").mkdir()
    save_file({"first": np.ones(7), "half": half, "single": single}, tmp_path / "network" / "w.safetensors")
    weights = [numpy_helper.from_array(half.astype(np.float32), "a"), numpy_helper.from_array(single, "b")]
    nodes = [helper.make_node("Mul", ["y", "a"], ["c"]), helper.make_node("Add", ["c", "b"], ["x"])]
    model = in_half_precision(graph_of(nodes, ["y"], ["x"], weights))
    y, bytes_before = generator.normal(size=300).astype(np.float32), model.ByteSize()
    before = run_graph(model, y=y)["x"]
    linked = with_linked_weights(model, tmp_path / "network" / "w.safetensors", "network/w.safetensors")
    assert linked.ByteSize() < bytes_before - 3 * 300 - 600
    (tmp_path / "graph.onnx").write_bytes(linked.SerializeToString())
    (after,) = onnxruntime.InferenceSession(tmp_path / "graph.onnx").run(None, {"y": y})
    assert np.array_equal(after, before)


def test_two_graphs_become_one():
    half = numpy_helper.from_array(np.array([0.5], np.float32), "same")
    three = numpy_helper.from_array(np.array([3.0], np.float32), "same")
    first = graph_of([helper.make_node("Mul", ["y", "same"], ["kernel"])], ["y", "jpeg_step"], ["kernel"], [half])
    nodes = [helper.make_node("Mul", ["kernel", "same"], ["tmp"]), helper.make_node("Add", ["tmp", "y"], ["x"])]
    model = joined(first, graph_of(nodes, ["y", "kernel"], ["x"], [three]))
    onnx.checker.check_model(model)
    y = np.array([2.0, 4.0], np.float32)
    out = run_graph(model, y=y, jpeg_step=np.zeros(1, np.float32))
    assert list(out) == ["x", "kernel"]
    assert np.allclose(out["x"], 2.5 * y)
    assert np.allclose(out["kernel"], y / 2)


def test_the_card_and_the_description_name_every_tensor():
    network = BlindDiffPipeline.from_pretrained(device="cpu").network
    both = {"inputs": ["y", "jpeg_step"], "outputs": [*RESULTS, *ESTIMATES, *KIND]}
    described = module.describe(network, [2, 4], ["fast", "fidelity"], {"blinddiff_fast": both})
    assert json.loads(json.dumps(described)) == described
    assert set(described["tensors"]) == {*both["inputs"], *both["outputs"]}
    assert described["largest_result_pixels"] == 1024**2
    assert set(described["acceptable"]) == {"consistency", "colour_shift", "clipped"}
    card = module.card(described)
    assert all(f"| `{name}` |" in card for name in described["tensors"])
    assert "S one of 2, 4" in card


def test_what_cannot_be_exported(tmp_path):
    network = BlindDiffPipeline.from_pretrained(device="cpu").network
    for scales, mode, message in (((5,), "fast", "scale 5"), ((4,), "perceptual", "perceptual")):
        with pytest.raises(ParameterError, match=message):
            module.write_folder(network, tmp_path / "graphs", scales, [mode])
    assert not (tmp_path / "graphs").exists()


@pytest.mark.long
@pytest.mark.parametrize(("mode", "scale"), [("fast", 4), ("fidelity", 3), ("fast", 2), ("fast", 1)])
def test_graphs_restore_as_the_pipeline(tmp_path, monkeypatch, mode, scale):
    pipeline = BlindDiffPipeline.from_pretrained(device="cpu")
    module.write_folder(pipeline.network, tmp_path, [scale], [mode])
    engine = Engine(tmp_path)
    # Graphs lack the noise of x_T, which changes results as much as another seed does.
    monkeypatch.setattr(NoiseSource, "__call__", lambda noise: torch.zeros(noise._shape))
    for height, width, noise in ((64, 64, 0), (37, 91, 10), (9, 30, 2)):
        generator = torch.Generator().manual_seed(height)
        y = sample_image(height, width) + noise / 255 * torch.randn(1, 3, height, width, generator=generator)
        y = y.clamp(0, 1)[0].permute(1, 2, 0).numpy()
        ours, theirs = (run(y, scale, mode, output_type="np", as_is=True) for run in (engine, pipeline))
        # The pipeline extends images to lengths for which its transforms are fast, which small images show.
        assert np.abs(ours.images - theirs.images).max() < (1e-3 if min(height, width) >= 20 else 0.01)
        assert np.abs(ours.kernels - theirs.kernels.numpy()).max() < 1e-4
        assert float(ours.noise_levels[0]) == pytest.approx(float(theirs.noise_levels[0]), abs=1e-3)
        assert float(ours.consistency[0]) == pytest.approx(float(theirs.consistency[0]), rel=1e-2)
