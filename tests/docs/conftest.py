"""The module beside the tests is imported by its bare name; and the server that blocks of the pages talk to."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def server(
    running: Callable[..., AbstractContextManager[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address, such as 127.0.0.1:50000, of a server that `blinddiff serve` has started."""
    for package in ("httpx", "gradio", "prometheus_client"):
        pytest.importorskip(package, reason=f"{package} (extra ui) is not installed")
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    folder = tmp_path_factory.mktemp("server")
    environment = {name: value for name, value in os.environ.items() if name != "BLINDDIFF_TOKEN"}
    command = [sys.executable, "-m", "blinddiff", "serve", "--device", "cpu", "--port"]
    with running(lambda port: [*command, str(port)], "/readyz", cwd=folder, env=environment) as address:
        yield address.removeprefix("http://")
