"""What is said of a restoration, in one line or for a sheet."""

from torch import Tensor

from blinddiff.degradation.kernels import is_round, widths_and_angle


def kernel_words(kernel: Tensor, noise_level: float, expected_error: float | None = None) -> str:
    """Kernel and noise level for a person: widths in pixels of the result, angle in degrees; a warning if unknowable.

    Args:
        kernel: (n, m).
        noise_level: in grey levels.
        expected_error: of the kernel, see `BlindDiffOutput`; None where it was given.
    """
    from blinddiff.sampling.output import UNKNOWABLE

    major, minor, angle = (float(value) for value in widths_and_angle(kernel))
    turned = "" if is_round(major, minor) else f" at {angle:.0f} degrees"
    words = f"kernel {major:.2f} x {minor:.2f} px{turned}, noise {noise_level:.1f} grey levels"
    if expected_error is not None and expected_error >= UNKNOWABLE:
        words += f"; the kernel cannot be known from this picture (expected error {expected_error:.1f} of 2)"
    return words
