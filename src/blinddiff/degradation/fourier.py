"""The Fourier transforms of the method: those of torch, or matrix products while a graph is exported.

Graphs for other runtimes have no complex numbers, and ONNX Runtime's own transform is slow for lengths that are not a
power of two. In a graph, a spectrum is therefore a `Pair` of real tensors, and a transform a product with two matrices.
"""

import math
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

Spectrum: TypeAlias = Any
"""A complex tensor, or a `Pair`."""


class Pair:
    """A complex tensor as its real and imaginary parts, with the operations that this package uses."""

    def __init__(self, real: Tensor, imag: Tensor) -> None:
        self.real, self.imag = real, imag

    requires_grad = False

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.real.ndim

    @property
    def shape(self) -> torch.Size:
        """Length of each axis."""
        return self.real.shape

    def conj(self) -> "Pair":
        """The complex conjugate."""
        return Pair(self.real, -self.imag)

    def abs(self) -> Tensor:
        """The modulus."""
        return (self.real.square() + self.imag.square()).sqrt()

    def __mul__(self, other: "Pair | Tensor | float") -> "Pair":
        if isinstance(other, Pair):
            real = self.real * other.real - self.imag * other.imag
            return Pair(real, self.real * other.imag + self.imag * other.real)
        return Pair(self.real * other, self.imag * other)

    def __truediv__(self, other: Tensor) -> "Pair":
        return Pair(self.real / other, self.imag / other)

    def __getitem__(self, index: Any) -> "Pair":
        return Pair(self.real[index], self.imag[index])

    def _each(self, name: str, *args: Any) -> "Pair":
        return Pair(*(getattr(part, name)(*args) for part in (self.real, self.imag)))

    def sum(self, axis: int) -> "Pair":
        """As `Tensor.sum`."""
        return self._each("sum", axis)

    def mean(self, axis: int) -> "Pair":
        """As `Tensor.mean`."""
        return self._each("mean", axis)

    def unflatten(self, axis: int, sizes: tuple[int, ...]) -> "Pair":
        """As `Tensor.unflatten`."""
        return self._each("unflatten", axis, sizes)

    def roll(self, shifts: tuple[int, ...], axes: tuple[int, ...]) -> "Pair":
        """As `Tensor.roll`."""
        return self._each("roll", shifts, axes)

    def repeat(self, *times: int) -> "Pair":
        """As `Tensor.repeat`."""
        return self._each("repeat", *times)


def fft(x: Tensor) -> Spectrum:
    """As `torch.fft.fft`, of a real tensor (n,)."""
    return _of_rows(Pair(x[None], torch.zeros_like(x[None])), x.shape[0], -1)[0] if _exporting() else torch.fft.fft(x)


def rfft(x: Tensor) -> Spectrum:
    """As `torch.fft.rfft`, of a real tensor (..., n)."""
    return _real_of_rows(x, x.shape[-1]) if _exporting() else torch.fft.rfft(x)


def rfft_at(x: Tensor, n: int) -> Spectrum:
    """The Fourier transform of real rows (..., w) of any length at the frequencies k / n, k = 0 to n // 2."""
    if _exporting():
        return _real_of_rows(x, n)
    return torch.fft.rfft(F.pad(x, (0, -x.shape[-1] % n)).unflatten(-1, (-1, n)).sum(-2))


def rfft2(x: Tensor, s: tuple[int, int] | None = None) -> Spectrum:
    """As `torch.fft.rfft2`, of a real tensor (..., h, w), zero-padded to the size s."""
    if not _exporting():
        return torch.fft.rfft2(x, s=s)
    height, width = s or (x.shape[-2], x.shape[-1])
    return _of_columns(_real_of_rows(x, width), height, -1)


def irfft2(x: Spectrum, s: tuple[int, int]) -> Tensor:
    """As `torch.fft.irfft2`, of the spectrum of an image of size s; it may also be real."""
    if not _exporting():
        return torch.fft.irfft2(x, s=s)
    height, width = s
    columns = _of_columns(_pair(x), height, 1)
    k = torch.arange(columns.shape[-1])
    twice = torch.where((k == 0) | (2 * k == width), 1.0, 2.0)  # for the half that is not stored
    wave = _waves(columns.shape[-1], width, 1, width)
    return ((columns.real * twice) @ wave.real - (columns.imag * twice) @ wave.imag) / (height * width)


def fft2(x: Spectrum) -> Spectrum:
    """As `torch.fft.fft2`."""
    if not _exporting():
        return torch.fft.fft2(x)
    pair = _pair(x)
    return _of_columns(_of_rows(pair, pair.shape[-1], -1), pair.shape[-2], -1)


def ifft2(x: Spectrum) -> Spectrum:
    """As `torch.fft.ifft2`."""
    if not _exporting():
        return torch.fft.ifft2(x)
    height, width = x.shape[-2:]
    return _of_columns(_of_rows(_pair(x), width, 1), height, 1) * (1 / (height * width))


def pad(x: Spectrum, padding: tuple[int, ...]) -> Spectrum:
    """As `torch.nn.functional.pad` with zeros."""
    return Pair(F.pad(x.real, padding), F.pad(x.imag, padding)) if isinstance(x, Pair) else F.pad(x, padding)


def _exporting() -> bool:
    return torch.compiler.is_exporting()


def _pair(x: Tensor | Pair) -> Pair:
    return x if isinstance(x, Pair) else Pair(x, torch.zeros_like(x))


def _waves(rows: int, columns: int, sign: int, period: int) -> Pair:
    """exp(sign 2 pi i j k / period) for j below rows and k below columns."""
    # Reduced as integers, and in double precision, because the errors of all products add up.
    turns = (torch.arange(rows)[:, None] * torch.arange(columns)) % period
    phase = turns.double() * (2 * math.pi) / period
    # ONNX Runtime has no cosine in double precision.
    return Pair((phase + math.pi / 2).sin().float(), sign * phase.sin().float())


def _real_of_rows(x: Tensor, n: int) -> Pair:
    """The non-negative frequencies of real rows (..., w), zero-padded to n."""
    wave = _waves(x.shape[-1], n // 2 + 1, -1, n)
    return Pair(x @ wave.real, x @ wave.imag)


def _of_rows(x: Pair, n: int, sign: int) -> Pair:
    wave = _waves(x.shape[-1], n, sign, n)
    return Pair(x.real @ wave.real - x.imag @ wave.imag, x.real @ wave.imag + x.imag @ wave.real)


def _of_columns(x: Pair, n: int, sign: int) -> Pair:
    wave = _waves(n, x.shape[-2], sign, n)
    return Pair(wave.real @ x.real - wave.imag @ x.imag, wave.real @ x.imag + wave.imag @ x.real)
