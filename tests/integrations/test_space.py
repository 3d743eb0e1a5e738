"""The folder spaces can be pushed to Hugging Face as it is."""

import os
import re
import sys
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from huggingface_hub import SpaceCard

import blinddiff

REPOSITORY = Path(__file__).resolve().parents[2]
SPACE = REPOSITORY / "spaces"
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def test_front_matter():
    metadata = SpaceCard.load(SPACE / "README.md").data.to_dict()
    assert {"title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "app_file"} <= metadata.keys()
    assert {metadata["colorFrom"], metadata["colorTo"]} <= COLOURS
    assert metadata["sdk"] == "gradio"
    assert (SPACE / metadata["app_file"]).is_file()
    assert metadata["license"] == "apache-2.0"
    assert len(metadata["short_description"]) <= 60  # the hub's limit
    project = (REPOSITORY / "pyproject.toml").read_text()
    minimum, maximum = re.search(r'ui = \[.*"gradio>=([\d.]+),<(\d+)"', project).groups()
    given, least = (tuple(map(int, text.split("."))) for text in (metadata["sdk_version"], minimum))
    assert least <= given < (int(maximum),)


def test_requirements():
    assert (SPACE / "requirements.txt").read_text() == f"blinddiff[ui]=={blinddiff.__version__}\n"


@pytest.mark.long
def test_the_application(running):
    """The page is served, and may be shown in a frame by Hugging Face and by itself only."""
    environment = {**os.environ, "PYTHONPATH": str(Path(blinddiff.__file__).parents[1]), "HF_HUB_OFFLINE": "1"}

    def command(port):
        return ["env", f"GRADIO_SERVER_PORT={port}", sys.executable, "app.py"]

    with running(command, "/", cwd=SPACE, env=environment) as address:
        page = httpx.get(address, timeout=10)
        assert page.headers["content-security-policy"].endswith("; frame-ancestors 'self' https://huggingface.co")
        config = httpx.get(f"{address}/config", timeout=10).json()
        assert config["version"] == version("gradio")
