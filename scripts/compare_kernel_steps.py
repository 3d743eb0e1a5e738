"""Does alternating beat estimating once?

python scripts/compare_kernel_steps.py --data DIR [--workers 2] [--limit N] [--protocols NAME ...]

Every kernel step on Gaussian blur, motion, DIV2KRK and noise; records and reports in results/kernel_steps_NAME, from
which docs/sampler.md quotes.
"""

import argparse
import shlex
import sys
from pathlib import Path

from blinddiff.evaluation.evaluate import evaluate
from blinddiff.evaluation.report import overview
from blinddiff.evaluation.settings import Settings

METHODS = ("kernel-once", "fidelity", "kernel-undamped", "kernel-refined", "no-image-step")
DEGRADATIONS = {
    "motion": ("Set5", "Set14", "BSD100"),
    "setting2_noise10": ("Set5", "Set14", "BSD100"),
    "div2krk": ("DIV2KRK",),
    "gaussian8": ("Set5", "Set14"),
}
"""Protocol -> test sets."""


def main() -> None:
    """Run all four, or those asked for, and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of test sets")
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--limit", type=int, help="only the first images of each set")
    parser.add_argument("--protocols", nargs="+", choices=DEGRADATIONS, default=list(DEGRADATIONS))
    args = parser.parse_args()
    for protocol in args.protocols:
        settings = Settings(
            protocol=protocol,
            scale=4,
            sets=DEGRADATIONS[protocol],
            methods=METHODS,
            data=args.data,
            out=args.out / f"kernel_steps_{protocol}",
            limit=args.limit,
            workers=args.workers,
            costs=False,
            pictures=False,
            command=shlex.join(["python", *sys.argv]),
        )
        for summary in evaluate(settings).summaries:
            print(overview(summary), end="\n\n")


if __name__ == "__main__":
    main()
