"""The kernel step that keeps what it is given."""

from blinddiff.models.mcformer import Prediction
from blinddiff.sampling.kernel_steps.step import KernelState


def fixed(state: KernelState, prediction: Prediction) -> KernelState:  # noqa: ARG001
    """The kernel never changes: given by the user (non-blind mode), or estimated once (``first``)."""
    return state
