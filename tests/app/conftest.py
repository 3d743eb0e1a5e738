"""The page on the tiny network, once for all tests of this folder."""

import pytest
from gradio_client import Client

from blinddiff.app import Limits
from blinddiff.app.server import served

SMALL = Limits(megapixels=0.3, upload_megabytes=0.5, queue=4, seconds=60)


@pytest.fixture(scope="session")
def address(tiny_pipeline):
    with served(tiny_pipeline, limits=SMALL) as address:
        yield address


@pytest.fixture
def client(address, tmp_path):
    client = Client(address, verbose=False, analytics_enabled=False, download_files=tmp_path / "downloads")
    yield client
    client.close()
