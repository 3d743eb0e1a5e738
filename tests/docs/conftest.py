"""The module beside the tests is imported by its bare name; and the server that blocks of the pages talk to."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

sys.path.insert(0, str(Path(__file__).parent))

SECONDS_TO_START = 600


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address, such as 127.0.0.1:50000, of a server that `blinddiff serve` has started."""
    httpx = pytest.importorskip("httpx", reason="httpx (extra ui) is not installed")
    for package in ("gradio", "prometheus_client"):
        pytest.importorskip(package, reason=f"{package} (extra ui) is not installed")
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    folder = tmp_path_factory.mktemp("server")
    command = [sys.executable, "-m", "blinddiff", "serve", "--port", address.split(":")[1], "--device", "cpu"]
    environment = {name: value for name, value in os.environ.items() if name != "BLINDDIFF_TOKEN"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        end = time.monotonic() + SECONDS_TO_START
        while not is_ready(httpx, address):
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"the server did not start: {(folder / 'log').read_text()}")
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=120)


def is_ready(httpx: ModuleType, address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/readyz").status_code == 200
    except httpx.TransportError:
        return False
