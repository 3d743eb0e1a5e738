"""The transforms of exported graphs, which are matrix products, against those of NumPy and of the other code."""

import numpy as np
import pytest
import torch

from blinddiff.degradation import DegradationOperator, bicubic_upsample, fourier
from blinddiff.degradation.kernel_fit import kernel_error_map
from blinddiff.degradation.kernels import anisotropic_gaussian
from blinddiff.models.statistics import spectral_statistics


@pytest.fixture
def exporting(monkeypatch):
    """A function that runs another as while a graph is exported."""

    def run(function):
        with monkeypatch.context() as patch:
            patch.setattr(torch.compiler, "is_exporting", lambda: True)
            return function()

    return run


def as_complex(pair):
    assert isinstance(pair, fourier.Pair)  # else the transform was not that of a graph
    return torch.complex(pair.real, pair.imag).numpy()


@pytest.mark.parametrize("size", [(5, 8), (7, 9), (16, 16), (1, 4)])
def test_products_with_matrices_are_numpys_transforms(exporting, size):
    image = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    padded = size[0] + 3, size[1] + 2
    ours = exporting(lambda: as_complex(fourier.rfft2(image, s=padded)))
    assert np.allclose(ours, np.fft.rfft2(image.numpy(), s=padded), atol=1e-5)
    assert np.allclose(exporting(lambda: as_complex(fourier.fft2(image))), np.fft.fft2(image.numpy()), atol=1e-5)
    assert np.allclose(exporting(lambda: as_complex(fourier.rfft(image))), np.fft.rfft(image.numpy()), atol=1e-5)
    line = image[0, 0]
    assert np.allclose(exporting(lambda: as_complex(fourier.fft(line))), np.fft.fft(line.numpy()), atol=1e-5)
    back = exporting(lambda: fourier.irfft2(fourier.rfft2(image), s=size))
    assert torch.allclose(back, image, atol=1e-5)
    both = exporting(lambda: as_complex(fourier.ifft2(fourier.fft2(image))))
    assert np.allclose(both, image.numpy(), atol=1e-5)


def test_a_real_spectrum_can_be_transformed_back(exporting):
    power = torch.rand(6, 5, generator=torch.Generator().manual_seed(0))
    ours = exporting(lambda: fourier.irfft2(power, s=(6, 8)))
    assert np.allclose(ours.numpy(), np.fft.irfft2(power.numpy(), s=(6, 8)), atol=1e-6)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_the_method_is_the_same_in_a_graph(exporting, scale):
    generator = torch.Generator().manual_seed(scale)
    y = bicubic_upsample(torch.rand(1, 3, 7, 9, generator=generator), 4)[..., :26, :35]
    y = y + 0.01 * torch.randn(y.shape, generator=generator)
    x = bicubic_upsample(y, scale)
    kernel = anisotropic_gaussian(2.0, 1.2, 0.4, 31)[None]
    rho = 1e-3 * (1 + torch.rand(1, 16, 16, generator=generator))
    outs = []
    for run in (exporting, lambda function: function()):
        operator = DegradationOperator(kernel, scale)
        outs.append(
            [
                run(lambda: operator(x)),  # noqa: B023 - called at once
                run(lambda: DegradationOperator(kernel, scale).proximal(y, x, rho)),
                run(lambda: kernel_error_map(y, x, kernel, scale, 31)),
                run(lambda: spectral_statistics(y)),
            ]
        )
    for in_graph, usual, tolerance in zip(*outs, (1e-5, 1e-3, 1e-3, 1e-2), strict=True):
        assert float((in_graph - usual).abs().max()) < tolerance
