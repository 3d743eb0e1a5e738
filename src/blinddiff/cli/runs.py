"""The commands `blinddiff train`, `evaluate`, `convert`, `export`, `app` and `serve`."""

import argparse
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
from blinddiff.cli.options import DEFAULT_METHODS, TOKEN_VARIABLE, print_line
from blinddiff.errors import OutputError, ParameterError, WeightsError, need
from blinddiff.evaluation.methods import EXTERNAL, METHODS, Options
from blinddiff.evaluation.protocols import PROTOCOLS, protocol
from blinddiff.evaluation.report import overview
from blinddiff.evaluation.run import Settings, evaluate, evaluate_seeds, export
from blinddiff.evaluation.statistics import TRAINED, all_ablation_methods, trained_ablations
from blinddiff.published.network import network_from_published, read_published
from blinddiff.restoring.engines import load_pipeline
from blinddiff.sampling.pipeline import BlindDiffPipeline
from blinddiff.sampling.schedulers import default_scheduler
from blinddiff.training.recipe import load_recipe
from blinddiff.training.trainer import train

MAX_PRINTED_FAILURES = 20  # the report lists all


def run_train(args: argparse.Namespace) -> None:
    """Train a network from a recipe."""
    recipes = load_recipe(args.recipe, args.data)
    folder = args.output or Path("runs") / args.recipe.stem
    weights = train(
        recipes, folder, resume=args.resume, max_minutes=args.max_minutes, device=args.device, on_stop=print_line
    )
    print_line(f"weights: {weights}")


def run_evaluate(args: argparse.Namespace) -> int:
    """Evaluate and print the tables. Return 0, or 1 if an image could not be evaluated."""
    kind = PROTOCOLS[args.protocol]
    scale = args.scale if args.scale is not None else (4 if 4 in kind.scales else kind.scales[0])
    chosen_protocol = protocol(args.protocol, scale)
    checkpoints = dict(_named_folder("--checkpoint", text) for text in args.checkpoint)
    trained = {} if args.ablation_weights is None else trained_ablations(args.ablation_weights)
    if args.ablation_weights is not None and not trained:
        raise ParameterError(f"{args.ablation_weights}: contains no weights of {', '.join(TRAINED.values())}")
    known = chosen_protocol.kernel_known
    methods = list(args.methods or [name for name in DEFAULT_METHODS if known or name != "oracle"])
    methods += checkpoints
    external = dict(_external(text) for text in args.external)
    methods += external
    for name in external.keys() & checkpoints.keys():
        raise ParameterError(f"{name}: is the name of several methods")
    methods += all_ablation_methods(list(trained)) if args.ablations else trained
    settings = Settings(
        protocol=args.protocol,
        scale=scale,
        sets=tuple(dict.fromkeys(args.sets or chosen_protocol.sets)),
        methods=tuple(dict.fromkeys(methods)),
        data=args.data,
        out=args.out or Path("results/benchmarks") / f"{args.protocol}_x{scale}",
        options=Options(args.weights, args.device, external, {**checkpoints, **trained}),
        seed=args.seed[0],
        limit=args.limit,
        workers=args.workers,
        costs=not args.no_costs,
        pictures=not args.no_pictures,
        tables=args.export_tables,
        learned_weights=args.learned_weights,
        command=shlex.join(["blinddiff", *sys.argv[1:]]),
    )
    seeds = list(dict.fromkeys(args.seed))
    if args.export is not None:
        if len(seeds) > 1:
            raise ParameterError("--export: needs a single --seed")
        count, failures = export(settings, args.export)
        _print_failures("not exported", failures)
        print(f"{count} cases of {args.protocol} x{scale} in {args.export}")
        return 1 if failures else 0
    if len(seeds) > 1:
        outcomes, tables = evaluate_seeds(settings, seeds)
        printed, reports = [table.markdown() for table in tables], str(settings.out / "report.md")
    else:
        outcomes = [evaluate(settings)]
        printed = [overview(summary) for summary in outcomes[0].summaries]
        reports = f"{settings.out / 'report.md'} and {settings.out / 'report.html'}"
    for text in printed:
        print(text, end="\n\n")
    failures = [f"{f.method}, {f.case_id}: {f.error}" for outcome in outcomes for f in outcome.failures]
    _print_failures("not evaluated", failures)
    print(f"report: {reports}")
    return 1 if failures else 0


def _print_failures(what: str, failures: Sequence[str]) -> None:
    for failure in failures[:MAX_PRINTED_FAILURES]:
        print(f"{what}: {failure}", file=sys.stderr)
    if len(failures) > MAX_PRINTED_FAILURES:
        print(f"... and {len(failures) - MAX_PRINTED_FAILURES} more", file=sys.stderr)


def _named_folder(option: str, text: str) -> tuple[str, Path]:
    """Split ``NAME=DIR``. Raises ParameterError if the name is invalid or the name of another method."""
    name, equals, folder = text.partition("=")
    if not (equals and folder and re.fullmatch(r"[\w.-]+", name)) or name in METHODS or name in TRAINED:
        raise ParameterError(f"{option} '{text}': must be NAME=DIR with a name that no other method has")
    return name, Path(folder)


def _external(text: str) -> tuple[str, Path]:
    """Split ``NAME=DIR``; a folder alone has the name `EXTERNAL`. Raises ParameterError for an invalid name."""
    return _named_folder("--external", text) if "=" in text else (EXTERNAL, Path(text))


def run_app(args: argparse.Namespace) -> None:
    """Serve the web page until interrupted."""
    _serve(args, "the web page", Limits.seconds)


def run_serve(args: argparse.Namespace) -> None:
    """Serve programs, and the web page, until interrupted."""
    _serve(args, "the service", args.deadline)


def _serve(args: argparse.Namespace, what: str, seconds: float) -> None:
    need(what, "blinddiff[ui]", "gradio", "fastapi", "prometheus_client")
    from blinddiff.app.server import is_loopback, served  # imports Gradio

    limits = Limits(args.max_megapixels, args.max_upload, args.queue, seconds)
    token = os.environ.get(TOKEN_VARIABLE) or None
    # Handle these signals like Ctrl-C, which removes the page's files. Ignored signals, as under nohup, stay ignored.
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    try:
        pipeline = load_pipeline(args.weights, args.device)
        with served(pipeline, args.host, args.port, limits, token=token) as address:
            warning = " (anyone who can reach this machine can use the page: there is no password)"
            print_line(f"{address}{'' if token or is_loopback(args.host) else warning}; stop with Ctrl+C")
            threading.Event().wait()
    except KeyboardInterrupt:
        print_line("stopped")


def run_convert(args: argparse.Namespace) -> None:
    """Convert a checkpoint of the published code into a folder of weights."""
    if os.path.exists(args.folder):
        raise OutputError(f"{args.folder}: already exists")
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


def run_export(args: argparse.Namespace) -> None:
    """Write the graphs of a network into a folder."""
    need("the export", "blinddiff[onnx]", "onnx", "onnxscript", "onnxruntime")
    from blinddiff.export.folder import write_folder  # imports onnx

    network = load_pipeline(args.weights, "cpu").network

    def on_scale(scale: int, differences: dict[str, float]) -> None:
        found = ", ".join(f"{name} {differences[name]:.1e}" for name in ("x", "kernel"))
        print_line(f"{args.folder}: x{scale}; largest difference from the network on a sample: {found}")

    scales = list(dict.fromkeys(args.scales or network.config.scales))
    write_folder(network, args.folder, scales, list(dict.fromkeys(args.modes)), on_scale)
