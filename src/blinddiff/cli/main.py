"""Parses a command line and imports the module of the chosen command only, so that ``--help`` is quick."""

import argparse
import importlib
import sys
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from blinddiff import __version__
from blinddiff.cli import options
from blinddiff.errors import BlindDiffError


class Command(NamedTuple):
    """A sub-command: what it does, its arguments, and the module whose function ``run_NAME`` does it."""

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    module: str


COMMANDS = {
    "demo": Command("restore the sample photograph and draw what was found", options.add_demo_arguments, "tools"),
    "upscale": Command("restore a photograph: sharper, larger, less noisy", options.add_upscale_arguments, "upscale"),
    "kernel": Command(
        "estimate the blur kernel and the noise level of a photograph", options.add_kernel_arguments, "tools"
    ),
    "degrade": Command(
        "make a test pair: blur, reduce and add noise to a sharp photograph", options.add_degrade_arguments, "tools"
    ),
    "train": Command("train a network by a recipe", options.add_train_arguments, "runs"),
    "convert": Command(
        "turn a checkpoint of the published code into weights for this package", options.add_convert_arguments, "tools"
    ),
    "app": Command("serve the page, for use in a browser", options.add_app_arguments, "runs"),
    "evaluate": Command("measure methods side by side by a published protocol", options.add_evaluate_arguments, "runs"),
}


class _Parser(argparse.ArgumentParser):
    """Reports an error in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="blinddiff",
        description="Blind image super-resolution: the sharp photograph, its blur kernel and its noise level.",
    )
    parser.add_argument("--version", action="version", version=f"blinddiff {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, command in COMMANDS.items():
        summary = command.summary
        subparser = subparsers.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == chosen:
            command.add_arguments(subparser)
    return parser


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one sub-command, a key of `COMMANDS`."""
    parser = _Parser(prog=f"blinddiff {name}")
    COMMANDS[name].add_arguments(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command line: 0 when done, 1 when part of the work failed, 2 for bad input, 130 when interrupted."""
    options.open_closed_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    chosen = arguments[0] if arguments else None
    try:
        args = _parser(chosen).parse_args(arguments)
        module = importlib.import_module(f"blinddiff.cli.{COMMANDS[args.command].module}")
        return int(getattr(module, f"run_{args.command}")(args))
    except BlindDiffError as error:
        for message in error.args:  # one, but for a recipe with several mistakes
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
