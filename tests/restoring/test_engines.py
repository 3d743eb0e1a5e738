"""Both engines give the same Result, and the light one needs no torch."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import blinddiff
from blinddiff.cli.main import main
from blinddiff.errors import BlindDiffError, ParameterError
from blinddiff.imaging import encode_image, read_image
from blinddiff.restoring.engines import default_mode, engine_for, load_engine
from blinddiff.restoring.photograph import RestoreSettings, restore_photograph
from blinddiff.restoring.plan import plan_restoration


def photograph(mode="RGB", height=24, width=36):
    row, column = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 60, (height, width, 3))
    picture = Image.fromarray((noise + (5 * row + 3 * column)[..., None] % 190).astype(np.uint8)).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", dpi=(96, 96))
    return read_image(buffer.getvalue())


@pytest.fixture(params=["torch", "onnx"])
def engine(request, tiny_pipeline):
    if request.param == "torch":
        return tiny_pipeline
    return load_engine("onnx", request.getfixturevalue("tiny_graphs"))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("scale", [1, 2, 2.5])
def test_a_result_has_the_same_form_from_both(engine, mode, scale):
    source, shares = photograph(mode), []
    settings = RestoreSettings(scale=scale, mode="fast")
    result = restore_photograph(engine, source, settings, on_progress=shares.append)
    assert shares[-1] == pytest.approx(1)
    height, width = settings.result_size(24, 36)
    arrays = {"pixels": (3, height, width), "kernel": (31, 31), "noise_spectrum": (16, 16), "residual": (3, 24, 36)}
    for name, shape in arrays.items():
        value = getattr(result, name)
        assert (type(value), value.dtype, value.shape) == (np.ndarray, np.float32, shape), name
    assert (result.alpha is None) == (mode != "RGBA")
    facts = json.loads(json.dumps(result.facts(Path("out.png"))))
    assert (facts["width"], facts["height"], facts["decision"]) == (width, height, result.decision.fallback)
    assert sum(map(sum, facts["kernel"])) == pytest.approx(1, abs=1e-3)
    written = Image.open(io.BytesIO(encode_image("a.png", result.pixels, source, result.alpha)))
    assert (written.mode, written.size) == (mode, (width, height))
    assert written.info["dpi"][0] == pytest.approx(96 * height / 24, rel=1e-3)


def test_one_call_takes_files_pictures_and_arrays(tiny_graphs, tiny_weights, tmp_path):
    source = photograph("L")
    (tmp_path / "a.png").write_bytes(encode_image("a.png", source.pixels, source))
    picture = Image.open(tmp_path / "a.png")
    for weights in (str(tiny_graphs), str(tiny_weights)):
        images = (tmp_path / "a.png", picture, np.asarray(picture), np.asarray(picture) / 255)
        options = {"weights": weights, "device": "cpu", "mode": "fast"}
        results = [blinddiff.restore(image, 2, **options) for image in images]
        for result in results:
            assert np.allclose(result.pixels, results[0].pixels, atol=1e-6)
            assert result.picture.size == (72, 48)
        results[0].save(tmp_path / "b.png")
        assert Image.open(tmp_path / "b.png").info["dpi"][0] == pytest.approx(192, abs=0.1)
    assert blinddiff.restore(picture, 1.5, weights=str(tiny_graphs)).settings.mode == "fast"
    colours = photograph("RGBA")
    rgba = Image.open(io.BytesIO(encode_image("a.png", colours.pixels, colours, colours.alpha)))
    assert blinddiff.restore(rgba, 2, weights=str(tiny_graphs)).picture.mode == "RGBA"
    with pytest.raises(ParameterError, match="mode 'perceptual' needs other graphs"):
        blinddiff.restore(picture, 2, weights=str(tiny_graphs), mode="perceptual")


def test_plans_of_both(engine):
    plan = plan_restoration(24, 36, RestoreSettings(scale=2, mode="fast"), engine)
    assert (plan.height, plan.width, plan.tiles) == (48, 72, 1)
    assert plan.memory > 4 * 3 * 48 * 72
    assert plan.seconds > 0


def test_what_graphs_do_not_reach(tiny_graphs):
    with pytest.raises(ParameterError, match="do not reach 8; --engine torch reaches more"):
        restore_photograph(load_engine("onnx", tiny_graphs), photograph(), RestoreSettings(scale=8, mode="fast"))


def test_options_that_graphs_fix_are_refused_before_the_work(tiny_graphs, tmp_path, capsys):
    (tmp_path / "album").mkdir()
    for path in ("small.png", "album/one.png"):
        (tmp_path / path).write_bytes(encode_image("a.png", photograph().pixels))
    for options in (("--steps", "3"), ("--samples", "2"), ("--noise-level", "2"), ("--kernel-map", "map.png")):
        for source in ("small.png", "album"):
            if source == "album" and options[0] == "--kernel-map":
                continue
            words = ["upscale", str(tmp_path / source), "-o", str(tmp_path / "new.png"), "--weights", str(tiny_graphs)]
            assert main([*words, *(option.replace("map.png", str(tmp_path / "map.png")) for option in options)]) == 2
            assert "is fixed in graphs; --engine torch takes it" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["album", "small.png"]


def test_which_engine_is_taken(tiny_graphs, tiny_weights, monkeypatch):
    for accelerator in (False, True):
        monkeypatch.setattr("blinddiff.restoring.engines.has_accelerator", lambda _, found=accelerator: found)
        assert engine_for("auto", tiny_graphs, None) == "onnx"
        assert engine_for("auto", tiny_weights, None) == "torch"
        monkeypatch.setattr("blinddiff.restoring.engines.DEFAULT_WEIGHTS", tiny_graphs)
        assert engine_for("auto", None, None) == ("torch" if accelerator else "onnx")
        assert engine_for("torch", None, None) == "torch"
    assert default_mode("auto", tiny_graphs, None) == "fast"
    assert default_mode("auto", tiny_weights, None) == "fidelity"


def test_fingerprints_tell_engines_and_graphs_apart(tiny_graphs):
    onnx = RestoreSettings(weights=str(tiny_graphs), mode="fast")
    assert onnx.fingerprint() == RestoreSettings(weights=str(tiny_graphs), mode="fast", engine="onnx").fingerprint()
    assert onnx.fingerprint() != RestoreSettings(weights=str(tiny_graphs), mode="fast", engine="torch").fingerprint()


@pytest.fixture
def without_torch(tmp_path):
    """Runs the command line in a new process; it and its worker processes fail if they import torch."""
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "torch.py").write_text("raise ImportError('torch was imported')\n")
    paths = [str(tmp_path / "blocked"), *filter(None, [os.environ.get("PYTHONPATH")])]

    def run(*words):
        command = [sys.executable, "-m", "blinddiff", *map(str, words)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)

    return run


def test_commands_of_the_light_engine_import_no_torch(without_torch, tiny_graphs, tmp_path):
    data = encode_image("a.png", photograph("RGBA").pixels)
    (tmp_path / "album").mkdir()
    for path in ("small.png", "album/one.png", "album/two.png"):
        (tmp_path / path).write_bytes(data)
    options = ("--engine", "onnx", "--weights", tiny_graphs)
    single = ("upscale", "small.png", "--scale", 2, "--compare", "sheet.png", "--save-kernel", "k.mat", "-v")
    for words in (single, ("upscale", "album", "--jobs", 2), ("kernel", "small.png", "-o", "k.csv"), ("demo",)):
        done = without_torch(*words, *options)
        assert done.returncode == 0, (words, done.stderr)
    assert Image.open(tmp_path / "small_x2.png").size == (72, 48)
    assert Image.open(tmp_path / "album_x4" / "two.png").size == (144, 96)
    names = {"sheet.png", "k.mat", "k.csv", "demo"}
    assert names <= {path.name for path in tmp_path.iterdir()}


def test_it_starts_fast(without_torch, tiny_graphs, tmp_path):
    resource = pytest.importorskip("resource", reason="no CPU time of other processes")
    (tmp_path / "small.png").write_bytes(encode_image("a.png", photograph().pixels))
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = without_torch("upscale", "small.png", "--engine", "onnx", "--weights", tiny_graphs)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 1.5  # of CPU; these graphs compute next to nothing, so that all but the network's work counts


def test_what_needs_torch_says_so_in_one_line(tmp_path):
    blocked = (
        "import sys; sys.modules['torch'] = None; from blinddiff.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    photograph_file = tmp_path / "small.png"
    photograph_file.write_bytes(encode_image("a.png", photograph().pixels))
    for words in (
        ("upscale", photograph_file),
        ("degrade", photograph_file, "-o", tmp_path / "y.png", "--sigma", 1),
        ("convert", tmp_path / "a.pth", tmp_path / "b"),
        ("evaluate", "--protocol", "gaussian8"),
    ):
        command = [sys.executable, "-c", blocked, *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert "needs torch: pip install 'blinddiff[torch]'" in done.stderr
    for words in (("--help",), ("--completion", "bash"), ("upscale", "--help")):
        done = subprocess.run([sys.executable, "-c", blocked, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_an_engine_whose_package_is_missing(tiny_graphs, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BlindDiffError, match="the engine onnx needs onnxruntime: pip install"):
        load_engine("onnx", tiny_graphs)
