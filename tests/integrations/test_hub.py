"""The Hugging Face hub: model card, uploading, loading by name, also in plain diffusers; all on a hub on loopback."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import InferenceClient, ModelCard, ModelCardData
from mock_hub import hub
from PIL import Image
from safetensors.torch import load_file

import blinddiff
from blinddiff.cli import main as cli
from blinddiff.files import DEFAULT_WEIGHTS

SOURCE = Path(blinddiff.__file__).parents[1]


def run(program, folder, address):
    """The JSON that a program prints last; it sees only the given hub, and keeps its cache in the folder."""
    hidden = {"HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE", "HF_MODULES_CACHE"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"HF_ENDPOINT": address, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment |= {"HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(SOURCE), "HF_TOKEN": "hf_mock"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def pushed(tiny_weights, tmp_path_factory):
    """A hub with the tiny weights as user/tiny, and what a program that loads them from there says."""
    folder = tmp_path_factory.mktemp("hub")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)).save(folder / "photo.png")
    program = f"""
        import json
        import numpy as np, torch
        from diffusers import DiffusionPipeline
        from PIL import Image
        from blinddiff import BlindDiffPipeline, WeightsError
        from blinddiff.cli.main import main

        local = BlindDiffPipeline.from_pretrained({str(tiny_weights)!r}, "cpu")
        local.push_to_hub("user/tiny")
        hub = BlindDiffPipeline.from_pretrained("user/tiny", "cpu")
        plain = DiffusionPipeline.from_pretrained("user/tiny", custom_pipeline="user/tiny", trust_remote_code=True)
        photo = np.asarray(Image.open("photo.png"))

        def restored(pipeline):
            generator = torch.Generator().manual_seed(0)
            return pipeline(photo, scale=2, generator=generator, output_type="np").images

        expected = restored(local)
        try:
            BlindDiffPipeline.from_pretrained("user/none", "cpu")
        except WeightsError as error:
            message = str(error)
        try:
            DiffusionPipeline.from_pretrained("user/tiny", custom_pipeline="user/tiny")
        except ValueError as error:
            untrusted = str(error)
        code = main(["upscale", "photo.png", "-o", "out.png", "--scale", "2", "--weights", "user/tiny"])
        folder = {str(DEFAULT_WEIGHTS)!r}
        included = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
        network = included.network
        weight = float(network.unet.stem.weight.sum())
        print(json.dumps({{
            "hub": float(abs(restored(hub) - expected).max()),
            "plain": float(abs(restored(plain) - expected).max()),
            "kind": type(plain).__name__,
            "message": message,
            "untrusted": untrusted,
            "code": code,
            "included": [type(included).__name__, str(network.dtype), network.training, weight],
        }}))
    """
    with hub() as server:
        said = run(program, folder, server.address)
    return server, said, folder


def test_what_is_pushed(pushed, tiny_weights):
    server, _, _ = pushed
    files = server.repositories["user/tiny"]
    local = {path.relative_to(tiny_weights).as_posix() for path in tiny_weights.rglob("*") if path.is_file()}
    assert local | {"README.md"} == files.keys()
    weights = "network/diffusion_pytorch_model.safetensors"
    assert len(files[weights]) == (tiny_weights / weights).stat().st_size
    assert len(server.stored) == 1  # in large-file storage
    assert files["README.md"].decode() in server.cards  # the hub was asked to validate the card
    assert not [request for request in server.unknown if "user/none" not in request]


def test_loading_by_name(pushed):
    _, said, _ = pushed
    assert said["hub"] < 1e-5
    assert said["message"].startswith("user/none: cannot be loaded as weights")
    assert "\n" not in said["message"]


def test_plain_diffusers(pushed):
    _, said, _ = pushed
    assert said["kind"] == "BlindDiffPipeline"
    assert said["plain"] < 1e-5
    assert "trust_remote_code=True" in said["untrusted"]


def test_the_command_line(pushed, tiny_weights, tmp_path):
    _, said, folder = pushed
    assert said["code"] == 0
    words = ["upscale", folder / "photo.png", "-o", tmp_path / "out.png", "--scale", "2", "--weights", tiny_weights]
    assert cli.main([str(word) for word in words]) == 0
    of_hub, of_folder = (np.asarray(Image.open(path), float) for path in (folder / "out.png", tmp_path / "out.png"))
    assert np.abs(of_hub - of_folder).max() <= 1


def test_the_included_folder_in_plain_diffusers(pushed):
    _, said, _ = pushed
    *facts, total = said["included"]
    assert facts == ["BlindDiffPipeline", "torch.float32", False]
    stored = load_file(DEFAULT_WEIGHTS / "network" / "diffusion_pytorch_model.safetensors")["unet.stem.weight"]
    assert total == pytest.approx(float(stored.float().sum()), rel=1e-3)


def test_the_included_folder_is_as_a_saved_one(tiny_weights):
    """Its modules for diffusers too."""
    saved, included = (
        {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        for folder in (tiny_weights, DEFAULT_WEIGHTS)
    )
    assert saved.keys() | {"README.md"} == {name for name in included if "__pycache__" not in name}
    for name in saved:
        if name.endswith(".py"):
            assert saved[name].read_text() == included[name].read_text()
    index = json.loads(included["model_index.json"].read_text())
    assert index == {
        **json.loads(saved["model_index.json"].read_text()),
        "_diffusers_version": index["_diffusers_version"],
    }


def test_the_model_card():
    """What the hub checks: known keys, one licence and task that it knows, tags that are words."""
    card = ModelCard.load(DEFAULT_WEIGHTS / "README.md")
    metadata = card.data.to_dict()
    known = set(vars(ModelCardData()))
    assert metadata.keys() <= known
    assert metadata["license"] == "apache-2.0"
    # The client has a method for each task.
    assert hasattr(InferenceClient, metadata["pipeline_tag"].replace("-", "_"))
    assert metadata["library_name"] == "blinddiff"
    assert all(isinstance(tag, str) and len(tag) <= 50 and " " not in tag for tag in metadata["tags"])
    assert len(set(metadata["tags"])) == len(metadata["tags"])
    assert ModelCardData(**metadata).to_yaml() == card.data.to_yaml()
    assert card.text.lstrip().startswith("# ")
