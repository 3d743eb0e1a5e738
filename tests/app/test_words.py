"""What is said of a kernel."""

from blinddiff.app.figures import error_words
from blinddiff.cli.options import kernel_words
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.sampling.output import UNKNOWABLE


def test_a_kernel_that_cannot_be_known_is_said_to_be() -> None:
    kernel, words = isotropic_gaussian(2.0, 31), "the kernel cannot be known from this picture"
    assert words in kernel_words(kernel, 1.0, UNKNOWABLE)
    assert words not in kernel_words(kernel, 1.0, UNKNOWABLE - 0.01)
    assert kernel_words(kernel, 1.0) == kernel_words(kernel, 1.0, 0.1) == "kernel 2.00 x 2.00 px, noise 1.0 grey levels"
    assert "cannot be known" in error_words(UNKNOWABLE)
    assert error_words(0.123) == "0.12 of 2 (expected)"
