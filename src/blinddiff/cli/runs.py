"""The commands `blinddiff train`, `evaluate`, `convert` and `app`."""

import argparse
import importlib.util
import os
import re
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError

from blinddiff.app import Limits
from blinddiff.cli.options import DEFAULT_METHODS, print_line
from blinddiff.errors import BlindDiffError, OutputError, ParameterError, WeightsError
from blinddiff.evaluation.methods import METHODS, Options
from blinddiff.evaluation.protocols import PROTOCOLS, protocol
from blinddiff.evaluation.report import overview
from blinddiff.evaluation.run import Settings, evaluate, export
from blinddiff.evaluation.statistics import TRAINED, all_ablation_methods, trained_ablations
from blinddiff.published.network import network_from_published, read_published
from blinddiff.restoring.photograph import load_pipeline
from blinddiff.sampling.pipeline import BlindDiffPipeline
from blinddiff.sampling.schedulers import default_scheduler
from blinddiff.training.recipe import load_recipe
from blinddiff.training.trainer import train

MAX_PRINTED_FAILURES = 20  # the report lists all


def run_train(args: argparse.Namespace) -> None:
    """Train by a recipe."""
    recipes = load_recipe(args.recipe, args.data)
    folder = args.output or Path("runs") / args.recipe.stem
    weights = train(recipes, folder, resume=args.resume, max_minutes=args.max_minutes, device=args.device)
    print_line(f"weights: {weights}")


def run_evaluate(args: argparse.Namespace) -> int:
    """Evaluate and print the tables. Return 0, or 1 if an image could not be evaluated."""
    kind = PROTOCOLS[args.protocol]
    scale = args.scale if args.scale is not None else (4 if 4 in kind.scales else kind.scales[0])
    plan = protocol(args.protocol, scale)
    checkpoints = dict(_checkpoint(text) for text in args.checkpoint)
    trained = {} if args.ablation_weights is None else trained_ablations(args.ablation_weights)
    if args.ablation_weights is not None and not trained:
        raise ParameterError(f"{args.ablation_weights}: contains no weights of {', '.join(TRAINED.values())}")
    methods = list(args.methods or [name for name in DEFAULT_METHODS if plan.truth or name != "oracle"])
    methods += checkpoints
    if args.external is not None:
        methods.append("external")
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
    for failure in failures[:MAX_PRINTED_FAILURES]:
        print(f"{what}: {failure}", file=sys.stderr)
    if len(failures) > MAX_PRINTED_FAILURES:
        print(f"... and {len(failures) - MAX_PRINTED_FAILURES} more", file=sys.stderr)


def _checkpoint(text: str) -> tuple[str, Path]:
    """Split ``NAME=DIR``. Raises ParameterError if the name is invalid or the name of another method."""
    name, equals, folder = text.partition("=")
    if not (equals and folder and re.fullmatch(r"[\w.-]+", name)) or name in METHODS or name in TRAINED:
        raise ParameterError(f"--checkpoint '{text}': must be NAME=DIR with a name that no other method has")
    return name, Path(folder)


def run_app(args: argparse.Namespace) -> None:
    """Serve the web page until interrupted."""
    if importlib.util.find_spec("gradio") is None:
        raise BlindDiffError("the web page needs more packages: pip install '.[ui]' in a copy of the repository")
    from blinddiff.app.server import is_loopback, served  # imports these packages

    limits = Limits(megapixels=args.max_megapixels, upload_megabytes=args.max_upload, queue=args.queue)
    # Handle these signals like Ctrl-C, which removes the page's files. Ignored signals, as under nohup, stay ignored.
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    try:
        pipeline = load_pipeline(args.weights, args.device)
        with served(pipeline, args.host, args.port, limits) as address:
            warning = " (anyone who can reach this machine can use the page: there is no password)"
            print_line(f"{address}{'' if is_loopback(args.host) else warning}; stop with Ctrl+C")
            threading.Event().wait()
    except KeyboardInterrupt:
        print_line("stopped")


def run_convert(args: argparse.Namespace) -> None:
    """Convert a checkpoint of the published code into a folder of weights."""
    if os.path.exists(args.folder):
        raise OutputError(f"{args.folder}: exists already")
    state = read_published(args.checkpoint)
    try:
        network = network_from_published(state, args.scale)
    except (ParameterError, WeightsError) as error:
        raise WeightsError(f"{args.checkpoint}: {error}") from error
    temporary = args.folder.with_name(f".{args.folder.name}.tmp")
    try:
        BlindDiffPipeline(network, default_scheduler(network)).save_pretrained(temporary)
        temporary.rename(args.folder)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{args.folder}: cannot be written: {getattr(error, 'strerror', None) or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    config = network.config
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    print_line(f"{args.folder}: dim {config.dim}, blocks {list(config.num_blocks)}, {millions:.1f} million parameters")
