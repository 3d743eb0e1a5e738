"""Kernels in files: what is written comes back, and a bad file is refused with one line that names it."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from blinddiff.degradation.kernel_files import read_kernel, write_kernel
from blinddiff.degradation.kernel_measures import centroid, check_kernel
from blinddiff.degradation.kernels import anisotropic_gaussian
from blinddiff.errors import KernelError, OutputError

ENDINGS = [".npy", ".mat", ".csv", ".txt", ".json", ".png"]
PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "test" / "DIV2KRK" / "gt_k_x4"
KERNEL = anisotropic_gaussian(2.0, 0.8, 0.5, 12)[:, 1:]  # even by odd, not symmetric
KERNEL = KERNEL / KERNEL.sum()


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_written_kernel_comes_back(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"k{ending.upper()}"
    write_kernel(path, KERNEL)
    back = read_kernel(path)
    assert back.dtype == np.float32
    assert float(back.sum(dtype=np.float64)) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(back, KERNEL, atol=1e-6 if ending == ".png" else 1e-8, rtol=0)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_other_programs_read_what_is_written(tmp_path: Path) -> None:
    for ending in ENDINGS:
        write_kernel(tmp_path / f"k{ending}", KERNEL)
    expected = KERNEL.numpy()
    np.testing.assert_array_equal(np.load(tmp_path / "k.npy"), expected)
    np.testing.assert_array_equal(scipy.io.loadmat(tmp_path / "k.mat")["Kernel"], expected)
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "k.csv", delimiter=",", dtype=np.float32), expected)
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "k.txt", dtype=np.float32), expected)
    np.testing.assert_array_equal(np.float32(json.loads((tmp_path / "k.json").read_text())["kernel"]), expected)
    with Image.open(tmp_path / "k.png") as picture:
        assert np.asarray(picture).max() == 65535


def test_kernels_of_other_programs(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "one.mat", {"blur": KERNEL.double().numpy(), "scale": 4, "name": "x"})
    (tmp_path / "mixed.txt").write_text("0.25; 0.25\n\n0.25,\t0.25\n")
    (tmp_path / "list.json").write_text("[[0, 1, 0]]")
    grey = Image.fromarray(np.array([[0, 100], [50, 50]], np.uint8))
    for mode in ("L", "RGB", "RGBA", "LA", "P"):
        grey.convert(mode).save(tmp_path / f"{mode}.png")
        np.testing.assert_allclose(
            read_kernel(tmp_path / f"{mode}.png"), torch.tensor([[0, 0.5], [0.25, 0.25]]), atol=1e-6
        )
    np.testing.assert_allclose(read_kernel(tmp_path / "one.mat"), KERNEL, atol=1e-6)
    assert np.array_equal(read_kernel(str(tmp_path / "mixed.txt")), torch.full((2, 2), 0.25))
    assert np.array_equal(read_kernel(tmp_path / "list.json"), torch.tensor([[0.0, 1.0, 0.0]]))


def test_what_matlab_files_need_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_kernel(tmp_path / "k.mat", KERNEL)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(KernelError, match=r"a \.mat file needs scipy: pip install 'scipy'"):
        read_kernel(tmp_path / "k.mat")


def test_the_variable_named_kernel_is_taken_from_a_mat_file(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "k.mat", {"other": np.eye(5) / 5, "Kernel": KERNEL.numpy()})
    np.testing.assert_allclose(read_kernel(tmp_path / "k.mat"), KERNEL, atol=1e-6)


def test_undershoots_of_interpolation_are_dropped_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "little.txt").write_text("-0.001 0.5 0.501")
    (tmp_path / "much.txt").write_text("-0.005 0.5 0.505")
    (tmp_path / "sum.txt").write_text("-0.001 0.5 0.7")
    np.testing.assert_allclose(read_kernel(tmp_path / "little.txt"), [[0.0, 500 / 1001, 501 / 1001]], atol=1e-6)
    np.testing.assert_allclose(read_kernel(tmp_path / "much.txt"), torch.tensor([[-0.005, 0.5, 0.505]]), atol=1e-6)
    with pytest.raises(KernelError, match=r"sums to 1\.199"):
        read_kernel(tmp_path / "sum.txt")


def test_published_kernels_are_read() -> None:
    paths = sorted(PUBLISHED.glob("*.mat"))
    if not paths:
        pytest.skip("the kernels of DIV2KRK (../shared/data/test) are not on this machine")
    for path in paths:
        kernel = read_kernel(path)
        check_kernel(torch.from_numpy(kernel))
        assert np.abs(kernel - scipy.io.loadmat(path)["Kernel"]).sum() < 2e-3
        assert centroid(torch.from_numpy(kernel)).abs().max() < 0.3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("k.npy", b"", "cannot be read"),
        ("k.npy", b"text", "cannot be read"),
        ("k.mat", b"text", "cannot be read"),
        ("k.png", b"text", "cannot be read"),
        ("k.json", b"{", "cannot be read"),
        ("k.json", b'{"k": 1}', "list of rows"),
        ("k.json", b'[["a"]]', "plain numbers"),
        ("k.json", b"[[NaN, 1]]", "not finite"),
        ("k.csv", b"", "rows of equal length"),
        ("k.csv", b"1,2\n3\n", "rows of equal length"),
        ("k.csv", b"a,b\n", "cannot be read"),
        ("k.csv", b"0.5,0.6\n", "sums to 1.1"),
        ("k.txt", b"5.5 -4.5\n", "negative"),
        ("k.jpg", b"", "end in .npy"),
        ("k", b"", "end in .npy"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(KernelError, match=message) as caught:
        read_kernel(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unsuitable_contents_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "batch.npy", np.ones((2, 3, 3)) / 9)
    np.save(tmp_path / "complex.npy", np.eye(2) / 2 + 0j)
    np.save(tmp_path / "objects.npy", np.array([[{}]]), allow_pickle=True)
    scipy.io.savemat(tmp_path / "two.mat", {"a": np.eye(3) / 3, "b": np.eye(2) / 2})
    Image.new("L", (3, 3)).save(tmp_path / "black.png")
    Image.new("RGB", (3, 3), (1, 2, 3)).save(tmp_path / "colour.png")
    Image.new("RGBA", (3, 3), (9, 9, 9, 128)).save(tmp_path / "clear.png")
    refused = {
        "batch.npy": "two-dimensional",
        "complex.npy": "plain numbers",
        "objects.npy": "cannot be read",
        "two.mat": "just one matrix .has: a, b",
        "black.png": "black",
        "colour.png": "colour",
        "clear.png": "transparent",
        "missing.npy": "no such kernel file",
    }
    for name, message in refused.items():
        with pytest.raises(KernelError, match=f"{name}: .*{message}"):
            read_kernel(tmp_path / name)
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(KernelError, match=r"folder\.npy: cannot be read"):
        read_kernel(tmp_path / "folder.npy")


def test_the_longest_name_and_links(tmp_path: Path) -> None:
    name = "n" * 251 + ".csv"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "elsewhere" / name)
    for path in (tmp_path / name, tmp_path / "link.csv"):
        write_kernel(path, KERNEL)
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "elsewhere" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_nothing_is_left_behind_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match=r"absent.k\.npy: there is no folder"):
        write_kernel(tmp_path / "absent" / "k.npy", KERNEL)
    with pytest.raises(OutputError, match=r"end in \.npy"):
        write_kernel(tmp_path / "k.exe", KERNEL)
    with pytest.raises(KernelError, match="sums to"):
        write_kernel(tmp_path / "k.npy", KERNEL * 2)
    write_kernel(tmp_path / "k.npy", KERNEL)
    before = (tmp_path / "k.npy").read_bytes()

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(OutputError, match="No space left"):
        write_kernel(tmp_path / "k.npy", KERNEL.flip(0))
    assert [entry.name for entry in tmp_path.iterdir()] == ["k.npy"]
    assert (tmp_path / "k.npy").read_bytes() == before
