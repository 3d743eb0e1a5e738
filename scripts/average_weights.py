"""Average networks of one origin: python scripts/average_weights.py OUT FOLDER [FOLDER ...] [--shares S ...]

Weights that lie in one basin average to a network that keeps what each learnt (Wortsman et al. 2022, "Model soups").
"""

import argparse
from pathlib import Path

from blinddiff.sampling.pipeline import load_denoiser


def main() -> None:
    """Write the folder OUT, for a recipe's `init` or `init_estimator`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of weights of one architecture")
    parser.add_argument("--shares", type=float, nargs="+", help="of each in the average; equal if absent")
    args = parser.parse_args()
    shares = args.shares or [1.0] * len(args.folders)
    if len(shares) != len(args.folders) or min(shares) < 0 or sum(shares) == 0:
        parser.error(f"--shares: {len(args.folders)} numbers of 0 or more are needed, one a folder, not all 0")
    networks = [load_denoiser(folder) for folder in args.folders]
    states = [network.state_dict() for network in networks]
    average = {
        name: sum(share / sum(shares) * state[name] for share, state in zip(shares, states, strict=True))
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }
    networks[0].load_state_dict(average)
    networks[0].save_pretrained(args.out)
    print(f"{args.out}: the average of {len(networks)} networks")


if __name__ == "__main__":
    main()
