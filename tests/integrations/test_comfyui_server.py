"""The nodes in ComfyUI's own server on the CPU, over its HTTP interface.

The environment variable COMFYUI_DIR names a folder with ComfyUI's source; its requirements have to be installed beside
this package. Takes about a minute, most of it for the server's start.
"""

import io
import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from comfyui_stand_in import PACK
from PIL import Image

import blinddiff
from blinddiff.cli import main as cli
from blinddiff.files import DEFAULT_WEIGHTS

COMFYUI = os.environ.get("COMFYUI_DIR")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not COMFYUI, reason="COMFYUI_DIR does not name a folder with ComfyUI's source"),
]
SECONDS_TO_RUN = 300


class Server:
    """A running server."""

    def __init__(self, address: str, inputs: Path) -> None:
        self.address, self.inputs = address, inputs

    def get(self, path):
        with urllib.request.urlopen(self.address + path, timeout=30) as answer:
            return answer.read()

    def run(self, prompt, **workflow):
        """The outputs of a prompt by node; fails with the server's message."""
        found = self.try_to_run(prompt, **workflow)
        assert found["status"]["status_str"] == "success", found["status"]
        return found["outputs"]

    def try_to_run(self, prompt, **workflow):
        """The server's record of a prompt that has ended."""
        body = json.dumps({"prompt": prompt, "extra_data": {"extra_pnginfo": workflow}}).encode()
        request = urllib.request.Request(self.address + "/prompt", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                number = json.load(answer)["prompt_id"]
        except urllib.error.HTTPError as error:
            pytest.fail(error.read().decode())
        end = time.monotonic() + SECONDS_TO_RUN
        while time.monotonic() < end:
            history = json.loads(self.get(f"/history/{number}"))
            if number in history:
                return history[number]
            time.sleep(0.2)
        return pytest.fail("the prompt has not ended")

    def picture(self, output):
        """The first picture of an output."""
        return Image.open(io.BytesIO(self.get("/view?" + urllib.parse.urlencode(output["images"][0]))))


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(skimage.data.cat()[120:168, 100:148]).save(path)
    return path


@pytest.fixture(scope="module")
def server(running, tmp_path_factory, photo):
    base = tmp_path_factory.mktemp("comfyui")
    for folder in ("custom_nodes", "input", "models/upscale_models", "user"):
        (base / folder).mkdir(parents=True)
    shutil.copytree(PACK, base / "custom_nodes" / "blinddiff")
    shutil.copy(photo, base / "input")
    weights = DEFAULT_WEIGHTS / "network" / "diffusion_pytorch_model.safetensors"
    shutil.copy(weights, base / "models" / "upscale_models" / "blinddiff.safetensors")
    package = str(Path(blinddiff.__file__).parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "main.py", "--cpu", "--base-directory", str(base), "--disable-auto-launch"]
    command += ["--database-url", "sqlite:///:memory:", "--port"]
    environment = {**os.environ, "PYTHONPATH": path}
    with running(lambda port: [*command, str(port)], "/system_stats", cwd=COMFYUI, env=environment) as address:
        yield Server(address, base / "input")


def example(name):
    return json.loads((PACK / "example_workflows" / f"{name}.json").read_text())


def prompt_of(graph, server):
    """What ComfyUI's page would send for a graph, from the server's own description of its nodes."""
    described = json.loads(server.get("/object_info"))
    sources = {number: [str(source), slot] for number, source, slot, *_ in graph["links"]}
    prompt = {}
    for node in graph["nodes"]:
        info = described[node["type"]]
        values = iter(node["widgets_values"])
        linked = {each["name"]: sources[each["link"]] for each in node["inputs"] if each["link"] is not None}
        inputs = {}
        for group in ("required", "optional"):
            for name, (kind, *options) in info["input"].get(group, {}).items():
                if isinstance(kind, list) or kind in ("INT", "FLOAT", "COMBO", "STRING", "BOOLEAN"):
                    inputs[name] = next(values)
                    if options and options[0].get("control_after_generate"):
                        next(values)
                elif name in linked:
                    inputs[name] = linked[name]
        assert linked.items() <= inputs.items()
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def on_photo(prompt):
    for node in prompt.values():
        if node["class_type"] == "LoadImage":
            node["inputs"]["image"] = "photo.png"
    return prompt


def difference(picture, path):
    one, other = (np.asarray(each.convert("RGB"), float) for each in (picture, Image.open(path)))
    assert one.shape == other.shape
    return np.abs(one - other).max()


def test_the_example_gives_what_the_command_line_gives(server, photo, tmp_path, capsys):
    graph = example("blind_restore")
    prompt = prompt_of(graph, server)
    with Image.open(PACK / "example_workflows" / "blind_restore.png") as picture:
        assert json.loads(picture.text["prompt"]) == prompt
    outputs = server.run(on_photo(prompt), workflow=graph)
    assert cli.main(["upscale", str(photo), "-o", str(tmp_path / "out.png"), "--scale", "4"]) == 0
    saved = server.picture(outputs["3"])
    assert difference(saved, tmp_path / "out.png") <= 1
    assert json.loads(saved.text["workflow"]) == graph
    (text,) = outputs["5"]["text"]
    assert text.partition("; MTF50")[0] in capsys.readouterr().out
    assert max(server.picture(outputs["4"]).size) <= 240


def test_degrade_and_restore(server, photo, tmp_path):
    prompt = on_photo(prompt_of(example("degrade_and_restore"), server))
    prompt["8"] = {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "degraded"}}
    outputs = server.run(prompt)
    for name, command in (
        ("degraded", ["degrade", photo, "--sigma", "2", "--noise", "2", "--save-kernel", tmp_path / "k.npy"]),
        ("known", ["upscale", tmp_path / "degraded.png", "--kernel", tmp_path / "k.npy"]),
    ):
        assert cli.main([str(word) for word in [*command, "-o", tmp_path / f"{name}.png", "--scale", "4"]]) == 0
    assert difference(server.picture(outputs["8"]), tmp_path / "degraded.png") <= 1
    # The command line's degraded image was rounded to 8 bits.
    assert difference(server.picture(outputs["5"]), tmp_path / "known.png") <= 8
    assert server.picture(outputs["6"]).size == (48, 48)


def test_the_transparency_of_a_picture_is_its_mask(server, photo, tmp_path):
    mask = np.zeros((48, 48), np.uint8)
    mask[10:14, 20:30] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    with Image.open(photo) as picture:
        picture.putalpha(Image.fromarray(255 - mask))
        picture.save(server.inputs / "scratched.png")
    prompt = on_photo(prompt_of(example("blind_restore"), server))
    prompt["1"]["inputs"]["image"] = "scratched.png"
    prompt["2"]["inputs"]["mask"] = ["1", 1]
    restored = server.picture(server.run(prompt)["3"])
    arguments = ["upscale", photo, "-o", tmp_path / "out.png", "--scale", "4", "--mask", tmp_path / "mask.png"]
    assert cli.main([str(word) for word in arguments]) == 0
    assert difference(restored, tmp_path / "out.png") <= 1


def test_an_error_is_one_line(server):
    prompt = on_photo(prompt_of(example("blind_restore"), server))
    prompt["2"]["inputs"]["kernel"] = ["1", 0]  # the photograph is no kernel
    status = server.try_to_run(prompt)["status"]
    assert status["status_str"] == "error"
    (failure,) = (facts for kind, facts in status["messages"] if kind == "execution_error")
    assert failure["node_type"] == "BlindDiffRestore"
    assert failure["exception_message"].strip().startswith("a coloured picture is no kernel")


def test_the_weights_load_as_an_upscale_model(server, photo, tmp_path):
    pytest.importorskip("spandrel", reason="spandrel (extra spandrel) is not installed")
    outputs = server.run(
        {
            "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
            "2": {"class_type": "UpscaleModelLoader", "inputs": {"model_name": "blinddiff.safetensors"}},
            "3": {"class_type": "ImageUpscaleWithModel", "inputs": {"upscale_model": ["2", 0], "image": ["1", 0]}},
            "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "upscaled"}},
        }
    )
    assert cli.main(["upscale", str(photo), "-o", str(tmp_path / "out.png"), "--scale", "4"]) == 0
    assert difference(server.picture(outputs["4"]), tmp_path / "out.png") <= 1
