"""Serves the page of `blinddiff app` as a Space of Hugging Face."""

import os
import threading

from blinddiff.app import Limits
from blinddiff.app.server import served
from blinddiff.restoring.engines import load_pipeline

LIMITS = Limits(megapixels=4, upload_megabytes=16, seconds=300, files=4)
"""Smaller than those of `blinddiff app`: visitors share two CPU cores."""
SITE = "https://huggingface.co"
"""Shows the Space in a frame."""

if __name__ == "__main__":
    port = int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    with served(load_pipeline(), "0.0.0.0", port, LIMITS, embedded_in=SITE) as address:
        print(address, flush=True)
        threading.Event().wait()
