"""`blinddiff`: one sub-command, one module; nothing is done here."""

import argparse
import importlib
import sys
from typing import NoReturn

from blinddiff import __version__
from blinddiff.cli.streams import open_closed_streams
from blinddiff.errors import BlindDiffError

COMMANDS = {
    "demo": ("blinddiff.cli.demo", "restore the sample photograph and lay out what was found"),
    "upscale": ("blinddiff.cli.upscale", "restore a photograph: sharper, larger, less noisy"),
    "kernel": ("blinddiff.cli.kernel", "estimate the blur kernel and the noise level of a photograph"),
    "degrade": ("blinddiff.cli.degrade", "make a test pair: blur, reduce and add noise to a sharp photograph"),
    "train": ("blinddiff.cli.train", "train a network by a recipe"),
    "convert": ("blinddiff.cli.convert", "turn a checkpoint of the published code into weights for this package"),
    "app": ("blinddiff.cli.app", "the page to try it on, in a browser"),
    "evaluate": ("blinddiff.cli.evaluate", "measure methods side by side by a published protocol"),
}
"""Name, module with `add_arguments` and `run`, and summary. Only the module that is asked for is imported."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; ``--help`` says the rest."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="blinddiff",
        description="Blind image super-resolution: the sharp photograph, its blur kernel and its noise level.",
    )
    parser.add_argument("--version", action="version", version=f"blinddiff {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == chosen:
            importlib.import_module(module).add_arguments(command)
    return parser


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one sub-command, a key of `COMMANDS`."""
    parser = _Parser(prog=f"blinddiff {name}")
    importlib.import_module(COMMANDS[name][0]).add_arguments(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command line: 0 when done, 1 when part of the work failed, 2 for bad input, 130 when interrupted."""
    open_closed_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    chosen = arguments[0] if arguments else None
    try:
        args = _parser(chosen).parse_args(arguments)
        return int(importlib.import_module(COMMANDS[args.command][0]).run(args))
    except BlindDiffError as error:
        for message in error.args:  # one, but for a recipe with several mistakes
            print(f"blinddiff {chosen}: error: {' '.join(str(message).split())}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        from blinddiff.sampling.memory import is_lack_of_memory

        if not is_lack_of_memory(error):
            raise
        print(f"blinddiff {chosen}: error: the memory of this machine does not suffice", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"blinddiff {chosen}: interrupted", file=sys.stderr)
        return 130
