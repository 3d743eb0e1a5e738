"""Stopping a restoration while it runs, within a fraction of a step."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


class Stopped(Exception):  # not an error: it was asked for
    """The restoration was given up."""


_current = threading.local()


@contextmanager
def stoppable(stop: threading.Event) -> Iterator[None]:
    """Within this, in this thread, `check_stop` and the layers of `watch` look at ``stop``."""
    _current.stop = stop
    try:
        yield
    finally:
        del _current.stop


def check_stop() -> None:
    """Give up, if that has been asked for.

    Raises:
        Stopped: it has.
    """
    stop: threading.Event | None = getattr(_current, "stop", None)
    if stop is not None and stop.is_set():
        raise Stopped


def watch(network: nn.Module) -> None:
    """Have every layer look whether to stop before it runs: a step on a large photograph takes many seconds."""
    for layer in network.modules():
        layer.register_forward_pre_hook(lambda *_: check_stop())
