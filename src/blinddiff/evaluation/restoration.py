"""What a method gives back for a case."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Restoration:
    """A restored image and what the method says about the degradation.

    Attributes:
        image: (3, s*h, s*w), float; values outside [0, 1] are clipped before measuring.
        kernel: *estimated* blur kernel (kh, kw) in HR pixels, or None: a kernel given to the method is not one.
        noise_level: *estimated* standard deviation of the noise in grey levels, or None.
        seconds: wall-clock time of the restoration alone.
        calls: calls of the network, 0 if there is none.
        expected_kernel_error: what the method expects sum |k_hat - k| to be, 0 to 2, or None.
    """

    image: Tensor
    kernel: Tensor | None
    noise_level: float | None
    seconds: float
    calls: int
    expected_kernel_error: float | None = None
