"""The methods of `blinddiff evaluate`. A new one is a file beside this one and a line in `METHODS`."""

from collections.abc import Callable

from blinddiff.errors import ParameterError
from blinddiff.evaluation.methods.external import ExternalMethod
from blinddiff.evaluation.methods.interpolation import BicubicMethod, LanczosMethod
from blinddiff.evaluation.methods.method import Method, Options
from blinddiff.evaluation.methods.network import PipelineMethod
from blinddiff.evaluation.methods.physics import ClosedFormMethod, ClosedFormOracle


def _external(options: Options) -> Method:
    if options.external is None:
        raise ParameterError("method 'external' needs --external FOLDER, the folder of results")
    if not options.external.is_dir():
        raise ParameterError(f"{options.external}: no such folder of results")
    return ExternalMethod(options.external)


METHODS: dict[str, tuple[str, Callable[[Options], Method]]] = {
    "bicubic": ("MATLAB's bicubic interpolation", lambda _: BicubicMethod()),
    "lanczos": ("Pillow's Lanczos interpolation", lambda _: LanczosMethod()),
    "closed-form": ("estimated kernel and one proximal step, no image network", lambda o: ClosedFormMethod(o.pipeline)),
    "closed-form-oracle": ("the same step with the true kernel and noise level", lambda _: ClosedFormOracle()),
    "fidelity": ("this package, one call: the posterior mean", lambda o: PipelineMethod("fidelity", o.pipeline)),
    "perceptual": (
        "this package, a sample of --steps calls",
        lambda o: PipelineMethod("perceptual", o.pipeline, o.steps),
    ),
    "oracle": ("as fidelity, given the true kernel", lambda o: PipelineMethod("oracle", o.pipeline, true_kernel=True)),
    "no-image-step": (
        "as fidelity, without the proximal step after the network",
        lambda o: PipelineMethod("no-image-step", o.pipeline, image_step="none"),
    ),
    "kernel-once": (
        "as fidelity, with the kernel estimated once, from y alone",
        lambda o: PipelineMethod("kernel-once", o.pipeline, kernel_step="first"),
    ),
    "external": ("a folder of results of another program", _external),
}
"""Name -> (what it is, how it is made)."""


def method(name: str, options: Options) -> Method:
    """The named method. Raises ParameterError for an unknown name."""
    if name not in METHODS:
        raise ParameterError(f"method '{name}': one of {', '.join(METHODS)} is accepted")
    return METHODS[name][1](options)
