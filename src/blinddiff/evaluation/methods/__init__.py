"""The methods of `blinddiff evaluate`. A new one is a file beside this one and a line in `METHODS`."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from blinddiff.errors import ParameterError
from blinddiff.evaluation.data import weights_checksum
from blinddiff.evaluation.methods.external import ExternalMethod
from blinddiff.evaluation.methods.interpolation import BicubicMethod, LanczosMethod
from blinddiff.evaluation.methods.method import Method, Options
from blinddiff.evaluation.methods.network import PipelineMethod, checkpoint
from blinddiff.evaluation.methods.physics import ClosedFormMethod, ClosedFormOracle
from blinddiff.models.noise_schedule import NUM_TRAIN_TIMESTEPS


@dataclass(frozen=True)
class Entry:
    """A method in the list.

    Attributes:
        what: one phrase for the help and the reports.
        make: from the options.
        trained: whether its numbers depend on `Options.weights`.
    """

    what: str
    make: Callable[[Options], Method]
    trained: bool = True


def _pipeline(name: str, what: str, **options: Any) -> tuple[str, Entry]:
    return name, Entry(what, lambda o: PipelineMethod(name, o.pipeline, **options))


def _external(options: Options) -> Method:
    if options.external is None:
        raise ParameterError("method 'external' needs --external FOLDER, the folder of results")
    if not os.path.isdir(options.external):
        raise ParameterError(f"{options.external}: no such folder of results")
    return ExternalMethod(options.external)


METHODS: dict[str, Entry] = {
    "bicubic": Entry("MATLAB's bicubic interpolation", lambda _: BicubicMethod(), trained=False),
    "lanczos": Entry("Pillow's Lanczos interpolation", lambda _: LanczosMethod(), trained=False),
    "closed-form": Entry(
        "estimated kernel and one proximal step, no image network", lambda o: ClosedFormMethod(o.pipeline)
    ),
    "closed-form-oracle": Entry(
        "the same step with the true kernel and noise level", lambda _: ClosedFormOracle(), trained=False
    ),
    **dict(
        [
            _pipeline("fidelity", "this package as it is called by default: closest in the mean square"),
            _pipeline("fast", "this package in one call of the network", mode="fast"),
            _pipeline("perceptual", "this package, a sample of the posterior", mode="perceptual"),
            _pipeline("paper", "the published sampler with these weights", mode="paper"),
            _pipeline("oracle", "fidelity, given the true kernel", true_kernel=True),
            _pipeline("kernel-once", "fidelity, the kernel estimated once, from y alone", kernel_step="first"),
            _pipeline("kernel-undamped", "fidelity, the network's whole step for the kernel", kernel_step="network"),
            _pipeline("kernel-refined", "fidelity, with least squares for the kernel", kernel_step="refine"),
            _pipeline("no-image-step", "fidelity, without the data term after the network", image_step="none"),
            _pipeline("gradient", "fidelity, with the gradient for the proximal step", image_step="gradient"),
            _pipeline("perceptual-kernel-once", "the same of perceptual", mode="perceptual", kernel_step="first"),
            _pipeline("perceptual-no-image-step", "the same of perceptual", mode="perceptual", image_step="none"),
            _pipeline("perceptual-gradient", "the same of perceptual", mode="perceptual", image_step="gradient"),
        ]
    ),
    "external": Entry("a folder of results of another program", _external),
}
"""Name -> what it is and how it is made. Those of this package's pipeline also go by ``NAME@STEPS``."""


def method(name: str, options: Options) -> Method:
    """The named method; ``NAME@STEPS`` for another number of steps. Raises ParameterError for an unknown name."""
    base, at, steps = name.partition("@")
    if base in options.checkpoints:
        made: Method = checkpoint(base, options.load(options.checkpoints[base]))
    elif base in METHODS:
        made = METHODS[base].make(options)
    else:
        known = ", ".join([*METHODS, *options.checkpoints])
        raise ParameterError(f"method '{base}': one of {known} is accepted")
    if not at:
        return made
    if not isinstance(made, PipelineMethod):
        raise ParameterError(f"method '{name}': {base} has no steps")
    if not (steps.isdecimal() and 1 <= int(steps) <= NUM_TRAIN_TIMESTEPS):
        raise ParameterError(f"method '{name}': after @, 1 to {NUM_TRAIN_TIMESTEPS} steps are accepted")
    return replace(made, name=name, steps=int(steps))


def fingerprint_of(name: str, options: Options) -> str | None:
    """What a method's stored results depend on: a checksum of its weights, empty if it has none.

    None for `external`, whose results may have changed since: they are read again every time.
    """
    base = name.partition("@")[0]
    if base == "external":
        return None
    if base in options.checkpoints:
        return weights_checksum(options.checkpoints[base]) or str(options.checkpoints[base])
    return (weights_checksum(options.weights) or str(options.weights)) if METHODS[base].trained else ""
