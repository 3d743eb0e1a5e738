"""The page on the tiny network, once for all tests of this folder."""

import io
import threading

import numpy as np
import pytest
from gradio_client import Client
from PIL import Image

from blinddiff.app import Limits
from blinddiff.app.server import served
from blinddiff.app.threads import check_stop, stop_requested

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


@pytest.fixture(scope="session")
def png():
    """The bytes of a photograph of 48 x 40 pixels."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)).save(buffer, "png")
    return buffer.getvalue()


class Gate:
    """Holds the work of the server in the network's first layer.

    Attributes:
        reached, left: set when a work arrives, and when it goes on or is stopped.
    """

    def __init__(self):
        self.reached, self.left, self.opened = threading.Event(), threading.Event(), threading.Event()

    def __call__(self, *_):
        if stop_requested.get() is None:  # not the work of a request
            return
        self.reached.set()
        try:
            while not self.opened.wait(0.01):
                check_stop()
        finally:
            self.left.set()


@pytest.fixture
def gate(tiny_pipeline):
    gate = Gate()
    hook = tiny_pipeline.network.estimator.register_forward_pre_hook(gate)
    yield gate
    hook.remove()
    gate.opened.set()
