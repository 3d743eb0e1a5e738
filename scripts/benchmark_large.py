"""Measure peak memory and time of large results that do not fit into the memory.

python scripts/benchmark_large.py [--megapixels 25 100] [--max-memory 2] [--tiny] [--engine torch]
    [--weights GRAPHS] [--out results/performance/large.json]

Each restoration is one command `blinddiff upscale --mode fast` of a photograph of noise, at scale 4, in a process of
its own: reading, restoring and writing. The peak is that of all resident pages of the process, those of files included.
--tiny takes a small network of random weights: the images are the same, and cost less time. Linux only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_record import load_average, write_record
from PIL import Image

from blinddiff.models.mcformer import MCFormer
from blinddiff.sampling.pipeline import BlindDiffPipeline
from blinddiff.sampling.schedulers import default_scheduler

SCALE = 4
COMMAND = """
import json, resource, sys
from blinddiff.cli.main import main
code = main(sys.argv[1:])
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
sys.exit(code)
"""


def measure(megapixels: float, engine: str, weights: str | None, max_memory: float) -> dict[str, Any]:
    """Peak in bytes, and seconds, of a square result."""
    side = round((1e6 * megapixels) ** 0.5 / SCALE)
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "noise.png", Path(folder) / "result.png"
        levels = np.random.default_rng(0).normal(128, 20, (side, side, 3)).clip(0, 255)
        Image.fromarray(levels.astype(np.uint8)).save(source)
        arguments = [
            "upscale",
            str(source),
            "-o",
            str(output),
            "--scale",
            str(SCALE),
            "--mode",
            "fast",
            "--engine",
            engine,
        ]
        arguments += ["--max-memory", f"{max_memory}G", "--device", "cpu", "--yes", "--quiet", "--as-is"]
        arguments += [] if weights is None else ["--weights", weights]
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *arguments], stdout=subprocess.PIPE, text=True, check=True
        )
        seconds = time.perf_counter() - started
        with Image.open(output) as picture:
            assert picture.size == (SCALE * side, SCALE * side)
        size = os.path.getsize(output)
    return {"megapixels": megapixels, "peak": int(json.loads(done.stdout)), "seconds": seconds, "file": size}


def main() -> None:
    """Measure, print and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[25, 100])
    parser.add_argument("--max-memory", type=float, default=2, help="in GiB")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--weights", help="a folder of graphs, for --engine onnx")
    parser.add_argument("--engine", choices=("torch", "onnx"), default="torch")
    parser.add_argument("--out", type=Path, default=Path("results/performance/large.json"))
    args = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = None
    facts = {"engine": args.engine, "tiny": args.tiny, "max_memory_gib": args.max_memory, "load": load_average()}
    results = []
    with tempfile.TemporaryDirectory() as folder:
        if args.tiny:
            network = MCFormer(dim=8, num_blocks=[1, 1], heads=[1, 1], estimator_hidden=32, embedding_dim=16)
            BlindDiffPipeline(network, default_scheduler(network)).save_pretrained(folder)
        weights = folder if args.tiny else args.weights
        for megapixels in args.megapixels:
            results.append(measure(megapixels, args.engine, weights, args.max_memory))
            print(results[-1], flush=True)
    write_record(args.out, {**facts, "results": results})


if __name__ == "__main__":
    main()
