"""Write the graphs of the included weights beside them: python scripts/ship_graphs.py [--scales 1 2 3 4]

They read the weights from the same file, so that these ship once, and hold little more than the operations. Needs the
extra onnx, and minutes for each scale. Run it again after `scripts/ship_weights.py`: graphs refuse other weights.
"""

import argparse

from blinddiff.degradation import SCALES
from blinddiff.export.folder import write_folder
from blinddiff.files import DEFAULT_WEIGHTS
from blinddiff.restoring.engines import load_pipeline
from blinddiff.sampling.modes import DESCRIPTION

WEIGHTS = "network/diffusion_pytorch_model.safetensors"


def main() -> None:
    """Write the graphs, and print their size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", type=int, nargs="+", choices=SCALES, default=SCALES)
    scales = parser.parse_args().scales
    write_folder(load_pipeline(device="cpu").network, DEFAULT_WEIGHTS, scales, ["fidelity", "fast"], print, WEIGHTS)
    files = [DEFAULT_WEIGHTS / DESCRIPTION, *DEFAULT_WEIGHTS.glob("*.onnx")]
    print(f"{len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
