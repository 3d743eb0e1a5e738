"""The protocols of `blinddiff evaluate`. A new one is a file beside this one and a line in `PROTOCOLS`."""

from blinddiff.errors import ParameterError
from blinddiff.evaluation.protocols.aniso9 import Aniso9
from blinddiff.evaluation.protocols.blinddiff_settings import Setting1, Setting2, Setting2Noise10
from blinddiff.evaluation.protocols.deblur import Deblur
from blinddiff.evaluation.protocols.div2krk import Div2krk
from blinddiff.evaluation.protocols.gaussian8 import Gaussian8
from blinddiff.evaluation.protocols.motion import Motion
from blinddiff.evaluation.protocols.protocol import Protocol
from blinddiff.evaluation.protocols.real import Real

PROTOCOLS: dict[str, type[Protocol]] = {
    protocol.name: protocol
    for protocol in (Gaussian8, Setting1, Setting2, Setting2Noise10, Aniso9, Div2krk, Motion, Deblur, Real)
}


def protocol(name: str, scale: int) -> Protocol:
    """The named protocol at a scale. Raises ParameterError for an unknown name or a scale it is not defined for."""
    if name not in PROTOCOLS:
        raise ParameterError(f"protocol '{name}': one of {', '.join(PROTOCOLS)} is accepted")
    return PROTOCOLS[name](scale)
