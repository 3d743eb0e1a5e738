"""What is said of a restoration, in one line or for a sheet."""

from torch import Tensor

from blinddiff.degradation.kernels import widths_and_angle


def kernel_words(kernel: Tensor, noise_level: float) -> str:
    """Kernel and noise level for a person: widths in pixels of the result, angle in degrees."""
    major, minor, angle = (float(value) for value in widths_and_angle(kernel))
    turned = f" at {angle:.0f} degrees" if major > 1.05 * minor else ""
    return f"kernel {major:.2f} x {minor:.2f} px{turned}, noise {noise_level:.1f} grey levels"
