"""Peak memory of a restoration in tiles: `python tiles.py SIDE MAX_MEMORY`, the side of the result. Linux only.

A tiny network: the work in a tile costs less, so that what grows with the image shows all the more. Prints a JSON
object.
"""

import json
import sys
import time

import torch

from blinddiff.models.mcformer import MCFormer
from blinddiff.sampling.pipeline import BlindDiffPipeline
from blinddiff.sampling.schedulers import default_scheduler

SCALE = 4


def status(name: str) -> int:
    """A figure of this process, in bytes."""
    with open("/proc/self/status") as lines:
        (line,) = (line for line in lines if line.startswith(name))
    return int(line.split()[1]) * 1024


def main(side: int, max_memory: int) -> None:
    """Restore noise."""
    torch.manual_seed(0)
    network = MCFormer(dim=8, num_blocks=[1, 1], heads=[1, 1], estimator_hidden=32, embedding_dim=16)
    pipeline = BlindDiffPipeline(network.requires_grad_(False), default_scheduler(network))
    pipeline.set_progress_bar_config(disable=True)
    image = torch.rand(3, side // SCALE, side // SCALE)
    options = {"scale": SCALE, "num_inference_steps": 2, "output_type": "pt", "max_memory": max_memory}
    pipeline(image[:, :64, :64], **options)  # what is only loaded once does not count
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")
    before, started = status("VmRSS"), time.perf_counter()
    pipeline(image, **options)
    figures = {
        "side": side,
        "max_memory": max_memory,
        "peak": status("VmHWM") - before,
        "image": 4 * 3 * side**2,
        "seconds": time.perf_counter() - started,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
