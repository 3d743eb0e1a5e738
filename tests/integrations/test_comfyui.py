"""The nodes for ComfyUI, under a stand-in for its types: their results are those of pipeline and command line."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from comfyui_stand_in import PACK, ProgressBar, load_pack
from PIL import Image

from blinddiff.cli import main as cli
from blinddiff.degradation.kernel_files import read_kernel, write_kernel
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.errors import ImageError, KernelError, ParameterError

EXAMPLES = PACK / "example_workflows"
SCRIPT = PACK.parents[1] / "scripts" / "comfyui_workflows.py"


@pytest.fixture
def inputs(tmp_path):
    (tmp_path / "input").mkdir()
    return tmp_path / "input"


@pytest.fixture
def pack(monkeypatch, inputs):
    return load_pack(monkeypatch, inputs)


@pytest.fixture
def nodes(pack):
    return pack[1]


@pytest.fixture
def tiny(pack, tiny_pipeline, monkeypatch):
    """The nodes with the tiny network."""
    monkeypatch.setattr(pack[0], "_pipeline", lambda device: tiny_pipeline)
    return pack[1]


@pytest.fixture
def photograph():
    return skimage.data.cat()[120:144, 100:130]


def image_of(*photographs):
    return torch.from_numpy(np.stack(photographs).astype(np.float32) / 255)


def run(node, **inputs):
    """As ComfyUI runs it."""
    with torch.inference_mode():
        return node.execute(**inputs).args


def restore(nodes, image, **options):
    return run(nodes["BlindDiffRestore"], image=image, **{"scale": 2.0, "mode": "fast", "seed": 0, **options})


def grey_levels(image):
    return 255 * np.asarray(image, float)


def test_the_same_as_the_command_line(nodes, photograph, tmp_path, capsys):
    Image.fromarray(photograph).save(tmp_path / "photo.png")
    assert cli.main(["upscale", str(tmp_path / "photo.png"), "-o", str(tmp_path / "out.png"), "--scale", "3"]) == 0
    printed = capsys.readouterr().out
    restored, picture, std, text, kernel = restore(nodes, image_of(photograph), scale=3.0, mode="fidelity")
    expected = np.asarray(Image.open(tmp_path / "out.png"), float)
    assert restored.shape == (1, 72, 90, 3)
    assert np.abs(grey_levels(restored[0]) - expected).max() <= 1
    assert text.partition("; MTF50")[0] in printed
    assert kernel.shape == (1, 31, 31)
    assert picture.shape[0] == 1
    assert picture.max() <= 1
    assert not std.any()
    assert ProgressBar.last == 1


def test_a_batch_gives_what_its_images_give(tiny, photograph):
    both = restore(tiny, image_of(photograph, photograph[::-1].copy()))
    for index, single in enumerate((photograph, photograph[::-1].copy())):
        alone = restore(tiny, image_of(single))
        for batch, one in ((both[0], alone[0]), (both[4], alone[4])):
            assert torch.equal(batch[index], one[0])
        assert both[3].splitlines()[index] == alone[3]


def test_seed_samples_and_steps(tiny, photograph):
    image = image_of(photograph)
    options = {"mode": "perceptual", "steps": 2}
    first, again, other = (restore(tiny, image, seed=seed, **options)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    _, _, std, text, _ = restore(tiny, image, samples=3, **options)
    assert std.max() == 1
    assert std.shape == (1, 48, 60, 3)
    assert "samples differ by" in text


def test_a_given_kernel_and_noise_level(tiny, tiny_pipeline, photograph):
    kernel = isotropic_gaussian(1.5, 9)
    restored, _, _, text, used = restore(tiny, image_of(photograph), kernel=kernel[None], noise_level=3.0)
    generator = torch.Generator().manual_seed(0)
    options = {"kernel": kernel, "noise_level": 3.0, "generator": generator, "output_type": "np"}
    expected = tiny_pipeline(photograph, 2, "fast", **options).images
    assert np.abs(restored.numpy() - expected).max() < 1e-5
    assert torch.allclose(used[0], kernel)
    assert "noise 3.0 grey levels" in text
    grey = (kernel / kernel.max())[None, ..., None].expand(-1, -1, -1, 3)  # a picture of it
    assert torch.allclose(restore(tiny, image_of(photograph), kernel=grey, noise_level=3.0)[0], restored, atol=1e-5)


def test_a_mask(tiny, tiny_pipeline, photograph):
    mask = torch.zeros(1, 24, 30)
    mask[:, 4:8, 10:12] = 1
    restored, _, _, text, _ = restore(tiny, image_of(photograph), mask=mask)
    options = {"mask": mask[0], "generator": torch.Generator().manual_seed(0), "output_type": "np"}
    expected = tiny_pipeline(photograph, 2, "fast", **options).images
    assert np.abs(restored.numpy() - expected).max() < 1e-5
    assert "1.11% of the pixels masked" in text
    without = restore(tiny, image_of(photograph))[0]
    assert not torch.equal(without, restored)
    empty = torch.zeros(1, 64, 64)  # what Load Image gives for a picture without transparency
    assert torch.equal(restore(tiny, image_of(photograph), mask=empty)[0], without)
    both = restore(tiny, image_of(photograph, photograph), mask=torch.cat([mask, 0 * mask]))[0]
    assert torch.equal(both, torch.cat([restored, without]))


def test_bad_inputs(tiny, photograph):
    image = image_of(photograph)
    *_, kernel = restore(tiny, image)
    _, picture, *_ = restore(tiny, image)
    for options, error, message in (
        ({"kernel": picture}, KernelError, "coloured picture"),
        ({"kernel": torch.zeros(1, 5, 5, 3)}, KernelError, "not finite"),
        ({"kernel": kernel.repeat(2, 1, 1)}, KernelError, "2 kernels for 1 images"),
        ({"scale": 9.0}, ParameterError, "scale"),
        ({"mask": torch.ones(1, 30, 24)}, ImageError, "a mask of 24x30 pixels for an image of 30x24"),
        ({"mask": torch.ones(1, 24, 30)}, ImageError, "marks every pixel"),
        ({"image": image[:, :4, :4]}, ImageError, "too small"),
    ):
        with pytest.raises(error, match=message):
            restore(tiny, **{"image": image, **options})


def test_the_estimate(nodes, photograph, tmp_path, capsys):
    kernel, picture, level, text = run(nodes["BlindDiffEstimateKernel"], image=image_of(photograph), scale=2)
    Image.fromarray(photograph).save(tmp_path / "photo.png")
    assert cli.main(["kernel", str(tmp_path / "photo.png"), "--scale", "2", "-o", str(tmp_path / "k.npy")]) == 0
    assert torch.allclose(kernel[0], torch.from_numpy(read_kernel(tmp_path / "k.npy")), atol=1e-5)
    assert capsys.readouterr().out == f"{tmp_path / 'photo.png'}: {text}\n"
    assert f"noise {level:.1f} grey levels" in text
    assert picture.shape[-1] == 3


def test_kernel_files(nodes, inputs, photograph):
    for name in ("b.csv", "a.npy"):
        write_kernel(inputs / name, isotropic_gaussian(2.0, 7))
    (inputs / "photo.jpg").touch()
    node = nodes["BlindDiffLoadKernel"]
    assert node.define_schema().inputs[0].options == ["a.npy", "b.csv"]
    kernel, _ = run(node, file="b.csv")
    assert torch.allclose(kernel[0], isotropic_gaussian(2.0, 7), atol=1e-6)
    before = node.fingerprint_inputs("b.csv")
    write_kernel(inputs / "b.csv", isotropic_gaussian(1.0, 7))
    assert node.fingerprint_inputs("b.csv") != before


@pytest.mark.parametrize("jpeg", [0, 60])
def test_degrading_is_that_of_the_command_line(nodes, photograph, tmp_path, jpeg):
    options = {"scale": 2, "sigma": 1.2, "noise": 4.0, "jpeg_quality": jpeg, "seed": 5}
    degraded, _, kernel = run(nodes["BlindDiffDegrade"], image=image_of(photograph[:-1]), **options)
    Image.fromarray(photograph[:-1]).save(tmp_path / "sharp.png")
    command = [
        "--scale",
        "2",
        "--sigma",
        "1.2",
        "--noise",
        "4",
        "--seed",
        "5",
        *(["--jpeg", str(jpeg)] if jpeg else []),
    ]
    assert cli.main(["degrade", str(tmp_path / "sharp.png"), "-o", str(tmp_path / "out.png"), *command]) == 0
    expected = np.asarray(Image.open(tmp_path / "out.png"), float)
    assert degraded.shape == (1, 11, 15, 3)
    assert np.abs(grey_levels(degraded[0]) - expected).max() <= 1
    options["sigma"] = 5.0  # not used with a kernel
    again, _, _ = run(nodes["BlindDiffDegrade"], image=image_of(photograph[:-1]), kernel=kernel, **options)
    assert torch.equal(again, degraded)
    with pytest.raises(ImageError, match="smaller than 4 pixels"):
        run(nodes["BlindDiffDegrade"], image=image_of(photograph[:3]), **{**options, "scale": 4})


def test_gradients_after_a_node(tiny, tiny_pipeline, photograph):
    """ComfyUI runs nodes in inference mode, in which nothing must be cached."""
    restore(tiny, image_of(photograph))
    options = {"mode": "perceptual", "num_inference_steps": 1, "image_step": "gradient", "output_type": "np"}
    assert np.isfinite(tiny_pipeline(photograph, 2, **options).images).all()


def graphs():
    return {path.stem: json.loads(path.read_text()) for path in sorted(EXAMPLES.glob("*.json"))}


def test_the_examples_are_those_of_the_script():
    spec = importlib.util.spec_from_file_location("comfyui_workflows", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert graphs() == {name: script.graph_of(nodes) for name, nodes in script.WORKFLOWS.items()}
    with Image.open(EXAMPLES / "blind_restore.png") as picture:
        assert json.loads(picture.text["workflow"]) == graphs()["blind_restore"]
        assert json.loads(picture.text["prompt"]) == script.prompt_of(script.WORKFLOWS["blind_restore"])


@pytest.mark.parametrize("name", graphs())
def test_the_examples_fit_the_nodes(nodes, name):
    graph = graphs()[name]
    links = {number: link for number, *link in graph["links"]}
    by_id = {node["id"]: node for node in graph["nodes"]}
    for node in graph["nodes"]:
        for place, each in enumerate(node["inputs"]):
            if each["link"] is not None:
                source, slot, target, where, kind = links[each["link"]]
                assert (target, where) == (node["id"], place)
                assert by_id[source]["outputs"][slot]["type"] == kind
                assert kind in each["type"].split(",") or each["type"] == "*"
        if node["type"] in nodes:
            schema = nodes[node["type"]].define_schema()
            sockets = [each for each in schema.inputs if each.io_type not in ("INT", "FLOAT", "COMBO")]
            widgets = [each for each in schema.inputs if each not in sockets]
            assert [(each["name"], each["type"]) for each in node["inputs"]] == [(s.id, s.io_type) for s in sockets]
            assert [(each["name"], each["type"]) for each in node["outputs"]] == [
                (each.id, each.io_type) for each in schema.outputs
            ]
            values = [value for value in node["widgets_values"] if value != "fixed"]
            assert len(values) == len(widgets)
            for value, widget in zip(values, widgets, strict=True):
                assert value in widget.options if widget.io_type == "COMBO" else widget.min <= value <= widget.max


def test_the_description_of_the_pack():
    tomllib = pytest.importorskip("tomllib", reason="this Python reads no TOML")
    with open(PACK / "pyproject.toml", "rb") as file:
        described = tomllib.load(file)
    assert described["project"]["dependencies"] == ["blinddiff[torch]"]
    assert "comfyui" not in described["project"]["name"]
    assert described["tool"]["comfy"]["DisplayName"] == "blinddiff"
    assert Path(PACK / "README.md").is_file()
