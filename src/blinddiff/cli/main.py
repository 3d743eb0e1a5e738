"""Parses a command line and imports only the module of the chosen command, so that ``--help`` is fast."""

import argparse
import importlib.util
import os
import sys
from typing import Any, NoReturn

from blinddiff import __version__, openmp_settings
from blinddiff.cli import options
from blinddiff.cli.options import TOKEN_VARIABLE
from blinddiff.errors import BlindDiffError, is_lack_of_memory, need

COMMANDS = {
    "demo": ("photographs", "restore the sample photograph and draw a sheet of the results"),
    "upscale": ("photographs", "restore a photograph: sharper, larger, less noisy"),
    "kernel": ("photographs", "estimate the blur kernel and the noise level of a photograph"),
    "degrade": ("degrading", "make a test pair: blur and reduce a sharp photograph, and add noise"),
    "train": ("runs", "train a network by a recipe"),
    "convert": ("runs", "convert a checkpoint of the published code into weights for this package"),
    "export": ("runs", "write the method as ONNX graphs, for use without torch"),
    "app": ("runs", "serve the web page, for use in a browser"),
    "serve": ("runs", "serve restorations and estimates to programs over HTTP, and the web page"),
    "evaluate": ("runs", "compare methods by a published protocol"),
}
"""The module and the summary of each command. The module's function `run_NAME` runs the command and may return an exit
code; the function `add_NAME_arguments` in `options` adds its arguments to a parser."""

EXTRAS = {"app": "ui", "serve": "ui", "export": "onnx"}
"""The extra that each command needs, if it is not the extra torch; those of the module `photographs` may need none."""


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
    text = "print a script for a shell's completion, and exit"
    parser.add_argument("--completion", choices=("bash", "zsh"), action=_PrintCompletion, help=text)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, (_, summary) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == chosen:
            getattr(options, f"add_{name}_arguments")(subparser)
    return parser


_FOUND = (
    "The printed line: kernel, the standard deviations of the blur along both axes; noise, its standard deviation in "
    "grey levels (of 255)"
)
EPILOGS = {
    "upscale": f"{_FOUND}; residual, the RMS difference between the photograph and the result blurred and reduced "
    "again; much more than the noise means that something is wrong, such as a given kernel.",
    "serve": f"If the environment variable {TOKEN_VARIABLE} is set, requests need its value as a bearer token, and the "
    "page asks for it.",
    "kernel": f"{_FOUND}; MTF50, the frequency at which contrast falls to one half. Kernel and noise are estimated for "
    "each scale separately; use those of one scale together.",
}
"""What is printed below the options of a command."""


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one sub-command, a key of `COMMANDS`."""
    parser = _Parser(prog=f"blinddiff {name}", epilog=EPILOGS.get(name))
    getattr(options, f"add_{name}_arguments")(parser)
    return parser


def _words() -> dict[str, dict[str, list[str]]]:
    """The options of each command, with the values of those that have a choice."""
    return {
        name: {
            option: [str(choice) for choice in action.choices or ()]
            for action in command_parser(name)._actions
            for option in action.option_strings
        }
        for name in COMMANDS
        if name != "evaluate" or importlib.util.find_spec("torch") is not None  # its choices are in modules of torch
    }


def completion(shell: str) -> str:
    """A script for ``bash`` or ``zsh`` that completes commands, options and their values; else file names."""
    cases = []
    for name, words in _words().items():
        cases += [f"    '{name} {option}') words='{' '.join(values)}' ;;" for option, values in words.items() if values]
        cases.append(f"    '{name} '*) [[ $word == -* ]] && words='{' '.join(words)}' ;;")
    return "\n".join(
        [
            *(["autoload -U +X bashcompinit && bashcompinit"] if shell == "zsh" else []),
            "_blinddiff() {",
            '  local word="${COMP_WORDS[COMP_CWORD]}" words=""',
            '  case "${COMP_WORDS[1]} ${COMP_WORDS[COMP_CWORD-1]}" in',
            *cases,
            f"    *) words='{' '.join(COMMANDS)}' ;;",
            "  esac",
            '  COMPREPLY=($(compgen -W "$words" -- "$word"))',
            "}",
            "complete -o default -F _blinddiff blinddiff",
        ]
    )


class _PrintCompletion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, _space: object, shell: Any, _option: object = None) -> None:
        print(completion(shell))
        parser.exit()


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Return the exit code: 0, 1 if part of the work failed, 2 for bad input, 130 if interrupted."""
    os.environ.update(openmp_settings())  # before torch is loaded
    options.open_closed_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    chosen = arguments[0] if arguments else None
    try:
        os.getcwd()
    except OSError:
        print("blinddiff: error: the working directory no longer exists", file=sys.stderr)
        return 2
    if not arguments:
        _parser(None).print_help()
        return 0
    try:
        if chosen in COMMANDS and COMMANDS[chosen][0] != "photographs":
            need("this command", f"blinddiff[{EXTRAS.get(chosen, 'torch')}]", "torch", "diffusers")
        args = _parser(chosen).parse_args(arguments)
        options.set_threads(getattr(args, "threads", None))
        module = importlib.import_module(f"blinddiff.cli.{COMMANDS[args.command][0]}")
        return int(getattr(module, f"run_{args.command}")(args) or 0)
    except BlindDiffError as error:
        for message in error.args:  # several if a recipe has several errors
            print(f"blinddiff {chosen}: error: {' '.join(str(message).split())}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        print(f"blinddiff {chosen}: error: this machine does not have enough memory", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"blinddiff {chosen}: interrupted", file=sys.stderr)
        return 130
