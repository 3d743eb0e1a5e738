"""The benchmark of both engines: what it counts and what it records."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="no peak memory of a process")
pytest.importorskip("onnx")

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def test_multiplications_are_those_of_the_operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    from benchmark_engines import summary

    weights = {"a": (6, 3, 3, 3), "b": (6, 1, 5, 5), "c": (8, 6, 1, 1), "d": (10, 7)}
    draw = np.random.default_rng(0)
    initializers = [
        numpy_helper.from_array(draw.random(shape, np.float32) - 0.5, name) for name, shape in weights.items()
    ]
    nodes = [
        helper.make_node("Conv", ["y", "a"], ["p"], pads=[1] * 4),
        helper.make_node("Conv", ["p", "b"], ["q"], pads=[2] * 4, group=6),
        helper.make_node("Conv", ["q", "c"], ["r"]),
        helper.make_node("MatMul", ["r", "d"], ["x"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 12, 10]) for name in ("y", "x")]
    values[1] = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.save(model, tmp_path / "g.onnx")
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(tmp_path / "g.onnx", options, providers=["CPUExecutionProvider"])
    for _ in range(3):
        session.run(None, {"y": np.zeros((1, 3, 12, 10), np.float32)})
    found = summary(json.loads(Path(session.end_profiling()).read_text()), 2)
    size = 12 * 10
    expected = size * (6 * 27 + 6 * 25 + 8 * 6) + 8 * 12 * 7 * 10
    assert found["gmacs"] == pytest.approx(expected / 1e9, rel=0.01)
    assert found["gmacs_per_second"] * found["seconds"] == pytest.approx(expected / 1e9, rel=0.02)
    kinds = {"convolution 3x3", "depthwise convolution 5x5", "convolution 1x1", "matrix product"}
    assert set(found["kinds"]) == kinds


def test_it_records_both_engines(tiny_graphs: Path, tiny_weights: Path, tmp_path: Path) -> None:
    options = ("--threads", "1", "--sides", "16", "24", "--scale", "2", "--modes", "fast", "--repeats", "1")
    paths = ("--graphs", str(tiny_graphs), "--weights", str(tiny_weights), "--out", str(tmp_path / "a.json"))
    command = [sys.executable, str(SCRIPTS / "benchmark_engines.py"), *options, *paths]
    subprocess.run(command, check=True, capture_output=True, timeout=600, cwd=tmp_path)
    record = json.loads((tmp_path / "a.json").read_text())
    found = [(row["engine"], row["side"], row["threads"]) for row in record["rows"]]
    assert found == [("onnx", 16, 1), ("torch", 16, 1), ("onnx", 24, 1), ("torch", 24, 1)]
    assert all(row["seconds"] > 0 and row["peak_mib"] > 20 for row in record["rows"])
    assert record["product_gmacs_per_second"] > 0.1
    assert record["profile"]["kinds"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]  # profiles are removed
