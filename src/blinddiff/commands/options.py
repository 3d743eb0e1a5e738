"""Options that several sub-commands share."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blinddiff.sampling.pipeline import BlindDiffPipeline


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Where the weights come from and where they run."""
    parser.add_argument("--weights", metavar="DIR", help="folder of weights (default: those in the package)")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best that there is)")


def add_scale_option(parser: argparse.ArgumentParser) -> None:
    """How many times larger the result is."""
    parser.add_argument("--scale", type=int, choices=(1, 2, 3, 4), default=4, help="enlargement (default: 4)")


def load_pipeline(args: argparse.Namespace) -> "BlindDiffPipeline":
    """The pipeline that `add_model_options` asks for."""
    from blinddiff.sampling.pipeline import BlindDiffPipeline

    return BlindDiffPipeline.from_pretrained(args.weights, args.device)


def whole(low: int, high: int) -> "type[int]":
    """An argparse type: a whole number from ``low`` to ``high``."""

    def read(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {high}")
        return value

    read.__name__ = "whole number"
    return read  # type: ignore[return-value]


def make_folder(folder: Path) -> None:
    """Create a folder for results.

    Raises:
        OutputError: it cannot be made or written to.
    """
    import os

    from blinddiff.errors import OutputError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder}: is not writable")
