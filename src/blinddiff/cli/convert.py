"""`blinddiff convert`: a checkpoint of the published code in, a folder of weights for this package out."""

import argparse
import os
import shutil
from pathlib import Path

from blinddiff.cli.streams import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff convert`."""
    parser.add_argument("checkpoint", type=Path, help="the authors' file: .pth or .safetensors")
    parser.add_argument("folder", type=Path, help="the folder to make, for --weights; use it with --mode paper")
    parser.add_argument("--scale", type=int, choices=(1, 2, 3, 4), default=4, help="of its training (default: 4)")


def run(args: argparse.Namespace) -> int:
    """Convert; 0."""
    from safetensors import SafetensorError

    from blinddiff.errors import OutputError, ParameterError, WeightsError
    from blinddiff.published.convert import network_from_published, read_published
    from blinddiff.sampling.pipeline import BlindDiffPipeline
    from blinddiff.sampling.schedulers import default_scheduler

    if os.path.exists(args.folder):
        raise OutputError(f"{args.folder}: exists already")
    state = read_published(args.checkpoint)
    try:
        network = network_from_published(state, args.scale)
    except (ParameterError, WeightsError) as error:
        raise WeightsError(f"{args.checkpoint}: {error}") from error
    half_made = args.folder.with_name(f".{args.folder.name}.tmp")
    try:
        BlindDiffPipeline(network, default_scheduler(network)).save_pretrained(half_made)
        half_made.rename(args.folder)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{args.folder}: cannot be written: {getattr(error, 'strerror', None) or error}") from error
    finally:
        shutil.rmtree(half_made, ignore_errors=True)
    config = network.config
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    say(f"{args.folder}: dim {config.dim}, blocks {list(config.num_blocks)}, {millions:.1f} million parameters")
    return 0
