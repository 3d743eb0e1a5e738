"""The folder spaces can be pushed to Hugging Face as it is."""

import os
import re
import socket
import subprocess
import sys
import time
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
def test_the_application():
    """The page is served, and may be shown in a frame by Hugging Face and by itself only."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(Path(blinddiff.__file__).parents[1]), "HF_HUB_OFFLINE": "1"}
    environment["GRADIO_SERVER_PORT"] = str(port)
    process = subprocess.Popen([sys.executable, "app.py"], cwd=SPACE, env=environment)
    try:
        for _ in range(240):
            try:
                page = httpx.get(f"http://127.0.0.1:{port}/", timeout=10)
                break
            except httpx.TransportError:
                assert process.poll() is None
                time.sleep(0.5)
        else:
            pytest.fail("the page is not served")
        assert page.status_code == 200
        assert page.headers["content-security-policy"].endswith("; frame-ancestors 'self' https://huggingface.co")
        config = httpx.get(f"http://127.0.0.1:{port}/config", timeout=10).json()
        assert config["version"] == version("gradio")
    finally:
        process.terminate()
        process.wait(timeout=30)
