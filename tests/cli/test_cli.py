"""The command line: outputs of each command, and one-line errors for bad input."""

import ast
import csv
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
import skimage.data
import tifffile
import torch
from PIL import ExifTags, Image, ImageCms

from blinddiff.cli import main as cli
from blinddiff.cli import options
from blinddiff.cli.photographs import notable
from blinddiff.degradation.kernel_files import KERNEL_ENDINGS, read_kernel
from blinddiff.degradation.sharpness import Sharpness
from blinddiff.imaging import OUTPUT_FORMATS
from blinddiff.imaging.write import DPI_RULES
from blinddiff.restoring.folder import SAME
from blinddiff.sampling.pipeline import BlindDiffPipeline


class Said(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> Said:
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture
def here(tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in, with photographs, kernels, and what only looks like them."""
    monkeypatch.chdir(tmp_path)
    pixels = skimage.data.cat()[100:196, 120:200]
    Image.fromarray(pixels).save("sharp.png")
    Image.fromarray(pixels[::4, ::4]).save("small.png")
    Image.fromarray(pixels[:1, :1]).save("one.png")
    Path("text.png").write_text("this is no picture\n")
    Path("empty.png").touch()
    save_kernel("kernel.csv", gaussian(1.5, (9, 7)))
    save_kernel("sum2.csv", np.full((3, 3), 2 / 9))
    save_kernel("sum2.json", np.full((3, 3), 2 / 9))
    save_kernel("negative.csv", np.array([[5.5, -4.5]]))
    save_kernel("large.csv", np.full((99, 99), 1 / 99**2))
    Path("words.csv").write_text("a,b\n")
    shutil.copytree(tiny_weights, "another")
    config = Path("another/network/config.json")
    config.write_text(json.dumps({**json.loads(config.read_text()), "_class_name": "UNet2DModel"}))
    return tmp_path


def gaussian(sigma: float, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    kernel = np.zeros(size)
    kernel[size[0] // 2, size[1] // 2] = 1
    kernel = scipy.ndimage.gaussian_filter(kernel, sigma)
    return kernel / kernel.sum()


def save_kernel(name: str, kernel: npt.NDArray[np.float64]) -> None:
    if name.endswith(".json"):
        Path(name).write_text(json.dumps(kernel.tolist()))
    else:
        np.savetxt(name, kernel, delimiter=",")


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file, hidden or not, and every folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def refused(run: Run, here: Path, tiny_weights: Path) -> Callable[..., str]:
    """Run a command that cannot be done; its one line. Nothing may be left behind, nothing changed."""

    def refused(command: str, *arguments: object) -> str:
        if command in ("upscale", "kernel", "demo") and "--weights" not in arguments:
            arguments = (*arguments, "--weights", tiny_weights)
        before = contents(here)
        said = run(command, *arguments)
        assert said.code == 2, said
        assert said.out == ""
        assert said.err.count("\n") == 1, said.err
        assert "\r" not in said.err
        assert said.err.startswith(f"blinddiff {command}: error: ")
        assert contents(here) == before
        return said.err

    return refused


BAD_PHOTOGRAPHS = {
    "missing.png": "no such file",
    "text.png": "not an image",
    "empty.png": "empty",
    "one.png": "1x1 px is too small",
    "another": "folder",
    "kernel.csv": "not an image",
}


@pytest.mark.parametrize(("name", "reason"), BAD_PHOTOGRAPHS.items())
def test_bad_photograph(refused: Callable[..., str], name: str, reason: str) -> None:
    for arguments in (
        ("upscale", name, "-o", "out.png"),
        ("upscale", name, "-o", "out.png", "--scale", 1),
        ("kernel", name, "-o", "found.npy"),
        ("degrade", name, "-o", "out.png", "--sigma", 2, "--scale", 1),
        ("demo", name, "-o", "folder"),
    ):
        line = refused(*arguments)
        assert f"{name}: " in line
        assert reason in line


BAD_KERNELS = {
    "sum2.csv": "sums to 2, must sum to 1",
    "sum2.json": "sums to 2, must sum to 1",
    "negative.csv": "negative",
    "words.csv": "cannot be read as a kernel",
    "missing.npy": "no such kernel file",
    "text.png": "cannot be read as a kernel",
    "kernel.xyz": "end in .npy",
}


@pytest.mark.parametrize(("name", "reason"), BAD_KERNELS.items())
def test_bad_kernel(refused: Callable[..., str], name: str, reason: str) -> None:
    for command, photograph in (("upscale", "small.png"), ("degrade", "sharp.png")):
        line = refused(command, photograph, "-o", "out.png", "--kernel", name)
        assert f"{name}: " in line
        assert reason in line


def test_kernel_larger_than_the_result(refused: Callable[..., str]) -> None:
    line = refused("upscale", "small.png", "-o", "out.png", "--kernel", "large.csv")
    assert "large.csv: a kernel of 99x99 is larger than the result, 80x96" in line


def test_places_that_cannot_be(refused: Callable[..., str], here: Path) -> None:
    """Names longer than a file system's, and links to themselves."""
    (here / "loop.csv").symlink_to("loop.csv")
    (here / "photographs").mkdir()
    shutil.copy("small.png", here / "photographs")
    torch.save({"params": {"conv_first.weight": torch.zeros(3)}}, "other.pth")
    name = "n" * 300
    for arguments, reason in (
        (("upscale", "photographs", "-o", name), f"{name}: cannot be made: File name too long"),
        (("upscale", "small.png", "-o", "out.png", "--weights", name), f"{name}: no such folder of weights"),
        (("convert", "other.pth", name), "other.pth: not a checkpoint"),
        (("convert", name, "folder"), f"{name}: no such file"),
        (("kernel", "small.png", "-o", "loop.csv"), "loop.csv': cannot be written"),
        (("upscale", "small.png", "-o", "out.png", "--save-kernel", "loop.csv"), "loop.csv': cannot be written"),
    ):
        assert reason in refused(*arguments)


def test_bad_output(refused: Callable[..., str], here: Path) -> None:
    outputs = {
        "missing/out.png": "no folder missing",
        "out.xyz": "unknown extension '.xyz'",
        "small.png/out.png": "no folder small.png",
    }
    if Path("/proc/self").exists():
        outputs["/proc/out.png"] = "cannot be written"  # to root either
    for name, reason in outputs.items():
        for command in (("upscale", "small.png"), ("degrade", "small.png", "--sigma", 1)):
            line = refused(*command, "-o", name)
            assert name.rstrip("/") in line
            assert reason in line


def test_degrade_makes_no_folder_for_nothing(refused: Callable[..., str], here: Path) -> None:
    assert "missing.csv" in refused("degrade", "small.png", "-o", "made/", "--kernel", "missing.csv")
    assert not (here / "made").exists()


def test_degrade_into_a_folder(run: Run, here: Path) -> None:
    (here / "there.png").mkdir()
    for folder in ("there.png", "made/"):
        said = run("degrade", "small.png", "-o", folder, "--sigma", 1, "--scale", 2)
        assert said.code == 0
        result = Path(folder, "small_degraded.png")
        assert said.out.startswith(f"{result}: 10 x 12; ")
        assert Image.open(result).size == (10, 12)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write to a read-only folder")
def test_read_only_folder(refused: Callable[..., str], here: Path) -> None:
    (here / "locked").mkdir(mode=0o555)
    for arguments in (
        ("upscale", "small.png", "-o", "locked/out.png"),
        ("degrade", "small.png", "-o", "locked/out.png", "--sigma", 1),
        ("kernel", "small.png", "-o", "locked/found.csv"),
        ("demo", "small.png", "-o", "locked"),
        ("demo", "small.png", "-o", "locked/folder"),
    ):
        assert "locked" in refused(*arguments)


def test_bad_kernel_output(refused: Callable[..., str]) -> None:
    outputs = {"missing/k.csv": "no folder missing", "another": "end in .npy", "k.xyz": "not in '.xyz'"}
    for name, reason in outputs.items():
        for arguments in (
            ("upscale", "small.png", "-o", "out.png", "--save-kernel", name),
            ("degrade", "sharp.png", "-o", "out.png", "--sigma", 1, "--save-kernel", name),
            ("kernel", "small.png", "-o", "good.csv", "-o", name),
        ):
            line = refused(*arguments)
            assert f"{name}: " in line
            assert reason in line


def test_the_photograph_is_never_overwritten(refused: Callable[..., str], here: Path) -> None:
    (here / "link.png").symlink_to("small.png")
    (here / "demo").mkdir()
    for name in ("input.png", "result.png", "kernel.csv"):
        shutil.copy("small.png", here / "demo" / name)
    for arguments in (
        ("upscale", "small.png", "-o", "small.png"),
        ("upscale", "small.png", "-o", here / "another" / ".." / "small.png"),
        ("upscale", "small.png", "-o", "link.png"),
        ("upscale", "link.png", "-o", "small.png"),
        ("upscale", "small.png", "-o", "out.png", "--save-kernel", "small.png"),
        ("upscale", "small.png", "-o", "out.png", "--save-kernel", "out.png"),
        ("kernel", "small.png", "-o", "small.png"),
        ("kernel", "small.png", "-o", "link.png"),
        ("degrade", "small.png", "-o", "small.png", "--sigma", 1),
        ("degrade", "small.png", "-o", "out.png", "--sigma", 1, "--save-kernel", "small.png"),
        ("demo", "demo/input.png", "-o", "demo"),
        ("demo", "demo/result.png", "-o", "demo"),
        ("demo", "demo/kernel.csv", "-o", "demo"),
    ):
        line = refused(*arguments)
        assert re.search(r"(small|link|out|input|result|kernel)\.\w+: is (the input|another file of this run)", line)


def test_the_kernel_is_never_overwritten(refused: Callable[..., str], here: Path) -> None:
    Image.new("L", (3, 3), 9).save("psf.png")
    (here / "link.png").symlink_to("psf.png")
    for kernel, output in (("psf.png", "psf.png"), ("link.png", "psf.png"), ("psf.png", "link.png")):
        for command, photograph in (("upscale", "small.png"), ("degrade", "sharp.png")):
            given = (command, photograph, "--scale", 1, "--kernel", kernel)
            assert f"{output}: is the kernel file" in refused(*given, "-o", output)
            assert f"{output}: is another file of this run" in refused(*given, "-o", "out.png", "--save-kernel", output)


def test_bad_numbers(refused: Callable[..., str]) -> None:
    for reason, arguments in {
        "argument --scale: 9 is not a number from 1 to 8": ("upscale", "small.png", "-o", "out.png", "--scale", 9),
        "argument --scale: 0.5 is not": ("upscale", "small.png", "-o", "out.png", "--scale", 0.5),
        "argument --scale: invalid choice: .*7": ("kernel", "small.png", "--scale", 7),
        "argument --scale: invalid choice: .*0": ("degrade", "small.png", "-o", "out.png", "--sigma", 1, "--scale", 0),
        "argument --scale": ("kernel", "small.png", "--scale", 2.5),
        "--steps: 0 is not between 1 and 1000": ("upscale", "small.png", "-o", "out.png", "--steps", 0),
        "--steps: 1001 is not": ("upscale", "small.png", "-o", "out.png", "--steps", 1001),
        "--seed: -1 is not": ("upscale", "small.png", "-o", "out.png", "--seed", -1),
        "--seed: 1180": ("degrade", "sharp.png", "-o", "out.png", "--sigma", 1, "--seed", 2**70),
        "noise level of -1": ("upscale", "small.png", "-o", "out.png", "--noise-level", -1),
        "noise level of nan": ("upscale", "small.png", "-o", "out.png", "--noise-level", "nan"),
        "--noise-level: .*'much'": ("upscale", "small.png", "-o", "out.png", "--noise-level", "much"),
        "sigma 0": ("degrade", "sharp.png", "-o", "out.png", "--sigma", 0),
        "sigma nan": ("degrade", "sharp.png", "-o", "out.png", "--sigma", "nan"),
        "noise .*-2": ("degrade", "sharp.png", "-o", "out.png", "--sigma", 1, "--noise", -2),
        "--jpeg: 101": ("degrade", "sharp.png", "-o", "out.png", "--sigma", 1, "--jpeg", 101),
        "'banana' is not one of identity, isotropic": ("degrade", "sharp.png", "-o", "out.png", "--family", "banana"),
        "not allowed with": ("degrade", "sharp.png", "-o", "out.png", "--family", "disk", "--sigma", 1),
        "--sigma --kernel --family": ("degrade", "sharp.png", "-o", "out.png"),
        "required: photograph": ("upscale", "-o", "out.png"),
        "required: -o": ("degrade", "small.png", "--sigma", 1),
        "device 'banana'": ("upscale", "small.png", "-o", "out.png", "--device", "banana"),
    }.items():
        assert re.search(reason, refused(*arguments)), (reason, arguments)


def test_weights_of_another_architecture(refused: Callable[..., str]) -> None:
    for arguments in (
        ("upscale", "small.png", "-o", "out.png", "--weights", "another"),
        ("kernel", "small.png", "-o", "found.csv", "--weights", "another"),
        ("demo", "small.png", "-o", "folder", "--weights", "another"),
    ):
        assert "another: holds UNet2DModel, not MCFormer" in refused(*arguments)
    assert "none: no such folder of weights" in refused("kernel", "small.png", "--weights", "none")


def test_processes_end_with_one_line_too(here: Path, tiny_weights: Path) -> None:
    """The libraries' own warnings and logs do not show when loading fails."""
    broken = {}
    for name in ("cut", "gone", "lacking"):
        broken[name] = here / name
        shutil.copytree(tiny_weights, broken[name])
    files = {name: folder / "network" / "diffusion_pytorch_model.safetensors" for name, folder in broken.items()}
    files["cut"].write_bytes(files["cut"].read_bytes()[:3000])
    files["gone"].unlink()
    config = broken["lacking"] / "network" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_blocks": [1, 2]}))
    before = contents(here)
    script = (
        "import sys; from blinddiff.cli.main import main\n"
        "for weights in sys.argv[1:]:\n"
        "    print(main(['upscale', 'small.png', '-o', 'out.png', '--weights', weights]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *broken, "another"], cwd=here, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["2"] * 4
    lines = done.stderr.splitlines()
    assert [line.split(":")[2].strip() for line in lines] == [*broken, "another"], done.stderr
    assert contents(here) == before


def test_the_real_command_line(here: Path, tiny_weights: Path, run: Run) -> None:
    command = [sys.executable, "-m", "blinddiff", "upscale", "small.png", "-o"]
    settings = ["--weights", str(tiny_weights), "--scale", "2", "--steps", "2", "--seed", "4"]
    done = subprocess.run([*command, "out.png", *settings], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no progress bar, because this is no terminal
    assert done.stdout.startswith("out.png: 40 x 48; kernel ")
    # Another process, the same seed: the same file.
    assert run("upscale", "small.png", "-o", "again.png", *settings).code == 0
    assert Path("again.png").read_bytes() == Path("out.png").read_bytes()


def test_the_installed_command_is_this_one() -> None:
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="blinddiff")
    assert command.load() is cli.main


def test_upscale(run: Run, here: Path, tiny_weights: Path) -> None:
    for scale in (1, 2, 3, 4):
        said = run("upscale", "small.png", "-o", "out.png", "--scale", scale, "--weights", tiny_weights)
        assert said.code == 0
        assert Image.open("out.png").size == (20 * scale, 24 * scale)
        assert re.match(rf"out.png: {20 * scale} x {24 * scale}; kernel .* px.*, noise .* grey levels", said.out)
    said = run("upscale", "small.png", "-o", "default.png", "--weights", tiny_weights)
    assert Path("default.png").read_bytes() == Path("out.png").read_bytes()  # the scale is 4


def test_the_seed_decides(run: Run, here: Path, tiny_weights: Path) -> None:
    settings = ("--steps", 3, "--scale", 2, "--weights", tiny_weights)
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        assert run("upscale", "small.png", "-o", name, "--seed", seed, *settings).code == 0
    a, b, c = (Path(name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert a == b != c


def test_one_page_of_a_tiff(run: Run, refused: Callable[..., str], here: Path, tiny_weights: Path) -> None:
    small = Image.open("small.png")
    small.rotate(180).save("scan.tif", save_all=True, append_images=[small])
    options = ("--scale", 2, "--weights", tiny_weights)
    for source, output, more in (("small.png", "a.png", ()), ("scan.tif", "b.png", ("--page", 2))):
        assert run("upscale", source, "-o", output, *options, *more).code == 0
        assert run("kernel", source, "-o", f"{output}.npy", *options, *more).code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert Path("a.png.npy").read_bytes() == Path("b.png.npy").read_bytes()
    assert "scan.tif: has 2 pages" in refused("upscale", "scan.tif", "-o", "c.png")
    for command in ("upscale", "kernel"):
        line = refused(command, "scan.tif", "-o", "c.png", "--page", 3)
        assert "scan.tif: has no page 3: it has 2 pages" in line
    assert "--page: applies only to a single photograph" in refused("upscale", ".", "-o", "out", "--page", 2)


@pytest.mark.parametrize("command", ["upscale", "kernel", "degrade", "demo"])
def test_notes_on_reading_are_one_line(run: Run, here: Path, tiny_weights: Path, command: str) -> None:
    Image.open("small.png").convert("CMYK").save("inks.jpg")
    options = ("--sigma", 1) if command == "degrade" else ("--weights", tiny_weights)
    said = run(command, "inks.jpg", "-o", {"demo": "folder", "kernel": "k.npy"}.get(command, "out.png"), *options)
    assert said.code == 0
    note = "CMYK was converted to sRGB by a formula, because it has no colour profile: colours are approximate"
    assert said.err.splitlines()[0] == f"inks.jpg: {note}"


def test_notes_of_a_folder(run: Run, here: Path, tiny_weights: Path) -> None:
    Path("in").mkdir()
    Image.open("small.png").convert("CMYK").save("in/inks.jpg")
    command = ("upscale", "in", "-o", "out", "--format", "jxl", "--scale", 2, "--weights", tiny_weights)
    said = run(*command, "--json", "records.json")
    assert said.code == 0
    assert "in/inks.jpg: CMYK was converted" in said.out
    (note,) = json.loads(Path("records.json").read_text())["notes"]
    assert note.startswith("CMYK was converted")
    assert imagecodecs.jpegxl_decode(Path("out/inks.jxl").read_bytes()).shape == (48, 40, 3)


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_transparency_is_kept(run: Run, here: Path, tiny_weights: Path, ending: str) -> None:
    alpha = np.tile(np.linspace(0, 255, 20).astype(np.uint8), (24, 1))
    picture = Image.open("small.png")
    picture.putalpha(Image.fromarray(alpha))
    picture.save("in.png")
    out = f"out.{ending}"
    assert run("upscale", "in.png", "-o", out, "--scale", 2, "--weights", tiny_weights).code == 0
    written = Image.open(out)
    assert written.mode == "RGBA"
    expected = np.asarray(Image.fromarray(alpha).resize((40, 48), Image.Resampling.BICUBIC), float)
    assert np.abs(np.asarray(written.getchannel("A"), float) - expected).max() < 4


def test_transparency_needs_a_format_that_holds_it(refused: Callable[..., str], here: Path) -> None:
    picture = Image.open("small.png")
    picture.putalpha(100)
    picture.save("in.png")
    assert "out.jpg: JPEG cannot hold the image's transparency" in refused("upscale", "in.png", "-o", "out.jpg")


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_exif_and_profile_are_kept(run: Run, here: Path, tiny_weights: Path, ending: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be rotated by 90 degrees
    exif[ExifTags.Base.Artist] = "a person"
    Image.open("small.png").save("in.jpg", exif=exif, icc_profile=profile)
    out = f"out.{ending}"
    assert run("upscale", "in.jpg", "-o", out, "--scale", 2, "--weights", tiny_weights).code == 0
    written = Image.open(out)
    assert written.size == (48, 40)
    assert written.info["icc_profile"] == profile
    assert written.getexif()[ExifTags.Base.Artist] == "a person"
    assert written.getexif().get(ExifTags.Base.Orientation, 1) == 1


def test_grey_stays_grey(run: Run, here: Path, tiny_weights: Path) -> None:
    Image.open("small.png").convert("L").save("grey.png")
    assert run("upscale", "grey.png", "-o", "out.png", "--scale", 2, "--weights", tiny_weights).code == 0
    assert Image.open("out.png").mode == "L"


def test_kernel(run: Run, here: Path, tiny_weights: Path, tiny_pipeline: BlindDiffPipeline) -> None:
    names = ["k.npy", "k.mat", "k.csv", "k.txt", "k.json", "k.png"]
    outputs = [part for name in names for part in ("-o", name)]
    said = run("kernel", "small.png", "--scale", 3, *outputs, "--weights", tiny_weights)
    assert said.code == 0
    assert re.match(r"small.png: kernel .* px.*, noise .* grey levels.* x3 .*; MTF50 .* across, .* down, ", said.out)
    written = [read_kernel(name) for name in names]
    assert written[0].shape == (31, 31)
    assert written[0].sum() == pytest.approx(1, abs=1e-5)
    for kernel in written:
        assert np.abs(kernel - written[0]).max() < 1e-5
    estimates = [tiny_pipeline.estimate(Image.open("small.png"), scale).kernel[0].numpy() for scale in (3, 4)]
    assert np.allclose(written[0], estimates[0], atol=1e-6)
    assert not np.allclose(written[0], estimates[1], atol=1e-6)
    # Without -o nothing is written.
    before = contents(here)
    assert run("kernel", "small.png", "--scale", 3, "--weights", tiny_weights).out == said.out
    assert contents(here) == before


def test_what_is_notable_of_a_photograph() -> None:
    soft, sharpened = Sharpness((0.2, 0.2), 0.01), Sharpness((0.2, 0.2), 0.12)
    assert notable(soft, "none") == notable(soft, "white noise") == ""
    assert notable(soft, "grain") == "; grain"
    found = "; sharpened: its edges overshoot by 12%; printed screen of 3.0 px"
    assert notable(sharpened, "printed screen of 3.0 px") == found


def test_a_given_kernel_is_used_and_saved(run: Run, here: Path, tiny_weights: Path) -> None:
    settings = ("--scale", 2, "--weights", tiny_weights)
    given = ("--kernel", "kernel.csv", "--save-kernel", "used.npy")
    said = run("upscale", "small.png", "-o", "given.png", *given, "--noise-level", 3, *settings)
    assert said.code == 0
    assert "noise 3.0 grey levels" in said.out
    assert np.allclose(np.load("used.npy"), gaussian(1.5, (9, 7)), atol=1e-6)
    assert run("upscale", "small.png", "-o", "blind.png", "--save-kernel", "found.npy", *settings).code == 0
    assert np.load("found.npy").shape == (31, 31)
    assert Path("given.png").read_bytes() != Path("blind.png").read_bytes()


def test_degrade(run: Run, here: Path) -> None:
    said = run(
        "degrade", "sharp.png", "-o", "low.png", "--kernel", "kernel.csv", "--scale", 4, "--save-kernel", "k.npy"
    )
    assert said.code == 0
    assert said.out.startswith("low.png: 20 x 24; kernel ")
    assert np.allclose(np.load("k.npy"), gaussian(1.5, (9, 7)), atol=1e-6)
    sharp = np.asarray(Image.open("sharp.png"), float)
    blurred = scipy.ndimage.convolve(sharp, gaussian(1.5, (9, 7))[..., None], mode="mirror")
    planes = [Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(blurred, -1, 0)]
    expected = np.stack([np.asarray(plane.resize((20, 24), Image.Resampling.BICUBIC)) for plane in planes], -1)
    low = np.asarray(Image.open("low.png"), float)
    assert np.abs(low - expected)[4:-4, 4:-4].max() <= 0.51  # rounding; Pillow treats the border otherwise


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_want_of_memory_is_one_line(
    run: Run, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def without_memory(_: object) -> int:
        raise error

    monkeypatch.setattr("blinddiff.cli.photographs.run_kernel", without_memory)
    assert "this machine does not have enough memory" in refused("kernel", "small.png")
    monkeypatch.setattr("blinddiff.cli.photographs.run_kernel", _with_a_bug)
    with pytest.raises(RuntimeError, match="a bug"):
        run("kernel", "small.png")


def _with_a_bug(_: object) -> int:
    raise RuntimeError("a bug")


def test_degrade_and_demo_keep_what_the_file_says(run: Run, here: Path, tiny_weights: Path) -> None:
    """16 bits, and a profile with a tone curve of its own: a photograph that is hardly blurred stays as it is."""
    profile = imagecodecs.cms_profile("rgb", gamma=1.8)
    deep = np.asarray(Image.open("small.png")).astype(np.uint16) * 257 + 5
    tifffile.imwrite("deep.tif", deep, photometric="rgb", iccprofile=profile)
    assert run("degrade", "deep.tif", "-o", "low.tif", "--sigma", 0.05, "--scale", 1).code == 0
    with tifffile.TiffFile("low.tif") as file:
        assert file.pages.first.iccprofile == profile
        low = file.asarray()
    assert low.dtype == np.uint16
    assert np.abs(low.astype(int) - deep).max() <= 2
    assert run("demo", "deep.tif", "-o", "made", "--weights", tiny_weights).code == 0
    for name in ("input", "bicubic", "result", "sheet"):
        assert Image.open(f"made/{name}.png").info["icc_profile"] == profile
    assert np.abs(imagecodecs.imread("made/input.png").astype(int) - deep).max() <= 2
    # The sheet's first panel is the input, in the numbers of that profile; those of sRGB are up to 20 levels higher.
    width, height = Image.open("made/input.png").size
    factor = min(560 / width, 480 / height)
    panel = Image.open("made/sheet.png").crop((28, 80, 28 + round(width * factor), 80 + round(height * factor)))
    assert np.asarray(panel).mean() == pytest.approx(deep.mean() / 257, abs=2)


def test_degrade_gives_grey_the_noise_that_was_asked_for(run: Run, here: Path) -> None:
    Image.new("L", (80, 80), 128).save("grey.png")
    assert run("degrade", "grey.png", "-o", "low.png", "--sigma", 1, "--scale", 1, "--noise", 8).code == 0
    assert Image.open("low.png").mode == "L"
    assert np.asarray(Image.open("low.png"), float).std() == pytest.approx(8, rel=0.05)


def test_degrade_to_a_multiple_of_the_scale(run: Run, here: Path) -> None:
    Image.open("sharp.png").crop((0, 0, 50, 47)).save("odd.png")
    assert run("degrade", "odd.png", "-o", "low.png", "--sigma", 1.2, "--scale", 3).code == 0
    assert Image.open("low.png").size == (16, 15)


def test_degrade_by_noise_compression_and_chance(run: Run, here: Path) -> None:
    def degraded(*arguments: object) -> npt.NDArray[np.float64]:
        assert run("degrade", "sharp.png", "-o", "low.png", "--scale", 1, *arguments).code == 0
        return np.asarray(Image.open("low.png"), float)

    clean = degraded("--sigma", 2)
    noisy = degraded("--sigma", 2, "--noise", 8, "--seed", 3)
    inside = (clean > 40) & (clean < 215)
    assert (noisy - clean)[inside].std() == pytest.approx(8, rel=0.1)
    assert np.array_equal(noisy, degraded("--sigma", 2, "--noise", 8, "--seed", 3))
    assert not np.array_equal(noisy, degraded("--sigma", 2, "--noise", 8, "--seed", 4))
    compressed = degraded("--sigma", 2, "--jpeg", 10)
    assert 1 < np.abs(compressed - clean).mean() < 20
    motion = [degraded("--family", "motion", "--seed", seed, "--save-kernel", f"{seed}.npy") for seed in (1, 1, 2)]
    assert np.array_equal(motion[0], motion[1])
    assert not np.array_equal(np.load("1.npy"), np.load("2.npy"))


def test_degrade_and_back(run: Run, here: Path, tiny_weights: Path) -> None:
    made = ("--sigma", 1.6, "--scale", 2, "--save-kernel", "k.csv")
    assert run("degrade", "sharp.png", "-o", "low.png", *made).code == 0
    settings = ("--scale", 2, "--noise-level", 0, "--weights", tiny_weights)
    said = run("upscale", "low.png", "-o", "back.png", "--kernel", "k.csv", "--save-kernel", "k2.csv", *settings)
    assert said.code == 0
    assert Image.open("back.png").size == Image.open("sharp.png").size
    assert np.allclose(np.loadtxt("k2.csv", delimiter=","), np.loadtxt("k.csv", delimiter=","), atol=1e-7)
    explained = re.search(r"residual ([\d.]+) grey levels", said.out)
    assert explained
    assert float(explained[1]) < 1.5
    # A random network invents detail, but the blur that was undone shows.
    sharp, back = (np.asarray(Image.open(name).convert("L"), float) for name in ("sharp.png", "back.png"))
    bicubic = np.asarray(Image.open("low.png").convert("L").resize((80, 96), Image.Resampling.BICUBIC), float)
    assert back.std() > bicubic.std()
    assert sharp.shape == back.shape


RECIPE = """
data: {{folders: [photographs], context: 48, patch: 48, batch: 2}}
model: {model}
degradation: {{scales: {{2: 1.0}}, kernels: {{isotropic: 1.0}}, noise: {{none: 1.0}}}}
steps: {steps}
warmup: 2
"""


@pytest.fixture
def recipe(here: Path, tiny_model: dict[str, object]) -> Callable[[int], str]:
    Path("photographs").mkdir()
    Image.fromarray(skimage.data.cat()[:150, :160]).save("photographs/cat.png")

    def recipe(steps: int) -> str:
        Path("recipe.yaml").write_text(RECIPE.format(model=json.dumps(tiny_model), steps=steps))
        return "recipe.yaml"

    return recipe


def test_train_and_resume(run: Run, recipe: Callable[[int], str]) -> None:
    said = run("train", recipe(3), "-o", "run", "--device", "cpu")
    assert (said.code, said.out) == (0, "weights: run/weights\n")
    said = run("train", recipe(5), "-o", "run", "--device", "cpu", "--resume")
    assert (said.code, said.out) == (0, "weights: run/weights\n")
    with open("run/losses.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["step"] for row in rows] == ["3", "5"]
    assert all(float(row["total"]) > 0 for row in rows)
    assert run("upscale", "small.png", "-o", "out.png", "--weights", "run/weights", "--scale", 2).code == 0
    said = run("train", recipe(7000), "-o", "run", "--device", "cpu", "--resume", "--max-minutes", 0)
    assert said.out == "stopped at 5 of 7,000 steps; --resume continues\nweights: run/weights\n"
    # What is there is not trained over without being asked to.
    said = run("train", recipe(5), "-o", "run", "--device", "cpu")
    assert said.code == 2
    assert said.err.startswith("blinddiff train: error: run: already contains a run")


def test_train_takes_the_photographs_of_an_option_or_of_the_environment(
    run: Run, recipe: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(recipe(2))
    path.write_text(path.read_text().replace("folders: [photographs], ", ""))
    assert run("train", path, "--data", "photographs", "-o", "option", "--device", "cpu").code == 0
    monkeypatch.setenv("BLINDDIFF_PHOTOGRAPHS", "photographs")
    assert run("train", path, "-o", "environment", "--device", "cpu").code == 0


def test_train_stages(run: Run, recipe: Callable[[int], str]) -> None:
    path = Path(recipe(2))
    path.write_text(path.read_text() + "stages: [{stage: estimator}, {stage: network, steps: 3}]\n")
    said = run("train", path, "-o", "run", "--device", "cpu")
    assert (said.code, said.out) == (0, "weights: run/02-network/weights\n")
    assert run("train", path, "-o", "run", "--device", "cpu", "--resume").out == said.out
    assert "run: already contains a run" in run("train", path, "-o", "run", "--device", "cpu").err


def test_bad_training(run: Run, refused: Callable[..., str], recipe: Callable[[int], str], here: Path) -> None:
    text = Path(recipe(3)).read_text()
    files = {
        "unknown.yaml": (text.replace("steps:", "step:"), "unknown key 'step'; did you mean 'steps'"),
        "impossible.yaml": (text.replace("steps: 3", "steps: -3"), "steps: should be greater than 0, not -3"),
        "kind.yaml": (text.replace("steps: 3", "steps: many"), "steps: should be a valid integer, not 'many'"),
        "empty.yaml": ("", "should be a mapping"),
        "broken.yaml": ("a: [", "not YAML"),
    }
    for name, (content, reason) in files.items():
        (here / name).write_text(content)
        line = refused("train", name, "-o", "run", "--device", "cpu")
        assert f"{name}: " in line
        assert reason in line
    (here / "several.yaml").write_text(text.replace("steps: 3", "steps: -3").replace("warmup", "warm"))
    mistakes = run("train", "several.yaml", "-o", "run", "--device", "cpu").err.splitlines()
    assert [line.partition(": steps")[0].partition(": unknown")[0] for line in mistakes] == 2 * [
        "blinddiff train: error: several.yaml"
    ]
    (here / "bare.yaml").write_text("steps: 3\n")
    line = refused("train", "bare.yaml", "-o", "run", "--device", "cpu")
    assert "no photographs to train on: give their folders by --data or in BLINDDIFF_PHOTOGRAPHS" in line
    assert "elsewhere: no such folder" in refused("train", "recipe.yaml", "--data", "elsewhere", "--device", "cpu")
    assert "missing.yaml" in refused("train", "missing.yaml")
    assert "small.png" in refused("train", "small.png")
    assert "small.png: cannot be made" in refused("train", "recipe.yaml", "-o", "small.png", "--device", "cpu")
    assert "small.png/run: cannot be made" in refused("train", "recipe.yaml", "-o", "small.png/run", "--device", "cpu")
    for name in ("nowhere", "n" * 300):
        line = refused("train", "recipe.yaml", "-o", name, "--resume", "--device", "cpu")
        assert f"{name}: contains no checkpoint" in line


def test_the_mode_paper_without_a_published_network(refused: Callable[..., str], here: Path) -> None:
    (here / "photographs").mkdir()
    shutil.copy("small.png", "photographs/small.png")
    for name in ("small.png", "photographs"):
        line = refused("upscale", name, "-o", "out.png" if name == "small.png" else "out", "--mode", "paper")
        assert "mode 'paper' needs the weights of a published network; these weights run fidelity, fast" in line


def test_bad_conversion(refused: Callable[..., str], here: Path) -> None:
    torch.save({"params": {"conv_first.weight": torch.zeros(3)}}, "other.pth")
    torch.save([1], "list.pth")
    for name, reason in {
        "missing.pth": "no such file",
        "kernel.csv": "cannot be read as weights: it is no checkpoint of PyTorch or safetensors, or is damaged\n",
        "sharp.png": "cannot be read as weights: it is no checkpoint of PyTorch or safetensors, or is damaged\n",
        "list.pth": "holds no state dict",
        "other.pth": "not a checkpoint of the published BlindDiff",
    }.items():
        line = refused("convert", name, "folder")
        assert f"{name}: " in line
        assert reason in line
    assert "another: already exists" in refused("convert", "other.pth", "another")


OPTIONS = {
    "demo": {"photograph", "--output", "--engine", "--weights", "--device", "--threads"},
    "upscale": {
        "photograph",
        "--output",
        "--scale",
        "--steps",
        "--kernel",
        "--noise-level",
        "--save-kernel",
        "--seed",
        "--engine",
        "--weights",
        "--device",
        "--threads",
    },
    "kernel": {"photograph", "--output", "--scale", "--engine", "--weights", "--device", "--threads"},
    "app": {"--host", "--port", "--weights", "--device", "--max-megapixels", "--max-upload", "--queue", "--threads"},
    "serve": {
        "--host",
        "--port",
        "--weights",
        "--device",
        "--max-megapixels",
        "--max-upload",
        "--queue",
        "--threads",
        "--deadline",
    },
    "degrade": {
        "photograph",
        "--output",
        "--scale",
        "--sigma",
        "--kernel",
        "--family",
        "--noise",
        "--jpeg",
        "--seed",
        "--save-kernel",
    },
    "train": {"recipe", "--data", "--output", "--resume", "--max-minutes", "--device", "--threads"},
    "export": {"folder", "--scales", "--modes", "--weights", "--threads"},
    "convert": {"checkpoint", "folder", "--scale"},
    "evaluate": {
        "--protocol",
        "--scale",
        "--sets",
        "--methods",
        "--data",
        "--out",
        "--limit",
        "--workers",
        "--seed",
        "--threads",
    },
}


@pytest.mark.parametrize("command", OPTIONS)
def test_help(run: Run, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    said = run(command, "--help")
    assert said.code == 0
    assert said.err == ""
    usage, _, options = said.out.partition("\n\n")
    assert usage.startswith(f"usage: blinddiff {command}")
    # After the name and what stands for its value, what it means.
    described = {}
    for entry in re.split(r"\n  (?=\S)", options):
        names = re.match(r"(?:-\w\b[^-]*)?(--[\w-]+|\w+)", entry)
        if names:
            described[names[1]] = re.sub(r"^(\s|[A-Z\[\].]+\b|\.\.\.\]|\{.*?\})*", "", entry[names.end() :])
    for name in OPTIONS[command] | set(re.findall(r"--[\w-]+", usage)):
        assert re.search(r"[a-z]{3,}", described.get(name, "")), (name, said.out)


def test_choices_that_the_help_names_are_those_there_are() -> None:
    assert options.KERNEL_ENDINGS == KERNEL_ENDINGS
    written = {OUTPUT_FORMATS[f".{name}"].name for name in options.FORMATS if name != SAME}
    assert written == {kind.name for kind in OUTPUT_FORMATS.values()}
    assert options.DPI_RULES == DPI_RULES


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="CPU time is measured as POSIX has it")
def test_the_overview_takes_half_a_second_at_most() -> None:
    """Of CPU time, in the best of three runs."""
    seconds = []
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-m", "blinddiff", "--help"], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        seconds.append(usage.ru_utime + usage.ru_stime)
    assert min(seconds) < 0.5


@pytest.mark.parametrize("command", sorted(OPTIONS.keys() - {"evaluate"}))
def test_help_does_not_wait_for_torch(command: str) -> None:
    code = (
        "import sys; from blinddiff.cli.main import command_parser as p; p(sys.argv[1]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, command], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_every_command_has_a_test_of_its_help() -> None:
    assert set(cli.COMMANDS) == set(OPTIONS)


def test_overview(run: Run) -> None:
    said = run("--help")
    assert said.code == 0
    for name in OPTIONS:
        assert re.search(rf"^ +{name} +[a-z].{{20,}}$", said.out, re.MULTILINE)
    assert re.fullmatch(r"blinddiff \d+\.\d+\.\d+\S*\n", run("--version").out)
    assert run() == (0, said.out, "")
    for arguments in (("banana",), ("--banana",)):
        said = run(*arguments)
        assert said.code == 2
        assert said.err.count("\n") == 1
        assert said.err.startswith("blinddiff: error: ")


@pytest.mark.parametrize("command", ["kernel", "degrade", "upscale"])
def test_what_transparency_hides_is_not_seen(run: Run, here: Path, tiny_weights: Path, command: str) -> None:
    """Two photographs that look the same, with other colours hidden under their transparency."""
    made = []
    for hidden in (0, 255):
        pixels = np.dstack([skimage.data.cat()[100:196, 120:200], np.full((96, 80), 255, np.uint8)])
        pixels[30:60, 20:50] = (*np.random.default_rng(hidden).integers(0, 256, 3), 0)
        Image.fromarray(pixels).save("cut.png")
        made_of = {
            "kernel": ("-o", "made.csv", "--scale", "1", "--weights", tiny_weights),
            "degrade": ("-o", "made.csv.png", "--scale", "1", "--sigma", "1", "--save-kernel", "made.csv"),
            "upscale": ("-o", "made.csv.png", "--scale", "1", "--weights", tiny_weights, "--kernel-map", "map.png"),
        }[command]
        assert run(command, "cut.png", *made_of).code == 0
        made.append([path.read_bytes() for path in map(Path, ("made.csv", "made.csv.png", "map.png")) if path.exists()])
    assert made[0] == made[1]
    assert made[0]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
        ({"GOMP_SPINCOUNT": "9"}, {"GOMP_SPINCOUNT": "9"}),
    ],
)
def test_idle_threads_sleep_unless_the_user_wants_otherwise(own: dict[str, str], expected: dict[str, str]) -> None:
    names = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
    code = (
        "import os, sys; import blinddiff.cli.main as cli; assert 'torch' not in sys.modules;"
        "cli._parser = lambda _: sys.exit(str({n: v for n, v in os.environ.items() if 'OMP_' in n}))\n"
        "assert 'torch' not in sys.modules; cli.main(['kernel', 'photo.png'])"
    )
    environment = {name: value for name, value in os.environ.items() if "OMP_" not in name} | own
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert {name: value for name, value in ast.literal_eval(ended.stderr).items() if name in names} == expected


def test_the_number_of_threads(
    run: Run, here: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    numbers: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    assert run("kernel", "small.png", "--weights", tiny_weights).code == 0
    assert numbers == []
    assert run("kernel", "small.png", "--weights", tiny_weights, "--threads", 3).code == 0
    assert numbers == [3]
    assert "--threads: 0 is not between 1 and 1024" in refused("kernel", "small.png", "--threads", 0)
