"""Every error that bad input can cause, each with one plain line for a person.

All are `BlindDiffError`, so that `except BlindDiffError` catches what a user can mend, and nothing else.
"""

import importlib.util

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_cpu", "bad allocation")


class BlindDiffError(Exception):
    """Base of all errors caused by input; the command line prints its one line and exits with 2."""


class ParameterError(BlindDiffError, ValueError):
    """An argument is outside what the function accepts."""


class ImageError(BlindDiffError):
    """An image file or array cannot be used."""


class KernelError(BlindDiffError, ValueError):
    """A blur kernel is not one: it does not sum to 1, has entries that are not finite, or does not fit the image."""


class WeightsError(BlindDiffError):
    """A weights file or folder is missing, damaged, or of another architecture."""


class RecipeError(BlindDiffError, ValueError):
    """A training recipe has unknown keys or impossible values: one argument, and one line, for each mistake."""

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class OutputError(BlindDiffError):
    """A result cannot be written where it was asked for."""


class TrainingError(BlindDiffError):
    """Training cannot go on: the loss is not finite, or a checkpoint does not fit."""


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or Python means that memory ran out."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in _OUT_OF_MEMORY)
    )


def need(what: str, requirement: str, *packages: str) -> None:
    """Raise BlindDiffError with the command that installs a requirement, if one of its packages is not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise BlindDiffError(f"{what} needs {package}: pip install '{requirement}'")
