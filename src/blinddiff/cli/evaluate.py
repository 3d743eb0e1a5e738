"""`blinddiff evaluate`: the arguments and what is done with them."""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from blinddiff.errors import ParameterError
from blinddiff.evaluation.methods import METHODS, Options
from blinddiff.evaluation.protocols import PROTOCOLS, protocol
from blinddiff.evaluation.report import overview
from blinddiff.evaluation.run import Settings, evaluate, export
from blinddiff.evaluation.statistics import TRAINED, all_ablation_methods, trained_ablations

PRINTED = 20  # failures on the screen; the report of an evaluation has all
DEFAULT_METHODS = ("bicubic", "closed-form", "fidelity", "oracle")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff evaluate`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(
        [
            "protocols:",
            *(f"  {name:<18} {p.degradation}; scales {', '.join(map(str, p.scales))}" for name, p in PROTOCOLS.items()),
            "",
            "methods:",
            *(f"  {name:<24} {entry.summary}" for name, entry in METHODS.items()),
            "  NAME@STEPS               any of this package's with another number of steps, as in perceptual@20",
        ]
    )
    parser.add_argument("--protocol", required=True, choices=PROTOCOLS, metavar="NAME", help="how test images are made")
    parser.add_argument("--scale", type=int, help="1 to 4; 4 if the protocol has it")
    parser.add_argument("--sets", nargs="+", metavar="SET", help="test sets (default: the protocol's usual ones)")
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="METHOD",
        help=f"what is compared (default: {' '.join(DEFAULT_METHODS)}, as far as the truth is known)",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of test sets (default: $BLINDDIFF_DATA)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="log, record and report; a killed run goes on there")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images of each set")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="parallel processes (default: 1)")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="folder of weights (default: those in the package)")
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="one more method: this package with the weights in a folder, a converted checkpoint for one; repeatable",
    )
    parser.add_argument("--ablations", action="store_true", help="also every ablation that can be measured")
    parser.add_argument(
        "--ablation-weights",
        type=Path,
        metavar="DIR",
        help="folder of the weights that recipes/ablations train: DIR/full, DIR/no_modulation, DIR/no_kernel_loss",
    )
    parser.add_argument("--device", help="cpu, cuda or mps (default: chosen)")
    parser.add_argument("--seed", type=int, default=0, help="of degradations and methods (default: 0)")
    parser.add_argument("--external", type=Path, metavar="DIR", help="somebody's results: the method 'external'")
    parser.add_argument("--no-costs", action="store_true", help="leave out memory, multiplications and parameters")
    parser.add_argument("--no-pictures", action="store_true", help="leave the pictures out of report.html")
    parser.add_argument("--export", type=Path, metavar="DIR", help="only write the LR and HR images and kernels there")


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the tables; 0, or 1 if an image could not be evaluated. Raises BlindDiffError for bad input."""
    kind = PROTOCOLS[args.protocol]
    scale = args.scale if args.scale is not None else (4 if 4 in kind.scales else kind.scales[0])
    plan = protocol(args.protocol, scale)
    checkpoints = dict(_checkpoint(text) for text in args.checkpoint)
    trained = {} if args.ablation_weights is None else trained_ablations(args.ablation_weights)
    if args.ablation_weights is not None and not trained:
        raise ParameterError(f"{args.ablation_weights}: holds no weights of {', '.join(TRAINED.values())}")
    methods = list(args.methods or [name for name in DEFAULT_METHODS if plan.truth or name != "oracle"])
    methods += checkpoints
    if args.external is not None:
        methods.append("external")
    if args.ablations or trained:
        methods += all_ablation_methods(list(trained)) if args.ablations else trained
    settings = Settings(
        protocol=args.protocol,
        scale=scale,
        sets=tuple(dict.fromkeys(args.sets or plan.sets)),
        methods=tuple(dict.fromkeys(methods)),
        data=args.data,
        out=args.out or Path("results/benchmarks") / f"{args.protocol}_x{scale}",
        options=Options(args.weights, args.device, args.external, {**checkpoints, **trained}),
        seed=args.seed,
        limit=args.limit,
        workers=args.workers,
        costs=not args.no_costs,
        pictures=not args.no_pictures,
        command=shlex.join(["blinddiff", *sys.argv[1:]]),
    )
    if args.export is not None:
        count, failures = export(settings, args.export)
        _print_failures("not exported", failures)
        print(f"{count} cases of {args.protocol} x{scale} in {args.export}")
        return 1 if failures else 0
    outcome = evaluate(settings)
    for summary in outcome.summaries:
        print(overview(summary), end="\n\n")
    _print_failures("not evaluated", [f"{f.method}, {f.case_id}: {f.error}" for f in outcome.failures])
    print(f"report: {settings.out / 'report.md'} and {settings.out / 'report.html'}")
    return 1 if outcome.failures else 0


def _print_failures(what: str, failures: Sequence[str]) -> None:
    for failure in failures[:PRINTED]:
        print(f"{what}: {failure}", file=sys.stderr)
    if len(failures) > PRINTED:
        print(f"... and {len(failures) - PRINTED} more", file=sys.stderr)


def _checkpoint(text: str) -> tuple[str, Path]:
    """NAME=DIR. Raises ParameterError."""
    name, equals, folder = text.partition("=")
    if not (equals and folder and re.fullmatch(r"[\w.-]+", name)) or name in METHODS or name in TRAINED:
        raise ParameterError(f"--checkpoint '{text}': NAME=DIR is accepted, with a name that no method has")
    return name, Path(folder)
