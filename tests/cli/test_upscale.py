"""`blinddiff upscale`: names of results, sizes, pipes and patterns, what it says before and after."""

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image, JpegImagePlugin

from blinddiff.cli import inputs
from blinddiff.cli import main as cli
from blinddiff.restoring.plan import Plan

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `blinddiff upscale` at scale 2, unless told otherwise, in a folder with a small photograph, photo.jpg."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(skimage.data.cat()[100:124, 120:140]).save("photo.jpg", quality=97)

    def run(*arguments: object) -> tuple[int, str, str]:
        words = ["upscale", *map(str, arguments), "--weights", str(tiny_weights), "--device", "cpu"]
        sized = {"--scale", "--width", "--height", "--longest", "--megapixels"} & set(words)
        try:
            code = cli.main(words + ([] if sized else ["--scale", "2"]))
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    def in_this_process(jobs: Sequence[Any], make: Callable[[], Any], *_: object) -> Iterator[Any]:
        restorer = make()
        yield from ((job, restorer(job)) for job in jobs)

    monkeypatch.setattr("blinddiff.restoring.folder.run_tasks", in_this_process)
    return run


def names() -> set[str]:
    return {str(path) for path in Path().rglob("*") if path.is_file()}


def test_results_are_named_after_their_photographs(run: Run) -> None:
    Path("d").mkdir()
    Path("sub").mkdir()
    Image.open("photo.jpg").save("sub/other.png")
    Image.open("photo.jpg").save("sub/other.jpg")
    for arguments, made in (
        (("photo.jpg",), {"photo_x2.png"}),
        (("photo.jpg", "--scale", "1.5", "--format", "same"), {"photo_x1.5.jpg"}),
        (("photo.jpg", "--longest", 30), {"photo_25x30.png"}),
        (("photo.jpg", "-o", "d"), {"d/photo_x2.png"}),
        (("photo.jpg", "-o", "new/"), {"new/photo_x2.png"}),
        (("photo.jpg", "sub/*.png", "./photo.jpg", "-o", "all"), {"all/photo_x2.png", "all/other_x2.png"}),
        (("sub",), {"sub_x2/other.jpg.png", "sub_x2/other.png.png", "sub_x2/.blinddiff-ledger.jsonl"}),
    ):
        before = names()
        code, _, err = run(*arguments)
        assert (code, err) == (0, "")
        assert names() - before == made


def test_no_input_and_no_result_of_the_same_run_is_replaced(run: Run) -> None:
    Image.open("photo.jpg").save("photo_x2.png")
    Image.open("photo.jpg").save("photo.png")
    before = Path("photo_x2.png").read_bytes()
    code, out, err = run("photo.jpg", "photo_x2.png", "--json", "-")
    assert code == 1
    assert "photo_x2.png: is another file of this run" in err.splitlines()[0]
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["failed", "done"]
    assert Path("photo_x2.png").read_bytes() == before
    code, _, err = run("photo.jpg", "photo.png", "-o", "d")
    assert (code, err.count("\n")) == (1, 1)
    assert names() >= {"d/photo_x2.png"}
    code, _, err = run("photo.jpg", "missing.jpg", "photo.png", "-o", "e", "--scale", 1)
    assert code == 1
    assert "missing.jpg: there is no such file" in err


@pytest.mark.parametrize(
    ("arguments", "size", "kernel_scale"),
    [
        (("--scale", 1.5), (30, 36), 2),
        (("--scale", 4.5), (90, 108), 3),
        (("--scale", 8), (160, 192), 4),
        (("--width", 50), (50, 60), 3),
        (("--width", 50, "--height", 40), (33, 40), 2),
        (("--longest", 48), (40, 48), 2),
        (("--longest", 20), (17, 20), 1),
        (("--megapixels", 0.0012), (32, 38), 2),
    ],
)
def test_any_size(run: Run, arguments: tuple[object, ...], size: tuple[int, int], kernel_scale: int) -> None:
    code, out, _ = run("photo.jpg", "-o", "out.png", "--json", "facts.json", *arguments)
    assert code == 0
    facts = json.loads(Path("facts.json").read_text())
    assert Image.open("out.png").size == size == (facts["width"], facts["height"])
    assert facts["kernel_scale"] == kernel_scale
    assert f"(kernel in pixels of x{kernel_scale})" in out


def test_a_mask(run: Run) -> None:
    """Whatever lies under it, the result is the same; the mask is turned upright like the photograph."""
    pixels = np.asarray(Image.open("photo.jpg"))
    mask = np.zeros((24, 20), np.uint8)
    mask[3:6, 2:18] = 255
    layer = np.dstack([np.full((24, 20), 255, np.uint8), mask])  # white strokes on a transparent layer
    Image.fromarray(layer).save("layer.png")
    turned = Image.Exif()
    turned[0x0112] = 6  # shown after a quarter turn clockwise
    for name, value in (("black", 0), ("white", 255)):
        Image.fromarray(np.where(mask[..., None] > 0, np.uint8(value), pixels)).save(f"{name}.png")
    Image.fromarray(np.rot90(np.asarray(Image.open("white.png")))).save("turned.png", exif=turned)
    Image.fromarray(np.rot90(mask)).save("mask.png", exif=turned)
    for name in ("black", "white", "turned"):
        code, out, err = run(f"{name}.png", "-o", f"{name}_out.png", "--mask", "mask.png", "--json", "facts.json")
        assert (code, err) == (0, "")
        assert "; 10.00% of the pixels masked; residual" in out
        assert json.loads(Path("facts.json").read_text())["masked"] == 0.1
    assert run("white.png", "-o", "layer_out.png", "--mask", "layer.png")[0] == 0
    results = [np.asarray(Image.open(f"{name}_out.png")) for name in ("black", "white", "turned", "layer")]
    assert all(np.array_equal(result, results[0]) for result in results)
    assert run("white.png", "-o", "plain_out.png")[0] == 0
    assert not np.array_equal(np.asarray(Image.open("plain_out.png")), results[0])


def test_bad_masks_get_one_line(run: Run) -> None:
    Image.new("L", (20, 24), 255).save("white.png")
    Image.new("L", (10, 24)).save("narrow.png")
    Image.new("L", (20, 24)).save("black.png")
    Path("notes.png").write_text("no picture")
    before = names()
    for mask, reason in (
        ("narrow.png", "narrow.png: a mask of 10x24 pixels for an image of 20x24: both must have the same size"),
        ("white.png", "white.png: the mask marks every pixel"),
        ("notes.png", "notes.png: is not an image"),
        ("missing.png", "missing.png: "),
    ):
        code, out, err = run("photo.jpg", "-o", "out.png", "--mask", mask)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert reason in err
    assert "another file of this run" in run("photo.jpg", "-o", "black.png", "--mask", "black.png")[2]
    assert "--mask: applies only to a single photograph" in run("photo.jpg", "white.png", "--mask", "black.png")[2]
    assert names() == before


def test_sizes_that_cannot_be(run: Run) -> None:
    before = names()
    for arguments, reason in (
        (("--width", 161), "8.1 times as large as the photograph: at most 8 times"),
        (("--scale", 2, "--width", 40), "--scale: not allowed with --width or --height"),
        (("--longest", 40, "--width", 40), "exclude one another"),
        (("--std", "std.png"), "--std: needs --samples"),
        (("--quality", 80), "out.png: PNG files have no quality to choose"),
        (("other.jpg", "--save-kernel", "k.csv"), "--save-kernel: applies only to a single photograph"),
    ):
        code, out, err = run("-o", "out.png", "photo.jpg", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert reason in err
    assert "*.webp: no file has such a name" in run("*.webp")[2]
    assert names() == before


def test_pipes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("photo.jpg", "-o", "expected.png")[0] == 0
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(Path("photo.jpg").read_bytes()))
    writer.start()
    assert run("pipe", "-o", "out.png")[0] == 0
    writer.join()
    assert Path("out.png").read_bytes() == Path("expected.png").read_bytes()
    for name in ("-", "/dev/stdin"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("photo.jpg").read_bytes())))
        assert run(name, "-o", "out.png")[0] == 0
        assert Path("out.png").read_bytes() == Path("expected.png").read_bytes()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("photo.jpg").read_bytes())))
        assert "-o: is required for a photograph from a pipe" in run(name)[2]


def test_quality_and_subsampling_are_those_of_the_file(run: Run) -> None:
    code, out, _ = run("photo.jpg", "-o", "out.jpg", "--quality", 60, "--subsampling", "4:2:0")
    assert code == 0
    assert out.endswith(f"; {Path('out.jpg').stat().st_size / 1e6:.3g} MB\n")
    Image.new("RGB", (16, 16)).save("pillow.jpg", quality=60)
    written = Image.open("out.jpg")
    assert written.quantization == Image.open("pillow.jpg").quantization  # type: ignore[attr-defined]
    assert JpegImagePlugin.get_sampling(written) == 2
    for ending in ("webp", "avif"):
        sizes = []
        for quality in (30, 99):
            assert run("photo.jpg", "-o", f"out.{ending}", "--quality", quality)[0] == 0
            sizes.append(Path(f"out.{ending}").stat().st_size)
        assert sizes[0] < 0.7 * sizes[1]


def test_dots_per_inch_and_what_has_no_room(run: Run) -> None:
    Path("d").mkdir()
    for name in ("photo.jpg", "d/photo.jpg"):
        # A title, so that other words find no room in WebP
        title = Image.Exif()
        title[270] = "a title"
        Image.fromarray(skimage.data.cat()[100:124, 120:140]).save(name, dpi=(300, 300), comment="roll 7", exif=title)
    note = "photo.jpg: WebP has no room for its texts (Comment)\n"
    for more, dpi in (((), 600), (("--dpi", "keep"), 300)):
        assert run("photo.jpg", "-o", "out.png", *more)[2] == ""
        assert Image.open("out.png").info["dpi"] == pytest.approx((dpi, dpi), abs=0.01)
        assert run("photo.jpg", "-o", "out.webp", "--json", "one.json", *more)[2] == note
        assert Image.open("out.webp").getexif()[282] == dpi
        assert json.loads(Path("one.json").read_text())["notes"] == [note.strip().removeprefix("photo.jpg: ")]
        assert str(Path("d", note)) in run("d", "-o", f"all{dpi}", "--format", "webp", *more)[1]
        assert Image.open(f"all{dpi}/photo.webp").getexif()[282] == dpi


def test_samples_and_the_sheet(run: Run) -> None:
    more = ("--samples", 3, "--std", "std.png", "--compare", "sheet.png", "--scale", 1.5, "--mode", "perceptual")
    assert run("photo.jpg", "-o", "out.png", "--json", "facts.json", "--steps", 1, *more)[0] == 0
    std = Image.open("std.png")
    assert (std.mode, std.size, std.getextrema()[1]) == ("L", (30, 36), 255)
    facts = json.loads(Path("facts.json").read_text())
    assert facts["samples"] == 3
    assert 0 < facts["uncertainty"] < facts["std_white"]
    assert Image.open("sheet.png").width > 900


def test_dry_run_and_quiet(run: Run) -> None:
    Path("album").mkdir()
    for name in ("a.png", "b.png"):
        Image.open("photo.jpg").save(f"album/{name}")
    before = names()
    code, out, err = run("photo.jpg", "--scale", 8, "--dry-run")
    assert (code, err) == (0, "")
    assert out.startswith("photo.jpg -> photo_x8.png: 160 x 192 pixels; 2 tiles; 0.1 GB of memory; about ")
    assert run("album", "-o", "new", "--dry-run")[1].startswith(
        "album -> new: 2 photographs; results of 0.0 megapixels"
    )
    assert names() == before
    assert run("photo.jpg", "-q") == (0, "", "")
    assert run("album", "-q") == (0, "", "")
    assert run("photo.jpg", "-v")[2].startswith("40 x 48 pixels; 1 tile; ")


def test_a_long_job_asks_on_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "plan_restoration", lambda *_: Plan(40, 48, 7, 10**9, 4000.0))
    monkeypatch.setattr(inputs, "_SHORT", 1)
    plan = "48 x 40 pixels; 7 tiles; 1.0 GB of memory; about 67 min\n"
    assert run("photo.jpg")[::2] == (0, plan)  # nobody is there to answer
    Path("photo_x2.png").unlink()
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdin, "readline", lambda: "\n")
    code, _, err = run("photo.jpg")
    assert code == 2
    assert plan in err
    assert "This takes about 67 min. Continue? [y/N] " in err
    assert not Path("photo_x2.png").exists()
    assert run("photo.jpg", "--yes")[0] == 0
    monkeypatch.setattr(sys.stdin, "readline", lambda: "y\n")
    assert run("photo.jpg")[0] == 0


def test_a_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    unsafe = "" if sys.version_info < (3, 11) else "-P "
    script = f"mkdir gone; cd gone; rmdir ../gone; exec {sys.executable} {unsafe}-m blinddiff upscale a.png"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "blinddiff: error: the working directory no longer exists\n")


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="needs bash")
def test_completion(tmp_path: Path) -> None:
    (tmp_path / "script").write_text(cli.completion("bash"))
    test = '. ./script; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _blinddiff; echo "${COMPREPLY[@]}"'
    for words, expected in {
        ("up",): "upscale",
        ("upscale", "--sa"): "--samples --save-kernel",
        ("upscale", "--mode", "p"): "perceptual paper",
        ("degrade", "photo.jpg", "--fam"): "--family",
        ("upscale", "pho"): "",
    }.items():
        done = subprocess.run(
            ["/bin/bash", "-c", test, "bash", "blinddiff", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert sorted(done.stdout.split()) == sorted(expected.split())
    assert cli.completion("zsh").startswith("autoload")


def test_sheet_of_a_reduced_result_shows_the_photograph(run: Run) -> None:
    assert run("photo.jpg", "-o", "out.png", "--scale", 1.5, "--compare", "sheet.png")[0] == 0
    sheet, result = Image.open("sheet.png"), np.asarray(Image.open("out.png"), float)
    width, height = 400, 480  # the panel of a picture of 30 x 36
    left = 28 + 2 * (440 + 16)  # columns are not narrower than 440
    panel = np.asarray(sheet.crop((left, 80, left + width, 80 + height)), float)
    assert panel.mean() == pytest.approx(result.mean(), abs=4)
