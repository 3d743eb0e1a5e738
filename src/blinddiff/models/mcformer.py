"""MCFormer: one network that is prior for both the image and its kernel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

from blinddiff.degradation.kernel_fit import kernel_residual
from blinddiff.degradation.kernel_measures import fit_size
from blinddiff.degradation.operator import closed_form
from blinddiff.degradation.resize import bicubic_upsample, extend
from blinddiff.errors import ParameterError
from blinddiff.models.dihedral import HALF_A_TURN, SEEN_BY_SPECTRA, turned, turned_back
from blinddiff.models.kernel_estimator import ConvolutionalEstimator, Estimate, Evidence, SpectralEstimator
from blinddiff.models.schedule import alpha_bar
from blinddiff.models.statistics import spectral_statistics
from blinddiff.models.unet import ModulatedUNet, sinusoidal_embedding


@dataclass
class Prediction:
    """What MCFormer says at one step.

    Attributes:
        x0_hat: clean-image estimate, (B, 3, H, W), in [0, 1] up to overshoot.
        kernel: kernel estimate k_hat_t, (B, size, size), on the simplex: what y tells, corrected by what x0_hat
            shows under the kernel that it was made with.
        noise_level: sigma, (B,), grey levels; None from the published network, which knows no noise.
        noise, variance: the raw outputs of the published network, (B, 3, H, W); None from the default one.
    """

    x0_hat: Tensor
    kernel: Tensor
    noise_level: Tensor | None
    noise: Tensor | None = None
    variance: Tensor | None = None


class MCFormer(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers' own clash over config_name
    """Modulated conditional transformer (BlindDiff, arXiv 2403.10211, section 3.3).

    Two ways of predicting, by ``prediction``:

    - ``"residual"`` (the default): sees x_t, the closed-form image x_y of (y, k, sigma) and y, on a pixel-unshuffled
      grid, and predicts what x_y lacks, scaled so that input and target have unit variance at every t (as Karras et
      al. 2022, with the residual for the data). Its kernel estimator reads spectral statistics of y.
    - ``"noise"`` (the published network): sees x_t and y enlarged, predicts the noise and a variance, and estimates the
      kernel by convolution and pooling.

    Args:
        dim: channels at the top level.
        num_blocks: modulated blocks at each level, top first.
        num_refinement_blocks: blocks after the decoder.
        heads: attention heads at each level.
        expansion: of the gated feed-forward networks.
        embedding_dim: length of the embedding of time, kernel, noise level and scale.
        patch_size: side of the pixel blocks folded into channels before the first convolution.
        kernel_size: side of the kernel's support, odd.
        estimator_hidden: width of the spectral estimator.
        scales: scales the weights are made for.
        prediction: ``"residual"`` or ``"noise"``.
        noise_schedule: name of the schedule x_t follows, see `noise_schedule`.
        image_mean, image_std: x_t is about (image - mean) / std.
        residual_std: RMS of the image minus x_y, in units of x_t.
        kernel_modulation: False removes the kernel from the modulation (an ablation).
    """

    config: Any  # the arguments below, by name

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        dim: int = 48,
        num_blocks: Sequence[int] = (2, 3, 3),
        num_refinement_blocks: int = 0,
        heads: Sequence[int] = (2, 4, 8),
        expansion: float = 2.0,
        embedding_dim: int = 128,
        patch_size: int = 4,
        kernel_size: int = 31,
        estimator_hidden: int = 512,
        scales: Sequence[int] = (1, 2, 3, 4),
        prediction: Literal["residual", "noise"] = "residual",
        noise_schedule: str = "log_sigma",
        image_mean: float = 0.5,
        image_std: float = 0.5,
        residual_std: float = 0.1,
        kernel_modulation: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if prediction not in ("residual", "noise"):
            raise ParameterError(f"prediction {prediction!r} is not 'residual' or 'noise'")
        above_0 = {
            "embedding_dim": embedding_dim,
            "expansion": expansion,
            "patch_size": patch_size,
            "estimator_hidden": estimator_hidden,
            "image_std": image_std,
            "residual_std": residual_std,
            "levels of blocks": len(num_blocks),
        }
        for name, number in above_0.items():
            if not number > 0:
                raise ParameterError(f"{name}: {number} is not above 0")
        if len(heads) != len(num_blocks):
            raise ParameterError(f"{len(heads)} numbers of heads for {len(num_blocks)} levels of blocks")
        if dim < 2 or dim % 2:
            raise ParameterError(f"dim {dim} is not an even number of channels")
        for level, count in enumerate(heads):
            if count < 1 or dim * 2**level % count:
                raise ParameterError(f"{count} heads do not divide the {dim * 2**level} channels of level {level + 1}")
        inputs, outputs = (9, 3) if prediction == "residual" else (6, 6)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ParameterError(f"kernel_size {kernel_size} is not odd: a kernel's centre is a pixel")
        cells = patch_size**2
        self.unet = ModulatedUNet(
            inputs * cells, outputs * cells, dim, num_blocks, num_refinement_blocks, heads, expansion, embedding_dim
        )
        self.time_mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.Mish(), nn.Linear(4 * dim, embedding_dim))
        self.kernel_mlp = nn.Sequential(
            nn.Linear(kernel_size**2, embedding_dim), nn.Mish(), nn.Linear(embedding_dim, embedding_dim)
        )
        self.estimator: SpectralEstimator | ConvolutionalEstimator
        if prediction == "residual":
            self.noise_mlp = nn.Sequential(
                nn.Linear(1, embedding_dim), nn.Mish(), nn.Linear(embedding_dim, embedding_dim)
            )
            self.scale_embedding = nn.Embedding(len(scales), embedding_dim)
            self.estimator = SpectralEstimator(kernel_size, estimator_hidden, tuple(scales))
        else:
            self.estimator = ConvolutionalEstimator(dim, kernel_size)
        self.register_buffer("alpha_bar", alpha_bar(noise_schedule).float(), persistent=False)
        self.alpha_bar: Tensor

    @property
    def size_multiple(self) -> int:
        """HR sides are mirrored up to a multiple of this inside the network."""
        return int(self.config.patch_size * 2 ** (len(self.config.num_blocks) - 1))

    def to_diffusion(self, image: Tensor) -> Tensor:
        """Image in [0, 1] -> the range in which x_t is noised."""
        return (image - self.config.image_mean).div_(self.config.image_std)

    def to_image(self, x: Tensor) -> Tensor:
        """The inverse of `to_diffusion`."""
        return (x * self.config.image_std).add_(self.config.image_mean)

    def first_image(self, y: Tensor, known: Estimate | None, scale: int) -> Tensor | None:
        """x_y, the closed-form image for what is known of kernel and noise level; None for the published network."""
        if self.config.prediction == "noise" or known is None:
            return None
        return closed_form(y, known.kernel, known.noise_level, scale)

    def add_noise(self, x_y: Tensor | None, timestep: Tensor, noise: Tensor) -> Tensor:
        """x_t for the start: noise around the closed-form image, or noise alone."""
        if x_y is None:
            return noise
        a = self.alpha_bar[timestep]
        return a.sqrt() * self.to_diffusion(x_y) + (1 - a).sqrt() * noise

    def remaining_error(self, timestep: Tensor) -> float:
        """How much of the error at pure noise is left to x0_hat at a timestep: near 1 at the last, 0 at the first.

        sigma_t / sqrt(sigma_t^2 + tau^2), for a residual of RMS tau seen under noise sigma_t.
        """
        a = float(self.alpha_bar[timestep])
        sigma2 = (1 - a) / a
        return float((sigma2 / (sigma2 + self.config.residual_std**2)) ** 0.5)

    def estimate(self, y: Tensor, scale: int) -> Estimate:
        """Kernel and noise level from y alone: the mean of what is said of its eight views.

        The estimator is not quite equivariant to turns, so that it errs in part apart in each. It is asked of four:
        half a turn leaves a spectrum as it is, and so says nothing of the kernel.

        Args:
            y: LR image, (B, 3, h, w), in [0, 1].
            scale: one of the network's scales.

        Raises:
            ParameterError: the scale is not one of the network's, or the network has no estimator from y alone.
        """
        estimator = self._estimator_from_y(scale)
        said = [estimator.first(estimator.features(turned(y, view), scale)) for view in SEEN_BY_SPECTRA]
        kernels = [turned_back(each.kernel, view) for each, view in zip(said, SEEN_BY_SPECTRA, strict=True)]
        kernel, noise_level = torch.stack(kernels).mean(0), torch.stack([each.noise_level for each in said]).mean(0)
        return Estimate((kernel + turned(kernel, HALF_A_TURN)) / 2, noise_level)

    def expected_kernel_error(self, y: Tensor, scale: int) -> Tensor:
        """How far off `estimate`'s kernel will be: the mean of sum |k_hat - k| over images like these, (B,), 0 to 2.

        Near 1, y does not tell its kernel: a flat sky, a few pixels. It was learned from the estimate of one view,
        whose error is some percent above that of all views together: a bound on the safe side.

        Args, raises: as `estimate`.
        """
        estimator = self._estimator_from_y(scale)
        told = estimator.features(y, scale)
        return estimator.expected_error_of(told, torch.full_like(told[:, :1], y.shape[-2] * y.shape[-1]))

    def forward(
        self,
        x_t: Tensor,
        timestep: Tensor,
        y: Tensor,
        scale: int,
        kernel: Tensor | None = None,
        noise_level: Tensor | None = None,
        x_y: Tensor | None = None,
        *,
        view: int = 0,
        correct_kernel: bool = True,
    ) -> Prediction:
        """One prior step: the clean image and the kernel, from the noisy image.

        Args:
            x_t: noisy HR image, (B, 3, s*h, s*w), in the range of `to_diffusion`.
            timestep: (B,), 0 to 999.
            y: LR image, (B, 3, h, w), in [0, 1].
            scale: one of the network's scales.
            kernel: (B, n, m) to modulate by; the network's own estimate from y where None.
            noise_level: (B,), grey levels; the network's own where None.
            x_y: closed-form image for (y, kernel, noise_level), (B, 3, s*h, s*w), in [0, 1]; made where None.
            view: how the image network sees all that is given, one of the eight `views`; results are turned back. The
                mean over views is nearer to the truth than any.
            correct_kernel: False returns kernel and noise level as they were given, and saves the time to correct them.
                (The published network estimates them in any case.)
        """
        self._check_scale(scale)
        if self.config.prediction == "noise":
            return self._predict_noise(x_t, timestep, y, scale, kernel, view)
        assert isinstance(self.estimator, SpectralEstimator)
        if kernel is None or noise_level is None:
            first = self.estimate(y, scale)
            kernel = first.kernel if kernel is None else kernel
            noise_level = first.noise_level if noise_level is None else noise_level
        assert kernel is not None
        assert noise_level is not None
        x0_hat = self._predict_residual(x_t, timestep, y, scale, kernel, noise_level, x_y, view)
        current = Estimate(self._fit(kernel), noise_level)
        if not correct_kernel:
            return Prediction(x0_hat, *current)
        evidence = self.evidence(x0_hat, timestep, y, scale, current.kernel)
        scales = torch.full((len(y),), scale, device=y.device)
        corrected: Estimate = self.estimator.correct(current, scales, evidence)
        return Prediction(x0_hat, *corrected)

    def evidence(self, x0_hat: Tensor, timestep: Tensor, y: Tensor, scale: int, kernel: Tensor) -> Evidence:
        """What a step shows of the error of the kernel that it was made with.

        It is measured on an image that the data step has not yet bent to the kernel.

        Args:
            x0_hat: the step's image, (B, 3, s*h, s*w), in [0, 1].
            timestep, y, scale: as in `forward`.
            kernel: (B, kernel_size, kernel_size).
        """
        shown = x0_hat.detach()
        residual = kernel_residual(y, shown, kernel, scale, self.config.kernel_size)
        of_x = spectral_statistics(shown, informative=False)
        return Evidence(spectral_statistics(y), of_x, residual, self.alpha_bar[timestep].logit())

    def _predict_residual(
        self,
        x_t: Tensor,
        timestep: Tensor,
        y: Tensor,
        scale: int,
        kernel: Tensor,
        noise_level: Tensor,
        x_y: Tensor | None,
        view: int,
    ) -> Tensor:
        """x0_hat in [0, 1], up to overshoot."""
        if x_y is None:
            x_y = closed_form(y, kernel, noise_level, scale)
        base = self.to_diffusion(x_y)
        # z = r + sigma n: the residual r = x_0 - x_y under noise. c_skip z is its best linear estimate.
        a = self.alpha_bar[timestep].view(-1, 1, 1, 1)
        tau2, sigma2 = self.config.residual_std**2, (1 - a) / a
        z = x_t / a.sqrt() - base
        c_skip = tau2 / (tau2 + sigma2)
        c_out = (tau2 * sigma2 / (tau2 + sigma2)).sqrt()

        seen = torch.cat([c_skip * z / tau2**0.5, base, self.to_diffusion(bicubic_upsample(y, scale))], 1)
        time = self.time_mlp(sinusoidal_embedding(timestep, self.config.dim))
        condition = time + self.noise_mlp(noise_level[:, None] / 10) + self.scale_embedding.weight[self._index(scale)]
        if self.config.kernel_modulation:
            # The square root has unit length for every kernel, wide or narrow.
            condition = condition + self.kernel_mlp(turned(self._fit(kernel), view).clamp_min(0).sqrt().flatten(1))
        return self.to_image(base + c_skip * z + c_out * self._through_unet(seen, condition, view))

    def _predict_noise(
        self, x_t: Tensor, timestep: Tensor, y: Tensor, scale: int, kernel: Tensor | None, view: int
    ) -> Prediction:
        y = self.to_diffusion(y)
        seen = torch.cat([x_t, F.interpolate(y, scale_factor=scale, mode="bicubic")], 1)
        k_hat = self.estimator(seen).unflatten(1, (self.config.kernel_size, -1))
        # The published code correlates where we convolve: its kernels are ours, turned by half a turn.
        modulating = turned(k_hat if kernel is None else self._fit(kernel).flip(-1, -2), view)
        time = self.time_mlp(sinusoidal_embedding(timestep, self.config.dim))
        condition = time + self.kernel_mlp(modulating.flatten(1)) if self.config.kernel_modulation else time
        # Both outputs are what has to be added to x_t.
        noise, variance = (x_t + part for part in self._through_unet(seen, condition, view).chunk(2, 1))
        a = self.alpha_bar[timestep].view(-1, 1, 1, 1)
        x0_hat = (x_t - (1 - a).sqrt() * noise) / a.sqrt()
        return Prediction(self.to_image(x0_hat), k_hat.flip(-1, -2), None, noise, variance)

    def _through_unet(self, seen: Tensor, condition: Tensor, view: int) -> Tensor:
        """(B, c, H, W) of any size, as it stands -> (B, c', H, W): shown in a view, and what is said turned back."""
        seen = turned(seen, view)
        height, width = seen.shape[-2:]
        seen = F.pixel_unshuffle(_pad_to_multiple(seen, self.size_multiple), self.config.patch_size)
        out = self.unet(seen.contiguous(memory_format=torch.channels_last), condition)
        return turned_back(F.pixel_shuffle(out, self.config.patch_size)[..., :height, :width], view)

    def _estimator_from_y(self, scale: int) -> SpectralEstimator:
        self._check_scale(scale)
        if not isinstance(self.estimator, SpectralEstimator):
            raise ParameterError("the published network estimates a kernel at each step, from x_t; not from y alone")
        return self.estimator

    def _check_scale(self, scale: int) -> None:
        if scale not in self.config.scales:
            raise ParameterError(
                f"scale {scale} is not one of the network's: {', '.join(map(str, self.config.scales))}"
            )

    def _index(self, scale: int) -> int:
        return list(self.config.scales).index(scale)

    def _fit(self, kernel: Tensor) -> Tensor:
        """A kernel of any size on the support that the modulation was trained with."""
        return fit_size(kernel, self.config.kernel_size, max_cut=1.0)


def _pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Extend the lower and right sides of (B, C, H, W) by mirroring to a multiple of ``multiple``."""
    return extend(x, (0, -x.shape[-2] % multiple), (0, -x.shape[-1] % multiple), "reflect")
