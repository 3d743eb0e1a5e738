"""The degradation operator A of y = A x + n, A x = (x (*) k) down_s, with its adjoint and its proximal solve.

``(*)`` is true convolution (the kernel is flipped): (x (*) k)[i] = sum_q k[q] x[i - (q - c)], with the kernel's centre
at index c = size // 2. The solvers use the Fourier transform: with H the spectrum of the kernel and the downsampling
filter together, A is "multiply by H, keep every s-th sample", and A A^T is a convolution on the small grid.
"""

from typing import Literal

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from blinddiff.degradation.fourier import Spectrum, fft, irfft2, rfft, rfft2
from blinddiff.degradation.model import SCALES
from blinddiff.degradation.resize import (
    BICUBIC,
    Downsampling,
    correlate_decimate,
    correlate_decimate_adjoint,
    extend,
    extend_adjoint,
)
from blinddiff.errors import KernelError, ParameterError

BLOCK = 1024
"""Images of more than 4 * BLOCK^2 pixels are processed in blocks of this side, which bounds the spectra's memory."""


def _fast(length: int) -> int:
    """A length for the Fourier transform; in a graph, whose transforms are matrix products, every one is as good."""
    return length if torch.compiler.is_exporting() else int(next_fast_len(length, real=True))


def _on_grid(rho: Tensor, size: tuple[int, int]) -> Tensor:
    """Make rho broadcastable to `rfft2` of images of a size; (B, n, n) is interpolated in log from its n x n grid."""
    if rho.ndim < 3:
        return rho.reshape(-1, 1, 1, 1)
    n, log_rho = rho.shape[-1], rho.log()
    for axis, count, length in ((-2, size[0], size[0]), (-1, size[1] // 2 + 1, size[1])):
        position = torch.arange(count, device=rho.device).to(rho) * n / length
        low, weight = position.long(), position.frac().to(rho)
        below, above = (log_rho.index_select(axis, index % n) for index in (low, low + 1))
        log_rho = below.lerp(above, weight[:, None] if axis == -2 else weight)
    return log_rho.exp()[:, None]


class DegradationOperator:
    """A x = (x (*) k) down_s for a batch of images and their kernels.

    Args:
        kernel: (B, kh, kw), or (kh, kw) for one kernel shared by the batch; HR pixels; any size, entries summing to 1.
        scale: 1, 2, 3 or 4.
        downsampling: `Bicubic()` (antialiased, as MATLAB) or `Decimate(offset)`.
        boundary: ``"reflect"`` (used to degrade images): reflect padding for the blur, symmetric padding for the
            resampling; ``"circular"``: periodic, makes `proximal` exact, and is faster.

    Images are (B, C, H, W); the LR image is (B, C, H / s, W / s). Raises ParameterError for an invalid scale, offset or
    boundary and for image sides that are not a multiple of the scale, KernelError for a kernel of another shape.
    """

    def __init__(
        self,
        kernel: Tensor,
        scale: int,
        downsampling: Downsampling = BICUBIC,
        boundary: Literal["reflect", "circular"] = "reflect",
    ) -> None:
        if scale not in SCALES:
            raise ParameterError(f"scale {scale} is not one of {', '.join(map(str, SCALES))}")
        if boundary not in ("reflect", "circular"):
            raise ParameterError(f"boundary {boundary!r} is not 'reflect' or 'circular'")
        if kernel.ndim not in (2, 3):
            raise KernelError(f"a kernel of shape {tuple(kernel.shape)} is not ([batch,] height, width)")
        self.kernel = kernel if kernel.ndim == 3 else kernel[None]
        self.scale = scale
        self.downsampling = downsampling
        self.boundary = boundary
        self._taps, self._first = downsampling.taps(scale)
        self._last_transfer: tuple[object, Spectrum] | None = None
        kh, kw = self.kernel.shape[-2:]
        self._pad_rows, self._pad_columns = (kh - 1 - kh // 2, kh // 2), (kw - 1 - kw // 2, kw // 2)

    def blur(self, x: Tensor) -> Tensor:
        """x (*) k with reflect padding, the same size as ``x``: (B, C, H, W)."""
        z = extend(x, self._pad_rows, self._pad_columns, "reflect")
        size = _fast(z.shape[-2]), _fast(z.shape[-1])
        out = irfft2(self._spectrum(size, x) * rfft2(z, s=size), s=size)
        kh, kw = self.kernel.shape[-2:]
        return out[..., kh - 1 : kh - 1 + x.shape[-2], kw - 1 : kw - 1 + x.shape[-1]]

    def blur_adjoint(self, x: Tensor) -> Tensor:
        """The adjoint of `blur`: correlation with k, then the adjoint of the padding."""
        kh, kw = self.kernel.shape[-2:]
        size = _fast(x.shape[-2] + kh - 1), _fast(x.shape[-1] + kw - 1)
        z = x.new_zeros(*x.shape[:-2], *size)
        z[..., kh - 1 : kh - 1 + x.shape[-2], kw - 1 : kw - 1 + x.shape[-1]] = x
        out = irfft2(self._spectrum(size, x).conj() * rfft2(z), s=size)
        out = out[..., : x.shape[-2] + kh - 1, : x.shape[-1] + kw - 1]
        return extend_adjoint(out, self._pad_rows, self._pad_columns, "reflect")

    def forward(self, x: Tensor) -> Tensor:
        """A x: (B, C, H, W) -> (B, C, H / s, W / s)."""
        if x.shape[-1] % self.scale or x.shape[-2] % self.scale:
            raise ParameterError(f"image size {x.shape[-1]}x{x.shape[-2]} is not a multiple of the scale {self.scale}")
        if self.boundary == "circular":
            size = x.shape[-2], x.shape[-1]
            return self._subsample(self._transfer(size, x) * rfft2(x), size)
        if x.shape[-2] * x.shape[-1] > 4 * BLOCK**2:
            return self._forward_in_blocks(x)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        return correlate_decimate(self.blur(x), self._taps, self._first, self.scale, "symmetric")

    def _forward_in_blocks(self, x: Tensor) -> Tensor:
        """The same in overlapping blocks: A is local, with the extent of the kernel and the downsampling filter."""
        height, width = x.shape[-2] // self.scale, x.shape[-1] // self.scale
        side = BLOCK // self.scale
        reach = -(-(max(self.kernel.shape[-2:]) + len(self._taps)) // self.scale)
        y = x.new_empty(*x.shape[:-2], height, width)
        for top in range(0, height, side):
            for left in range(0, width, side):
                above, before = max(top - reach, 0), max(left - reach, 0)
                crop = x[..., above * self.scale : (top + side + reach) * self.scale, :]
                crop = crop[..., before * self.scale : (left + side + reach) * self.scale]
                block = self._forward(crop)[..., top - above :, left - before :][..., :side, :side]
                y[..., top : top + side, left : left + side] = block
        return y

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y: (B, C, h, w) -> (B, C, s*h, s*w)."""
        if self.boundary == "circular":
            size = y.shape[-2] * self.scale, y.shape[-1] * self.scale
            return irfft2(self._transfer(size, y).conj() * self._upsampled_spectrum(y), s=size)
        return self.blur_adjoint(correlate_decimate_adjoint(y, self._taps, self._first, self.scale, "symmetric"))

    __call__ = forward

    def proximal(self, y: Tensor, x_hat: Tensor, rho: Tensor | float) -> Tensor:
        """argmin_x ||y - A x||^2 + rho ||x - x_hat||^2 = x_hat + A^T (A A^T + rho)^-1 (y - A x_hat).

        Args:
            y: LR image, (B, C, h, w).
            x_hat: centre of the proximal term, (B, C, s*h, s*w).
            rho: noise variance divided by the expected error variance of x_hat; a scalar, (B,), or, for noise with a
                power spectrum, (B, n, n): at the frequencies of an n x n Fourier grid, interpolated.

        Returns:
            (B, C, s*h, s*w). Exact for the circular boundary. For ``reflect`` the residual y - A x_hat is exact;
            the inverse is applied to its symmetric extension, with a margin wider than the kernel.

        Source: N. Zhao et al., "Fast single image super-resolution using a new analytical solution for l2-l2 problems",
        IEEE TIP 2016, rewritten with the push-through identity.
        """
        s = self.scale
        residual = y - self.forward(x_hat)
        height, width = y.shape[-2:]
        if self.boundary == "circular":
            margin, size = 0, (height, width)
        else:
            margin = -(-max(self.kernel.shape[-2:]) // s) + 8
            size = _fast(height + 2 * margin), _fast(width + 2 * margin)
            rows, columns = (margin, size[0] - height - margin), (margin, size[1] - width - margin)
            residual = extend(residual, rows, columns, "symmetric")
        full = size[0] * s, size[1] * s
        transfer = self._transfer(full, y)  # H
        # A A^T: the autocorrelation of the filter, subsampled by s.
        gram = rfft2(self._subsample(transfer.abs() ** 2, full)).real
        dual = irfft2(
            rfft2(residual) / (gram + _on_grid(torch.as_tensor(rho, dtype=y.dtype, device=y.device), size)), s=size
        )
        step = irfft2(transfer.conj() * self._upsampled_spectrum(dual), s=full)
        top = margin * s
        return x_hat + step[..., top : top + height * s, top : top + width * s]

    def _subsample(self, spectrum: Spectrum, size: tuple[int, int]) -> Tensor:
        """Every s-th sample of the image with this spectrum: rows by aliasing the spectrum, columns in space."""
        s, (height, width) = self.scale, size
        aliased = spectrum.unflatten(-2, (s, height // s)).mean(-3)
        return irfft2(aliased, s=(height // s, width))[..., ::s]

    def _upsampled_spectrum(self, y: Tensor) -> Spectrum:
        """Spectrum of the zero-filled upsampling of y: the adjoint of `_subsample`."""
        columns = y.new_zeros(*y.shape[:-1], y.shape[-1] * self.scale)
        columns[..., :: self.scale] = y
        spectrum = rfft2(columns)
        return spectrum.repeat(*(1,) * (spectrum.ndim - 2), self.scale, 1)

    def _spectrum(self, size: tuple[int, int], like: Tensor) -> Spectrum:
        """Spectrum of the kernel with its first entry at the origin: (B, 1, size[0], size[1] // 2 + 1)."""
        return rfft2(self.kernel.to(like), s=size)[:, None]

    def _transfer(self, size: tuple[int, int], like: Tensor) -> Spectrum:
        """Spectrum H of the kernel, its centre at the origin, times the downsampling filter, on a periodic grid.

        The last result is cached, because the closed-form image and the image step use the same one.
        """
        key = size, like.dtype, like.device
        if self._last_transfer is not None and self._last_transfer[0] == key:
            return self._last_transfer[1]
        kernel = self.kernel.to(like)
        (kh, kw), (height, width) = kernel.shape[-2:], size
        # Kernels larger than the grid wrap around, as on a periodic grid.
        rows = (torch.arange(kh, device=like.device) - kh // 2) % height
        columns = (torch.arange(kw, device=like.device) - kw // 2) % width
        wrapped = like.new_zeros(kernel.shape[0], height * width)
        wrapped.index_add_(1, (rows[:, None] * width + columns).flatten(), kernel.flatten(1))
        positions = -(self._first + torch.arange(len(self._taps), device=like.device))
        down, across = (like.new_zeros(n).index_add_(0, positions % n, self._taps.to(like)) for n in size)
        transfer = rfft2(wrapped.view(-1, 1, height, width)) * fft(down)[:, None] * rfft(across)
        if not transfer.requires_grad:  # an autograd graph must not outlive its step
            self._last_transfer = key, transfer
        return transfer
