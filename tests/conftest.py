"""A tiny network with random weights: everything about the pipeline but its quality can be tested with it."""

import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded; see `blinddiff.openmp_settings`
os.environ.setdefault("GOMP_SPINCOUNT", "0")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes of `make test` share the cores

import numpy as np
import pytest
import torch
from scipy import ndimage

from blinddiff.evaluation.data import shifted_kernel
from blinddiff.models.mcformer import ADDED, MCFormer
from blinddiff.sampling.pipeline import BlindDiffPipeline
from blinddiff.sampling.schedulers import default_scheduler


@contextmanager
def _running(command: Callable[[int], list[str]], path: str, seconds: float = 600, **options: Any) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command(port), stdout=log, stderr=log, **options)
        try:
            end = time.monotonic() + seconds
            while not _is_answered(f"http://127.0.0.1:{port}{path}"):
                if process.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    pytest.fail(f"the server has not started: {log.read().decode(errors='replace')[-3000:]}")
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=120)


def _is_answered(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status == 200
    except OSError:  # also an answer with another status
        return False


@pytest.fixture(scope="session")
def running() -> Callable[..., AbstractContextManager[str]]:
    """Runs a server that ``command`` starts for a free port, with options of `subprocess.Popen`.

    The context's value is the server's address, once it answers ``path``; the test fails with the server's last words
    if it does not within some seconds.
    """
    return _running


@pytest.fixture(scope="session")
def tiny_model() -> dict[str, Any]:
    """Arguments of `MCFormer`."""
    return {"dim": 8, "num_blocks": [1, 1], "heads": [1, 1], "estimator_hidden": 32, "embedding_dim": 16}


@pytest.fixture(scope="session")
def tiny_pipeline(tiny_model: dict[str, Any]) -> BlindDiffPipeline:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MCFormer(**tiny_model).eval().requires_grad_(False)
        # Layers that start at zero would hide whether what goes into them arrives.
        for name, parameter in network.named_parameters():
            if not parameter.any():
                parameter.normal_(std=0.003 if name.startswith(ADDED) else 0.1)
    return BlindDiffPipeline(network, default_scheduler(network))


@pytest.fixture(scope="session")
def tiny_weights(tiny_pipeline: BlindDiffPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder written by `save_pretrained`."""
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    tiny_pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `blinddiff export` writes it, whose graphs enlarge by repetition and estimate the same for all."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import helper, numpy_helper

    folder = tmp_path_factory.mktemp("weights") / "graphs"
    folder.mkdir()
    estimates = {
        "kernel": np.full((1, 31, 31), 1 / 961),
        "noise_level": np.ones(1),
        "expected_kernel_error": np.full(1, 0.1),
        "noise_spectrum": np.ones((1, 16, 16)),
    }
    kind = {"picture_probabilities": np.array([[0.9, 0.1, 0, 0]]), "enlarged_by": np.ones(1)}
    refined = {"refined_kernel": "kernel", "refined_noise_level": "noise_level"}

    def write(name: str, nodes: list[Any], inputs: dict[str, list[Any]], outputs: list[str]) -> None:
        tensors = [[helper.make_tensor_value_info(name, 1, shape) for name, shape in inputs.items()]]
        tensors.append([helper.make_tensor_value_info(name, 1, None) for name in outputs])
        model = helper.make_model(helper.make_graph(nodes, name, *tensors), opset_imports=[helper.make_opsetid("", 20)])
        model.ir_version = 10
        onnx.save(model, folder / f"{name}.onnx")

    def constant(name: str, value: np.ndarray) -> Any:
        return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value.astype(np.float32)))

    nearest = {"mode": "nearest", "nearest_mode": "floor"}
    y: dict[str, list[Any]] = {"y": [1, 3, "height", "width"]}
    for scale in (1, 2, 3, 4):
        constants = [constant(name, value) for name, value in {**estimates, **kind}.items()]
        write(f"estimate_x{scale}", constants, {**y, "jpeg_step": [1]}, [*estimates, *kind])
        nodes = [
            constant("factors", np.array([1, 1, scale, scale])),
            constant("nothing", np.zeros(1)),
            helper.make_node(
                "Resize", ["y", "", "factors"], ["x"], coordinate_transformation_mode="asymmetric", **nearest
            ),
            helper.make_node("Mul", ["y", "nothing"], ["residual"]),
            *(helper.make_node("Identity", [given], [name]) for name, given in refined.items()),
        ]
        given = {name: list(value.shape) for name, value in estimates.items()}
        write(f"restore_fast_x{scale}", nodes, {**y, **given}, ["x", "residual", *refined])
    description = {
        "modes": ["fast"],
        "scales": [1, 2, 3, 4],
        "smallest_side": 8,
        "size_multiple": 16,
        "picture_kinds": ["photograph", "enlarged", "drawing", "dithered"],
        "acceptable": {"consistency": 0.2, "colour_shift": 0.2, "clipped": 0.2},
    }
    (folder / "blinddiff.json").write_text(json.dumps(description))
    return folder


@pytest.fixture(scope="session")
def div2krk_degrade() -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:
    """How DIV2KRK was made: HR (H, W, 3) uint8, stored kernel and scale s -> LR (ceil(H / s), ceil(W / s), 3) uint8.

    *Correlation* with the shifted kernel, symmetric border, samples at 0, s, 2s ..., truncated to 8 bit (not rounded).
    """

    def degrade(hr: np.ndarray, kernel: np.ndarray, scale: int) -> np.ndarray:
        shifted = shifted_kernel(kernel, scale)
        planes = [
            ndimage.correlate(hr[..., channel].astype(np.float64), shifted, mode="reflect")[::scale, ::scale]
            for channel in range(3)
        ]
        return np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)

    return degrade
