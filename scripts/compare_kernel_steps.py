"""Compare the kernel steps: does refining the kernel during sampling beat estimating it once?

python scripts/compare_kernel_steps.py --data DIR [--workers 2] [--limit N] [--protocols NAME ...]

Runs every kernel step on Gaussian blur, motion, DIV2KRK and noise. Writes records and reports to
results/kernel_steps/PROTOCOL. If all four protocols were run, also writes a record over all images of each protocol to
results/kernel_steps; docs/sampler.md quotes from this record. An interrupted run resumes.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from blinddiff.evaluation.records import RECORD, ImageResult, versions, write_json
from blinddiff.evaluation.report import overview
from blinddiff.evaluation.run import Settings, evaluate
from blinddiff.evaluation.statistics import summarise

METHODS = ("kernel-once", "fidelity", "kernel-undamped", "kernel-refined", "no-image-step")
DEGRADATIONS = {
    "motion": ("Set5", "Set14", "BSD100"),
    "setting2_noise10": ("Set5", "Set14", "BSD100"),
    "div2krk": ("DIV2KRK",),
    "gaussian8": ("Set5", "Set14"),
}
"""Protocol -> test sets."""


def combined_record(results: dict[str, Sequence[ImageResult]], command: str) -> dict[str, Any]:
    """A record in which each protocol is one set, with the images of all its test sets."""
    images = [
        replace(result, set=protocol, name=f"{result.set}/{result.name}")
        for protocol, found in results.items()
        for result in found
    ]
    summaries = [asdict(summary) for summary in summarise(images, list(results), METHODS)]
    return {"command": command, "versions": versions(), "methods": list(METHODS), "sets": summaries, "costs": {}}


def main() -> None:
    """Run the protocols and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of test sets")
    parser.add_argument("--out", type=Path, default=Path("results/kernel_steps"))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--limit", type=int, help="only the first images of each set")
    parser.add_argument("--protocols", nargs="+", choices=DEGRADATIONS, default=list(DEGRADATIONS))
    args = parser.parse_args()
    command = shlex.join(["python", *sys.argv])
    results: dict[str, Sequence[ImageResult]] = {}
    for protocol in args.protocols:
        settings = Settings(
            protocol=protocol,
            scale=4,
            sets=DEGRADATIONS[protocol],
            methods=METHODS,
            data=args.data,
            out=args.out / protocol,
            limit=args.limit,
            workers=args.workers,
            costs=False,
            pictures=False,
            command=command,
        )
        outcome = evaluate(settings)
        results[protocol] = outcome.results
        for summary in outcome.summaries:
            print(overview(summary), end="\n\n")
    if results.keys() == DEGRADATIONS.keys():
        write_json(args.out / RECORD, combined_record(results, command))


if __name__ == "__main__":
    main()
