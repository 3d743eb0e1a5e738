"""The static page of `make web`: its results against those of the light engine in Python, and that it works offline."""

import contextlib
import functools
import io
import json
import os
import re
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blinddiff.files import DEFAULT_WEIGHTS
from blinddiff.imaging import read_image
from blinddiff.light.engine import Engine
from blinddiff.light.graphs import Graphs
from blinddiff.restoring.photograph import RestoreSettings, restore_photograph
from blinddiff.sampling.modes import DESCRIPTION
from blinddiff.sampling.spans import spans

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-browser").expect
REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLES = REPOSITORY / "src/blinddiff/samples"


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Served:
    """A folder on a free port of this machine."""

    def __init__(self, folder):
        handler = functools.partial(Handler, directory=str(folder))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def graphs(request):
    """The graphs of the included weights, or stand-ins if these have none."""
    return DEFAULT_WEIGHTS if (DEFAULT_WEIGHTS / DESCRIPTION).is_file() else request.getfixturevalue("tiny_graphs")


@pytest.fixture(scope="module")
def built(graphs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("web") / "page"
    script = REPOSITORY / "scripts" / "build_web.py"
    build = subprocess.run(
        [sys.executable, script, "--graphs", graphs, "--out", folder], check=False, capture_output=True, text=True
    )
    if "npm cannot load" in build.stderr:
        pytest.skip("npm cannot load onnxruntime-web here")
    assert build.returncode == 0, build.stderr
    return folder


@pytest.fixture(scope="module")
def site(built):
    served = Served(built)
    yield served
    served.stop()


@contextlib.contextmanager
def opened(browser, site):
    context = browser.new_context(viewport={"width": 900, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.errors, page.hosts = [], set()
    page.on("console", lambda line: page.errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    context.on("request", lambda request: page.hosts.add(request.url.split("/")[2]))
    page.goto(site.address)
    page.wait_for_function("self.crossOriginIsolated")  # it loads once more when it has kept its files
    expect(page.locator("#status")).to_have_text("Ready", timeout=60_000)
    yield page
    context.close()


@pytest.fixture(scope="module")
def page(browser, site):
    with opened(browser, site) as page:
        yield page


def restore(page, path, scale):
    page.locator("#file").set_input_files(path)
    page.get_by_label("Scale").select_option(str(scale))
    page.get_by_role("button", name="Restore").click()
    expect(page.locator("#status")).to_have_text(re.compile("Done in|Not restored"), timeout=300_000)
    expect(page.locator("#status")).to_contain_text("Done in")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == f"{path.stem}-x{scale}.png"
    return np.asarray(Image.open(io.BytesIO(download.value.path().read_bytes())).convert("RGB"), np.int16)


def by_python(graphs, path, scale):
    engine = Engine(graphs)
    settings = RestoreSettings(scale=scale, mode=engine.modes[0], engine="onnx", weights=str(graphs))
    return restore_photograph(engine, read_image(path), settings)


def grey_levels(pixels):
    return (np.moveaxis(pixels, 0, -1) * 255).round().astype(np.int16)


def test_results_are_those_of_python(page, graphs, site, tmp_path):
    with Image.open(SAMPLES / "guitar.jpg") as sample:
        sample.crop((40, 60, 88, 100)).save(tmp_path / "photo.png")
        sample.crop((60, 60, 97, 93)).save(tmp_path / "small.jpg", quality=60)
    for name, scale in (("photo.png", 4), ("small.jpg", 2), ("photo.png", 1)):
        found = restore(page, tmp_path / name, scale)
        expected = by_python(graphs, tmp_path / name, scale)
        assert np.abs(found - grey_levels(expected.pixels)).max() <= 1
        figures = page.get_by_role("table", name="What was found")
        expect(figures).to_contain_text(f"Noise{expected.noise_level:.1f} grey levels")
        expect(figures).to_contain_text(f"Threads{min(8, os.cpu_count())}")
    assert page.hosts == {site.address.split("/")[2]}
    assert page.errors == []


def test_it_works_without_a_network(browser, built, graphs, tmp_path):
    with Image.open(SAMPLES / "flowers.jpg") as sample:
        sample.crop((0, 0, 24, 20)).save(tmp_path / "photo.png")
    site = Served(built)
    with opened(browser, site) as page:
        site.stop()
        page.reload()
        expect(page.locator("#status")).to_have_text("Ready", timeout=60_000)
        found = restore(page, tmp_path / "photo.png", 3)
    assert np.abs(found - grey_levels(by_python(graphs, tmp_path / "photo.png", 3).pixels)).max() <= 1


def test_what_it_refuses(page, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (4, 30)).save(tmp_path / "small.png")
    Image.new("RGB", (3000, 1000)).save(tmp_path / "large.png")
    messages = {"text.png": "cannot be read", "small.png": "too small", "large.png": "48 megapixels is too large"}
    for name, message in messages.items():
        page.locator("#file").set_input_files(tmp_path / name)
        page.get_by_label("Scale").select_option("4")
        page.get_by_role("button", name="Restore").click()
        expect(page.locator("#status")).to_contain_text(message)


def test_slider_moves_and_work_can_be_stopped(page, screenshot):
    page.get_by_role("button", name="Use a sample").click()
    page.get_by_role("button", name="Restore").click()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#status")).to_have_text("Stopped")
    restore(page, SAMPLES / "flowers.jpg", 2)
    screenshot(page, "web")
    before = page.locator("#before")
    assert "50%" in before.evaluate("canvas => getComputedStyle(canvas).clipPath")
    page.locator("#position").fill("20")
    assert "80%" in before.evaluate("canvas => getComputedStyle(canvas).clipPath")
    assert page.locator("#kernel").evaluate("canvas => [canvas.width, canvas.height]") == [31, 31]


def stand_in(residuals, probabilities, factor):
    """Graphs that enlarge by repetition, in turn with these residuals; `IN_THE_PAGE` has the same."""
    left = list(residuals)

    def run(_, part, scale, y, **inputs):
        if part == "estimate":
            kernel = np.zeros((1, 31, 31), np.float32)
            kernel[0, 15, 14:17] = 1 / 3
            return {
                "kernel": kernel,
                "noise_level": np.ones(1, np.float32),
                "expected_kernel_error": np.full(1, 0.1, np.float32),
                "noise_spectrum": np.ones((1, 16, 16), np.float32),
                "picture_probabilities": np.array([probabilities], np.float32),
                "enlarged_by": np.full(1, factor, np.float32),
            }
        residual = left.pop(0) if len(left) > 1 else left[0]
        return {
            "x": y.repeat(scale, 2).repeat(scale, 3),
            "residual": np.full_like(y, residual),
            "refined_kernel": inputs["kernel"],
            "refined_noise_level": inputs["noise_level"] + y.mean(),
        }

    return run


IN_THE_PAGE = """async (given) => {
    const [values, height, width, scale, description, residuals, probabilities, factor] = JSON.parse(given);
    const [{ Engine }, settings] = [await import("./engine.js"), await (await fetch("settings.json")).json()];
    const y = { data: Float32Array.from(values), height, width };
    const kernel = new Float32Array(961);
    kernel.set([1 / 3, 1 / 3, 1 / 3], 15 * 31 + 14);
    const one = (value) => ({ data: Float32Array.of(value) });
    const run = async (part, s, inputs) => {
        if (part === "estimate") return {
            kernel: { data: kernel }, noise_level: one(1), expected_kernel_error: one(0.1),
            noise_spectrum: { data: new Float32Array(256).fill(1) },
            picture_probabilities: { data: probabilities }, enlarged_by: one(factor),
        };
        const residual = residuals.length > 1 ? residuals.shift() : residuals[0];
        const { data, dims: [, , h, w] } = inputs.y;
        const x = Float32Array.from({ length: 3 * h * w * s * s }, (_, i) => {
            const [row, column] = [Math.floor(i / (w * s)), i % (w * s)];
            return data[Math.floor(row / s) * w + Math.floor(column / s)];
        });
        const mean = data.reduce((sum, value) => sum + value, 0) / data.length;
        return {
            x: { data: x }, residual: { data: new Float32Array(data.length).fill(residual) },
            refined_kernel: inputs.kernel, refined_noise_level: one(inputs.noise_level.data[0] + mean),
        };
    };
    const found = await new Engine(description, settings, run).restore(y, scale, "fast", 0, () => {});
    return JSON.stringify({ ...found, x: [...found.x.data], kernel: [...found.kernel] });
}"""


@pytest.mark.parametrize(
    ("size", "scale", "residuals", "probabilities", "factor"),
    [
        ((20, 31), 2, [0.0], (0.9, 0.1, 0, 0), 1.0),
        ((20, 31), 1, [50.0, 0.0], (0.9, 0.1, 0, 0), 1.0),
        ((20, 31), 2, [50.0, 50.0, 0.0], (0.9, 0.1, 0, 0), 1.0),
        ((20, 31), 3, [50.0], (0.9, 0.1, 0, 0), 1.0),
        ((33, 49), 2, [1.0], (0.1, 0.9, 0, 0), 1.7),
        ((12, 700), 3, [0.5, 0.1, 0.2], (0.9, 0.1, 0, 0), 1.0),
    ],
)
def test_it_decides_as_python(page, tiny_graphs, monkeypatch, size, scale, residuals, probabilities, factor):
    y = np.random.default_rng(0).random((3, *size), np.float32)
    y[:, :, size[1] // 2 :] *= 0.2
    engine = Engine(tiny_graphs)
    monkeypatch.setattr(Graphs, "_run", stand_in(residuals, probabilities, factor))
    expected = engine(y, scale)
    description = engine.graphs.description
    given = [y.ravel().tolist(), *size, scale, description, residuals, list(probabilities), factor]
    found = json.loads(page.evaluate(IN_THE_PAGE, json.dumps(given)))  # long arrays are slow otherwise
    assert found["decision"]["fallback"] == expected.decisions[0].fallback
    assert found["decision"]["factor"] == pytest.approx(expected.decisions[0].factor)
    x = np.array(found["x"], np.float32).reshape(3, size[0] * scale, size[1] * scale)
    assert np.abs(np.moveaxis(x, 0, -1) - expected.images[0]).max() < 1e-5
    assert np.abs(np.array(found["kernel"]).reshape(31, 31) - expected.kernels[0]).max() < 1e-6
    assert found["noiseLevel"] == pytest.approx(float(expected.noise_levels[0]), rel=1e-5)
    assert found["consistency"] == pytest.approx(float(expected.consistency[0]), rel=1e-5)


@pytest.mark.parametrize(("length", "unit"), [(1500, 16), (2100, 48), (1024, 16), (4001, 32)])
def test_tiles_are_those_of_python(page, length, unit):
    code = """async ([length, unit]) => {
        const [{ spans }, settings] = [await import("./engine.js"), await (await fetch("settings.json")).json()];
        return spans(length, unit, settings).map((span) => ({ ...span, weights: [...span.weights] }));
    }"""
    for found, expected in zip(page.evaluate(code, [length, unit]), spans(length, unit, 1024), strict=True):
        assert (found["start"], found["stop"]) == (expected.start, expected.stop)
        assert np.abs(np.array(found["weights"]) - expected.weights).max() < 1e-5
