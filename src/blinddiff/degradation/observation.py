"""y = (x (*) k) down_s + n: `Observation` holds what is known, `Degradation` what is estimated or given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from blinddiff.degradation.operator import DegradationOperator
from blinddiff.degradation.resize import BICUBIC, Downsampling, bicubic_upsample

T = TypeVar("T")
N_TRANSFORMS = 8
"""Elements of the dihedral group of the square."""
HALF_TURN = 2
"""Index of the rotation by 180 degrees, which leaves a power spectrum unchanged."""
START_ERROR = 0.03
"""Assumed RMS error of the centre of a proximal step (the bicubic image, or x0_hat from pure noise), for images in
[0, 1], at the frequencies that y determines. Tuned, see `proximal_weight`."""
MODEL_ERROR = 0.15
"""RMS error of the degradation model in grey levels, added in quadrature to the noise; tuned with START_ERROR."""


def dihedral(image: Tensor, transform: int) -> Tensor:
    """(..., H, W) rotated counter-clockwise by ``transform`` % 4 quarter turns; 4 to 7 flip it left to right first."""
    flipped = image.flip(-1) if transform >= N_TRANSFORMS // 2 else image
    return flipped.rot90(transform % 4, (-2, -1))


def dihedral_inverse(image: Tensor, transform: int) -> Tensor:
    """The inverse of `dihedral`."""
    rotated = image.rot90(-transform % 4, (-2, -1))
    return rotated.flip(-1) if transform >= N_TRANSFORMS // 2 else rotated


@dataclass(frozen=True, eq=False)
class Observation:
    """The LR image and the scale.

    Attributes:
        y: LR image, (B, 3, h, w), in [0, 1].
        scale: 1, 2, 3 or 4.
        jpeg_step: mean step of the luma quantisation table of the JPEG file that y was read from, (B,); 0 if y comes
            from no such file or was resized since. None means 0 for every image.
        mask: True where y is believed, (B, 1, h, w); elsewhere y is a guess, see `filled`. None: believed everywhere.
    """

    y: Tensor
    scale: int
    jpeg_step: Tensor | None = None
    mask: Tensor | None = None
    _derived: dict[Callable[[Any], Any], Any] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.y)

    @property
    def believed(self) -> Tensor | float:
        """The share of the pixels that are believed, (B,); 1 without a mask."""
        return 1.0 if self.mask is None else self.mask.float().mean((1, 2, 3))

    @property
    def scales(self) -> Tensor:
        """The scale of each image, (B,)."""
        return torch.full((len(self.y),), self.scale, device=self.y.device)

    def derived(self, compute: Callable[["Observation"], T]) -> T:
        """``compute(self)``, computed once and kept: what several parts of a network need of the same y.

        It must not depend on the scale, see `at_scale`.
        """
        if compute not in self._derived:
            self._derived[compute] = compute(self)
        result: T = self._derived[compute]
        return result

    def at_scale(self, scale: int) -> "Observation":
        """The same images for another scale, with what was derived from them, which must not depend on the scale."""
        other = Observation(self.y, scale, self.jpeg_step, self.mask)
        other._derived.update(self._derived)
        return other

    def map(
        self, of_image: Callable[[Tensor], Tensor], of_number: Callable[[Tensor], Tensor] = lambda numbers: numbers
    ) -> "Observation":
        """Apply a function to y and mask, and one to the numbers (B,)."""
        step, mask = self.jpeg_step, self.mask
        return Observation(
            of_image(self.y),
            self.scale,
            None if step is None else of_number(step),
            None if mask is None else of_image(mask),
        )

    def __getitem__(self, images: slice | Sequence[int]) -> "Observation":
        """The observation of some images."""
        return self.map(*2 * [lambda part: part[images]])

    def repeat(self, times: int) -> "Observation":
        """Each image repeated ``times`` times, copies consecutive."""
        return self.map(*2 * [lambda part: part.repeat_interleave(times, 0)])

    def filled(self, degradation: "Degradation", x: Tensor) -> "Observation":
        """The observation with A x, x (B, 3, H, W), for y where that is not believed; itself without a mask.

        So the data term leaves these pixels out. x <- argmin ||y - A x||^2 + rho ||x - x_hat||^2, repeated with y
        filled by the last x, converges to the solution with the believed pixels only (an EM algorithm).
        """
        if self.mask is None:
            return self
        return replace(self, y=self.y.where(self.mask, degradation.operator(self.scale)(x)))

    @property
    def hr_size(self) -> tuple[int, int]:
        """Height and width of the HR image."""
        return self.y.shape[-2] * self.scale, self.y.shape[-1] * self.scale


@dataclass(frozen=True, eq=False)
class Degradation:
    """Kernel and noise, estimated or given; caches the operator and the closed-form image for them.

    Attributes:
        kernel: (B, n, m), HR pixels, each of sum 1. Entries may be negative: the image was sharpened.
        noise_level: standard deviation of the noise, (B,), grey levels.
        expected_kernel_error: expected sum |k_hat - k| of the estimate from y, (B,), 0 to 2; None for a given kernel.
        noise_spectrum: power spectrum of the noise relative to white noise of the same level, (B, 16, 16), mean 1, at
            the frequencies of `torch.fft.fftfreq` in cycles per LR pixel; None for white noise.
    """

    kernel: Tensor
    noise_level: Tensor
    expected_kernel_error: Tensor | None = None
    noise_spectrum: Tensor | None = None
    _operators: dict[int, DegradationOperator] = field(default_factory=dict, init=False, repr=False)
    _closed_forms: list[tuple[Observation, Tensor]] = field(default_factory=list, init=False, repr=False)

    def operator(self, scale: int) -> DegradationOperator:
        """A at a scale, with MATLAB's bicubic downsampling; cached."""
        if scale not in self._operators:
            self._operators[scale] = DegradationOperator(self.kernel, scale)
        return self._operators[scale]

    def closed_form(self, observation: Observation) -> Tensor:
        """x_y = argmin_x ||y - A(x, k)||^2 + rho ||x - bicubic(y)||^2, (B, 3, s*h, s*w).

        rho = `proximal_weight(noise_power())`. Not clipped; cached for the last observation.
        """
        if not self._closed_forms or self._closed_forms[0][0] is not observation:
            x_y = _from_bicubic(self.operator(observation.scale), observation.y, self.noise_power())
            self._closed_forms[:] = [(observation, x_y)]
        return self._closed_forms[0][1]

    def noise_power(self) -> Tensor:
        """S_n in squared grey levels: (B,) for white noise, (B, 16, 16) for noise with a spectrum."""
        power = self.noise_level.square()
        return power if self.noise_spectrum is None else power[:, None, None] * self.noise_spectrum

    def with_closed_form(self, observation: Observation, x_y: Tensor) -> "Degradation":
        """A copy with x_y for the observation already cached: for a crop of y, x_y is cropped from the full one."""
        copy = replace(self)
        copy._closed_forms[:] = [(observation, x_y)]
        return copy

    def with_estimate(self, kernel: Tensor, noise_level: Tensor) -> "Degradation":
        """A copy with another kernel and noise level for the same image."""
        return Degradation(kernel, noise_level, self.expected_kernel_error, self.noise_spectrum)

    @property
    def estimates(self) -> list[Tensor]:
        """Kernel, noise level and, if there is one, noise spectrum: what is averaged over tiles."""
        return [self.kernel, self.noise_level, *([] if self.noise_spectrum is None else [self.noise_spectrum])]

    @staticmethod
    def from_estimates(estimates: Sequence[Tensor], before: "Degradation | None") -> "Degradation":
        """The degradation with these `estimates`, with the expected kernel error of the one before them."""
        kernel, noise_level, *spectrum = estimates
        return Degradation(kernel, noise_level, None if before is None else before.expected_kernel_error, *spectrum)

    @staticmethod
    def joined(parts: Sequence["Degradation"]) -> "Degradation":
        """One degradation of several, in order; all have the same fields."""
        each = [getattr(parts[0], name) for name in ("expected_kernel_error", "noise_spectrum")]

        def join(name: str) -> Tensor:
            return torch.cat([getattr(part, name) for part in parts])

        return Degradation(
            join("kernel"),
            join("noise_level"),
            None if each[0] is None else join("expected_kernel_error"),
            None if each[1] is None else join("noise_spectrum"),
        )

    def detach(self) -> "Degradation":
        """All tensors detached from the autograd graph."""
        if not (self.kernel.requires_grad or self.noise_level.requires_grad):
            return self
        return self.map(Tensor.detach)

    def repeat(self, times: int) -> "Degradation":
        """The degradation of each image repeated ``times`` times, the copies consecutive."""
        return self.map(lambda part: part.repeat_interleave(times, 0))

    def map(self, change: Callable[[Tensor], Tensor]) -> "Degradation":
        """Apply a function to kernel, noise level, kernel error and noise spectrum."""
        optional = (self.expected_kernel_error, self.noise_spectrum)
        return Degradation(
            change(self.kernel),
            change(self.noise_level),
            *(None if part is None else change(part) for part in optional),
        )

    def __getitem__(self, images: slice | Sequence[int]) -> "Degradation":
        return self.map(lambda part: part[images])


def proximal_weight(noise_power: Tensor, prior_error: Tensor | float = START_ERROR) -> Tensor:
    """rho of the proximal step: (S_n + model error^2) / prior_error^2.

    noise_power: S_n in squared grey levels, of any shape; for white noise sigma^2. prior_error: RMS error of the centre
    of the proximal term, in [0, 1]. With the constants above, rho = 4e-4 + (sigma / 255)^2 / 0.03^2, tuned for noise
    levels from 0 to 15.
    """
    return (noise_power + MODEL_ERROR**2) / 255**2 / torch.as_tensor(prior_error) ** 2


def closed_form(
    y: Tensor, kernel: Tensor, noise_level: Tensor, scale: int, downsampling: Downsampling = BICUBIC
) -> Tensor:
    """`Degradation.closed_form` for plain tensors and any downsampling: (B, 3, h, w) -> (B, 3, s*h, s*w)."""
    return _from_bicubic(DegradationOperator(kernel, scale, downsampling), y, noise_level.square())


def _from_bicubic(operator: DegradationOperator, y: Tensor, noise_power: Tensor) -> Tensor:
    """One proximal step from the bicubic image."""
    return operator.proximal(y, bicubic_upsample(y, operator.scale), proximal_weight(noise_power))
