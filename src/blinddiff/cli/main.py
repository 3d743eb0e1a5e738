"""Parses a command line and imports only the module of the chosen command, so that ``--help`` is fast."""

import argparse
import importlib
import os
import sys
from typing import NoReturn

from blinddiff import __version__, openmp_settings
from blinddiff.cli import options
from blinddiff.errors import BlindDiffError

COMMANDS = {
    "demo": ("photographs", "restore the sample photograph and draw a sheet of the results"),
    "upscale": ("photographs", "restore a photograph: sharper, larger, less noisy"),
    "kernel": ("photographs", "estimate the blur kernel and the noise level of a photograph"),
    "degrade": ("photographs", "make a test pair: blur and reduce a sharp photograph, and add noise"),
    "train": ("runs", "train a network by a recipe"),
    "convert": ("runs", "convert a checkpoint of the published code into weights for this package"),
    "app": ("runs", "serve the web page, for use in a browser"),
    "evaluate": ("runs", "compare methods by a published protocol"),
}
"""The module and the summary of each command. The module's function `run_NAME` runs the command and may return an exit
code; the function `add_NAME_arguments` in `options` adds its arguments to a parser."""


class _Parser(argparse.ArgumentParser):
    """Reports an error in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="blinddiff",
        description="Blind image super-resolution: estimates the sharp image, the blur kernel and the noise level.",
    )
    parser.add_argument("--version", action="version", version=f"blinddiff {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, (_, summary) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == chosen:
            getattr(options, f"add_{name}_arguments")(subparser)
    return parser


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one sub-command, a key of `COMMANDS`."""
    parser = _Parser(prog=f"blinddiff {name}")
    getattr(options, f"add_{name}_arguments")(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Return the exit code: 0, 1 if part of the work failed, 2 for bad input, 130 if interrupted."""
    os.environ.update(openmp_settings())  # before torch is loaded
    options.open_closed_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    chosen = arguments[0] if arguments else None
    try:
        args = _parser(chosen).parse_args(arguments)
        options.set_threads(getattr(args, "threads", None))
        module = importlib.import_module(f"blinddiff.cli.{COMMANDS[args.command][0]}")
        return int(getattr(module, f"run_{args.command}")(args) or 0)
    except BlindDiffError as error:
        for message in error.args:  # several if a recipe has several errors
            print(f"blinddiff {chosen}: error: {' '.join(str(message).split())}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        from blinddiff.sampling.memory import is_lack_of_memory

        if not is_lack_of_memory(error):
            raise
        print(f"blinddiff {chosen}: error: this machine does not have enough memory", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"blinddiff {chosen}: interrupted", file=sys.stderr)
        return 130
