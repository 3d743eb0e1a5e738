"""Wheel and source distribution: built, looked into, and the wheel installed and used away from this checkout."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blinddiff import __version__

pytestmark = pytest.mark.long
REPOSITORY = Path(__file__).resolve().parents[1]
MOST_BYTES = 30e6
WEIGHTS = "blinddiff/weights/default"


def run(*command: object, cwd: Path | None = None) -> str:
    """Output of a program that sees nothing of this checkout."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**environment, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    # Without isolation: the build's own packages are in the environment for development, and nothing is downloaded.
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of a new environment with the wheel in it; this one lends what it depends on, but not blinddiff."""
    folder = tmp_path_factory.mktemp("bare")
    run(sys.executable, "-m", "venv", folder)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    python = programs / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    (place,) = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").splitlines()
    # A folder named here is searched last, and its own .pth files, such as that of an editable install, are not read.
    lent = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    (Path(place) / "lent.pth").write_text("".join(f"{path}\n" for path in lent))
    return programs


def test_the_wheel(wheel: Path) -> None:
    assert wheel.name == f"blinddiff-{__version__}-py3-none-any.whl"
    assert wheel.stat().st_size < MOST_BYTES
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"blinddiff-{__version__}.dist-info/METADATA").decode()
    assert {
        "blinddiff/py.typed",
        "blinddiff/samples/flowers.jpg",
        "blinddiff/evaluation/niqe_parameters.json",
        "blinddiff/evaluation/report.html.jinja",
        f"{WEIGHTS}/README.md",
        f"{WEIGHTS}/model_index.json",
        f"{WEIGHTS}/network/config.json",
        f"{WEIGHTS}/network/diffusion_pytorch_model.safetensors",
        f"blinddiff-{__version__}.dist-info/licenses/LICENSE",
    } <= names
    modules = (path for path in (REPOSITORY / "src").rglob("*.py"))
    assert {path.relative_to(REPOSITORY / "src").as_posix() for path in modules} <= names
    assert {name.split("/")[0] for name in names} == {"blinddiff", f"blinddiff-{__version__}.dist-info"}
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    assert any(line.startswith("Requires-Dist: torch") and "extra == 'torch'" in line for line in needed)
    light = {line.split()[1].split("<")[0].split(">")[0] for line in needed if "extra ==" not in line}
    assert {"numpy", "onnxruntime", "pillow"} <= light
    assert not {"torch", "diffusers", "accelerate", "scipy"} & light
    assert "# blinddiff" in metadata


def test_the_source_distribution(built: Path) -> None:
    (found,) = built.glob("*.tar.gz")
    assert found.stat().st_size < MOST_BYTES
    with tarfile.open(found) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for path in (
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Makefile",
        "mkdocs.yml",
        "tests/test_packaging.py",
        "tests/conftest.py",
        "docs/quickstart.md",
        "recipes/default.yaml",
        f"src/{WEIGHTS}/network/diffusion_pytorch_model.safetensors",
    ):
        assert path in names, path
    assert not any(
        part in name.split("/") for name in names for part in (".venv", "__pycache__", "runs", "site", ".git")
    )


def test_the_wheel_works_by_itself(bare: Path, tmp_path: Path) -> None:
    python, blinddiff = bare / "python", bare / "blinddiff"
    where = run(python, "-c", "import blinddiff; print(blinddiff.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(bare.parent)
    assert run(blinddiff, "--version", cwd=tmp_path) == f"blinddiff {__version__}\n"
    with Image.open(REPOSITORY / "src/blinddiff/samples/guitar.jpg") as sample:
        sample.crop((40, 60, 88, 100)).save(tmp_path / "photo.png")
    said = run(blinddiff, "upscale", "photo.png", "-o", "out.png", "--scale", 2, cwd=tmp_path)
    assert said.startswith("out.png: 96 x 80; kernel ")
    with Image.open(tmp_path / "out.png") as result, Image.open(tmp_path / "photo.png") as photograph:
        assert result.size == (96, 80)
        enlarged = np.asarray(photograph.convert("L").resize(result.size, Image.Resampling.BICUBIC), float)
        assert np.corrcoef(np.asarray(result.convert("L"), float).ravel(), enlarged.ravel())[0, 1] > 0.95
