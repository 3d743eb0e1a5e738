"""Checks of arguments. A wrong type or value is a ParameterError of one line that names the argument."""

import operator
from collections.abc import Collection
from typing import Any

import numpy as np

from blinddiff.errors import ParameterError


def short_repr(value: Any) -> str:
    """A value for a message: its repr on one line, cut to 60 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def choice(name: str, value: Any, allowed: Collection[str]) -> str:
    """Return a value that is one of the allowed strings."""
    if not isinstance(value, str) or value not in allowed:
        raise ParameterError(f"{name} {short_repr(value)} is not one of {', '.join(allowed)}")
    return value


def whole_number(value: Any) -> int | None:
    """An integer of Python, NumPy or torch as int; None for all else, such as True, 2.0 and "2"."""
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError):  # the last two: arrays and tensors of several numbers
        return None


def whole_number_between(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return a `whole_number` from low to high, or without upper limit if high is None."""
    number = whole_number(value)
    if number is None or number < low or (high is not None and number > high):
        bounds = f"at least {low}" if high is None else f"{low} to {high}"
        raise ParameterError(f"{name} must be {bounds}, not {short_repr(value)}")
    return number


def number_from(name: str, value: Any, low: float | None = None) -> float:
    """Return a number, also of NumPy or torch, as float: any, or a finite one of at least `low`."""
    try:
        if isinstance(value, bool | np.bool_ | str | bytes):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ParameterError(f"{name} must be a number, not {short_repr(value)}") from error
    if low is not None and not low <= number < float("inf"):
        raise ParameterError(f"{name} must be at least {low:g}, not {short_repr(value)}")
    return number
