"""Put trained weights into the package, in half precision: python scripts/ship_weights.py runs/confidence/weights."""

import argparse
import json
import shutil
from pathlib import Path

from blinddiff.files import DEFAULT_WEIGHTS
from blinddiff.sampling.modes import DESCRIPTION
from blinddiff.sampling.pipeline import BlindDiffPipeline, load_denoiser
from blinddiff.sampling.schedulers import default_scheduler


def main() -> None:
    """Write the folder of default weights anew; its README.md stays."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, help="folder of trained weights")
    args = parser.parse_args()
    network = load_denoiser(args.weights)
    scheduler = default_scheduler(network)
    network.half()
    for part in ("network", "scheduler"):
        shutil.rmtree(DEFAULT_WEIGHTS / part, ignore_errors=True)
    for graph in (DEFAULT_WEIGHTS / DESCRIPTION, *DEFAULT_WEIGHTS.glob("*.onnx")):
        graph.unlink(missing_ok=True)  # they read the weights that were there before, see scripts/ship_graphs.py
    BlindDiffPipeline(network, scheduler).save_pretrained(DEFAULT_WEIGHTS)
    config = DEFAULT_WEIGHTS / "network" / "config.json"
    content = json.loads(config.read_text())
    content.pop("_name_or_path", None)  # a path of the machine that they were trained on
    config.write_text(json.dumps(content, indent=2) + "\n")
    size = sum(path.stat().st_size for path in DEFAULT_WEIGHTS.rglob("*")) / 1e6
    print(f"{DEFAULT_WEIGHTS}: {size:.1f} MB")


if __name__ == "__main__":
    main()
