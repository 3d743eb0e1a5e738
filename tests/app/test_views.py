"""Texts say what was measured."""

from blinddiff.app.views import kernel_error_text
from blinddiff.cli.photographs import describe_kernel
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.sampling.decision import UNRELIABLE_KERNEL_ERROR


def test_an_undetermined_kernel_is_reported_as_such():
    kernel, words = isotropic_gaussian(2.0, 31), "the kernel cannot be determined from this image"
    assert words in describe_kernel(kernel, 1.0, UNRELIABLE_KERNEL_ERROR)
    assert words not in describe_kernel(kernel, 1.0, UNRELIABLE_KERNEL_ERROR - 0.01)
    assert (
        describe_kernel(kernel, 1.0)
        == describe_kernel(kernel, 1.0, 0.1)
        == "kernel 2.00 x 2.00 px, noise 1.0 grey levels"
    )
    assert "cannot be determined" in kernel_error_text(UNRELIABLE_KERNEL_ERROR)
    assert kernel_error_text(0.123) == "0.12 of 2 (expected)"
