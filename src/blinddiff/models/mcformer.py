"""MCFormer: one network that is the prior for both the image and its kernel."""

from collections.abc import MutableMapping, Sequence

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from blinddiff.degradation.kernel_fit import kernel_residual
from blinddiff.degradation.kernel_measures import fit_size
from blinddiff.degradation.observation import HALF_TURN, Degradation, Observation, dihedral, dihedral_inverse
from blinddiff.degradation.resize import bicubic_upsample
from blinddiff.models.denoiser import Prediction
from blinddiff.models.kernel_estimator import Evidence, SpectralEstimator
from blinddiff.models.statistics import spectral_statistics
from blinddiff.models.unet import ModulatedNetwork, sinusoidal_embedding

ESTIMATOR_TRANSFORMS = (0, 1, 4, 5)
"""Dihedral transforms of the estimator's self-ensemble, no two half a turn apart: that leaves a spectrum unchanged."""
RENAMED = {"estimator.doubt.": "estimator.confidence_head.", "estimator.correct.read.": "estimator.correct.mlp."}
"""Beginnings of the names of weights in older files, and those of today."""


class MCFormer(ModulatedNetwork):
    """Modulated conditional transformer (BlindDiff, arXiv 2403.10211, section 3.3), a `Denoiser`.

    It sees x_t, the closed-form image x_y of (y, k, sigma) and y, on a pixel-unshuffled grid, and predicts the residual
    x - x_y, scaled so that input and target have unit variance at every t (as Karras et al. 2022, with the residual for
    the data). Its kernel estimator reads spectral statistics of y.

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
        noise_schedule: name of the schedule x_t follows, see `models.denoiser`.
        image_mean, image_std: x_t is about (image - mean) / std.
        residual_std: RMS of the image minus x_y, in units of x_t.
        kernel_modulation: False removes the kernel from the modulation (an ablation).

    Raises ParameterError for an argument outside its range.
    """

    default_mode = "fidelity"
    knows_noise = True

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
        noise_schedule: str = "log_sigma",
        image_mean: float = 0.5,
        image_std: float = 0.5,
        residual_std: float = 0.1,
        kernel_modulation: bool = True,
    ) -> None:
        super().__init__(in_channels=9, out_channels=3)
        self.residual_std = residual_std
        self.noise_mlp = nn.Sequential(nn.Linear(1, embedding_dim), nn.Mish(), nn.Linear(embedding_dim, embedding_dim))
        self.scale_embedding = nn.Embedding(len(scales), embedding_dim)
        self.estimator = SpectralEstimator(kernel_size, estimator_hidden, tuple(scales))

    def to_diffusion(self, image: Tensor) -> Tensor:
        """Image in [0, 1] -> the range in which x_t is noised."""
        return (image - self.config.image_mean).div_(self.config.image_std)

    def to_image(self, x: Tensor) -> Tensor:
        """The inverse of `to_diffusion`."""
        return (x * self.config.image_std).add_(self.config.image_mean)

    def initial_image(self, observation: Observation, degradation: Degradation | None) -> Tensor | None:
        """x_y, the closed-form image. See `Denoiser`."""
        return self._known(observation, degradation).closed_form(observation)

    def initial_estimate(self, observation: Observation) -> Degradation:
        """Kernel and noise level from y alone, as the mean of a self-ensemble, with the expected kernel error.

        The estimator is not exactly equivariant to dihedral transforms, so its errors partly average out. The expected
        error was learned for the estimate from one transform, whose error is some percent larger: a safe bound.
        Raises ParameterError for a scale that is not one of the network's.
        """
        self.check_scale(observation.scale)
        y, scale = observation.y, observation.scale
        features = [self.estimator.features(dihedral(y, transform), scale) for transform in ESTIMATOR_TRANSFORMS]
        estimates = [self.estimator.initial_estimate(each) for each in features]
        pairs = zip(estimates, ESTIMATOR_TRANSFORMS, strict=True)
        kernel = torch.stack([dihedral_inverse(each.kernel, transform) for each, transform in pairs]).mean(0)
        noise_level = torch.stack([estimate.noise_level for estimate in estimates]).mean(0)
        pixels = torch.full_like(features[0][:, :1], y.shape[-2] * y.shape[-1], dtype=torch.float32)
        error = self.estimator.expected_error(features[0], pixels)
        return Degradation((kernel + dihedral(kernel, HALF_TURN)) / 2, noise_level, error)

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        observation: Observation,
        degradation: Degradation | None = None,
        *,
        transform: int = 0,
        correct_kernel: bool = True,
    ) -> Prediction:
        """One prior step: the clean image and the degradation, from the noisy image. See `Denoiser`.

        Args:
            x_t, t, observation, transform: see `Denoiser`.
            degradation: kernel, of any size, and noise level to modulate by; the initial estimate where None.
            correct_kernel: False returns the degradation as it was given, and saves the time to correct it.
        """
        self.check_scale(observation.scale)
        degradation = self._known(observation, degradation)
        x0_hat = self._clean_image(x_t, t, observation, degradation, transform)
        fitted = degradation.changed(self._fit(degradation.kernel), degradation.noise_level)
        if not correct_kernel:
            return Prediction(x0_hat, fitted)
        evidence = self.evidence(x0_hat, t, observation, fitted)
        return Prediction(x0_hat, self.estimator.correct(fitted, observation.scales, evidence))

    def evidence(self, x0_hat: Tensor, t: Tensor, observation: Observation, degradation: Degradation) -> Evidence:
        """Features of the error of the kernel, (B, n, n) of the network's size, that x0_hat was made with at t."""
        image = x0_hat.detach()
        residual = kernel_residual(observation.y, image, degradation.kernel, observation.scale, self.config.kernel_size)
        of_x = spectral_statistics(image, informative=False)
        return Evidence(spectral_statistics(observation.y), of_x, residual, self.alpha_bar[t].logit())

    def _clean_image(
        self, x_t: Tensor, t: Tensor, observation: Observation, degradation: Degradation, transform: int
    ) -> Tensor:
        """x0_hat in [0, 1], up to overshoot."""
        base = self.to_diffusion(degradation.closed_form(observation))
        # z = r + sigma n: the residual r = x_0 - x_y under noise. c_skip z is its best linear estimate.
        a = self.alpha_bar[t].view(-1, 1, 1, 1)
        tau2, sigma2 = self.residual_std**2, (1 - a) / a
        z = x_t / a.sqrt() - base
        c_skip = tau2 / (tau2 + sigma2)
        c_out = (tau2 * sigma2 / (tau2 + sigma2)).sqrt()

        upsampled = self.to_diffusion(bicubic_upsample(observation.y, observation.scale))
        inputs = torch.cat([c_skip * z / tau2**0.5, base, upsampled], 1)
        condition = self.time_mlp(sinusoidal_embedding(t, self.config.dim).to(self.dtype))
        condition = condition + self.noise_mlp((degradation.noise_level[:, None] / 10).to(self.dtype))
        condition = condition + self.scale_embedding.weight[list(self.config.scales).index(observation.scale)]
        if self.config.kernel_modulation:
            # The square root has unit length for every kernel, wide or narrow.
            kernel = dihedral(self._fit(degradation.kernel), transform).clamp_min(0).sqrt()
            condition = condition + self.kernel_mlp(kernel.flatten(1).to(self.dtype))
        return self.to_image(base + c_skip * z + c_out * self.unet.transformed(inputs, condition, transform))

    def _known(self, observation: Observation, degradation: Degradation | None) -> Degradation:
        return self.initial_estimate(observation) if degradation is None else degradation

    def _fit(self, kernel: Tensor) -> Tensor:
        """A kernel of any size on the support that the modulation was trained with."""
        return fit_size(kernel, self.config.kernel_size, max_cut=1.0)

    def _fix_state_dict_keys_on_load(self, state_dict: MutableMapping[str, Tensor]) -> None:
        """Called by diffusers before it loads weights."""
        for old in list(state_dict):
            state_dict[current_name(old)] = state_dict.pop(old)


def current_name(name: str) -> str:
    """The name of a weight that an older file may call otherwise."""
    for old, new in RENAMED.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
