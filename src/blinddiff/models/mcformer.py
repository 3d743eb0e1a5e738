"""MCFormer: one network that predicts the clean image and its kernel."""

from collections.abc import MutableMapping, Sequence
from functools import partial

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from blinddiff.degradation.kernel_fit import kernel_error_map
from blinddiff.degradation.kernel_measures import drop_slight_negatives
from blinddiff.degradation.kernel_tensors import resize_support
from blinddiff.degradation.observation import HALF_TURN, Degradation, Observation, dihedral, dihedral_inverse
from blinddiff.degradation.phase_retrieval import retrieve_kernels
from blinddiff.degradation.resize import bicubic_upsample
from blinddiff.models.denoiser import Prediction
from blinddiff.models.kernel_estimator import HALF_GRID, CorrectionFeatures, SpectralEstimator
from blinddiff.models.kernel_spectrum import SPECTRUM_TRANSFORMS, KernelSpectrum
from blinddiff.models.picture_kind import PictureClassifier, PictureKind
from blinddiff.models.statistics import NOISE_GRID, estimator_statistics, spectral_statistics, transformed_spectrum
from blinddiff.models.unet import ModulatedNetwork, sinusoidal_embedding

MIN_NEGATIVE = 0.01  # share of the positive mass from which negative entries count as sharpening
MIN_POWER = 1e-3  # of a relative noise spectrum inside the logarithm
RENAMED = {"estimator.doubt.": "estimator.confidence_head.", "estimator.correct.read.": "estimator.correct.mlp."}
"""Old state-dict key prefixes and their current names."""
ADDED = (
    *("estimator.normalise_colour.", "estimator.colour.", "estimator.fine.", "estimator.sharpening_head."),
    *("estimator.noise_gate.", "estimator.edges.", "noise_spectrum_mlp.", "negative_kernel.", "picture."),
    "kernel_spectrum.",
)
"""Prefixes of state-dict keys that older weights lack; added with initial values that have almost no effect."""


class MCFormer(ModulatedNetwork):
    """Modulated conditional transformer (BlindDiff, arXiv 2403.10211, section 3.3), a `Denoiser`.

    The U-Net's inputs are c_skip z / tau (z = x_t / sqrt(alpha_bar) - x_y), the closed-form image x_y and the bicubic
    image, all pixel-unshuffled. It predicts d = x - x_y with the c_skip and c_out of Karras et al. 2022, applied to d
    instead of x, so that its target has unit variance at every t. Kernels come from a `SpectralEstimator`.

    Args:
        dim: channels at the top level, doubled at each level below.
        num_blocks: modulated blocks at each level, top first.
        num_refinement_blocks: blocks after the decoder.
        heads: attention heads at each level.
        expansion: ratio of hidden to input channels in the gated feed-forward networks.
        embedding_dim: size of the embedding of time, kernel, noise level and scale.
        patch_size: pixel-unshuffle factor before the first convolution.
        kernel_size: side of the kernel's support, odd.
        estimator_hidden: width of the spectral estimator.
        scales: scales the network is trained for.
        noise_schedule: see `denoiser.SCHEDULES`.
        image_mean, image_std: images are normalised to (image - image_mean) / image_std before noise is added.
        residual_std: tau, the RMS of d = x - x_y after normalisation.
        kernel_modulation: False removes the kernel from the modulation (an ablation).

    Raises ParameterError for an argument out of range.
    """

    default_mode = "fidelity"
    estimates_noise = True

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
        self.noise_spectrum_mlp = nn.Sequential(
            nn.Linear(HALF_GRID, embedding_dim), nn.Mish(), nn.Linear(embedding_dim, embedding_dim)
        )
        self.negative_kernel = nn.Linear(kernel_size**2, embedding_dim, bias=False)
        for new in (self.noise_spectrum_mlp[-1], self.negative_kernel):  # without effect before they are trained
            for parameter in new.parameters():
                nn.init.zeros_(parameter)
        self.scale_embedding = nn.Embedding(len(scales), embedding_dim)
        self.estimator = SpectralEstimator(kernel_size, estimator_hidden, tuple(scales))
        self.picture = PictureClassifier()
        self.kernel_spectrum = KernelSpectrum()

    def normalize(self, image: Tensor) -> Tensor:
        """Image in [0, 1] -> (image - image_mean) / image_std, the value range of x_t."""
        return (image - self.config.image_mean).div_(self.config.image_std)

    def denormalize(self, x: Tensor) -> Tensor:
        """The inverse of `normalize`."""
        return (x * self.config.image_std).add_(self.config.image_mean)

    def closed_form_image(self, observation: Observation, degradation: Degradation | None) -> Tensor | None:
        """x_y, the closed-form image for the degradation, or for the initial estimate if it is None."""
        return self._given_or_estimated(observation, degradation).closed_form(observation)

    def initial_estimate(self, observation: Observation) -> Degradation:
        """Kernel and noise level from y alone, as the mean of a self-ensemble, with the expected kernel error.

        The estimator is not exactly equivariant to dihedral transforms, so its errors partly average out. The expected
        error is slightly too large: it was trained without self-ensemble. Raises ParameterError for an untrained scale.
        """
        self.check_scale(observation.scale)
        y = observation.y
        pixels = torch.full((len(y), 1), y.shape[-2] * y.shape[-1], device=y.device, dtype=torch.float32)
        estimates = []
        for transform in SPECTRUM_TRANSFORMS:
            transformed = observation.map(partial(dihedral, transform=transform)) if transform else observation
            estimate, features = self.estimator(transformed.derived(estimator_statistics), observation.scales)
            assert estimate.noise_spectrum is not None
            undo = partial(dihedral_inverse, transform=transform)
            spectrum = transformed_spectrum(estimate.noise_spectrum, undo)
            error = self.estimator.expected_error(features, pixels)
            estimates.append((undo(estimate.kernel), estimate.noise_level, error, spectrum))
        kernel, noise_level, error, spectrum = (torch.stack(parts).mean(0) for parts in zip(*estimates, strict=True))
        # A power spectrum does not distinguish a kernel from its 180-degree rotation: average both.
        kernel = drop_slight_negatives((kernel + dihedral(kernel, HALF_TURN)) / 2, MIN_NEGATIVE)
        return Degradation(kernel, noise_level, error, spectrum)

    def picture_kind(self, observation: Observation) -> PictureKind:
        """What the pictures are."""
        return self.picture.kind(observation.derived(estimator_statistics), observation.y)

    def shaken_kernels(self, observation: Observation, noise_level: Tensor) -> Tensor | None:
        """Kernels from their spectrum alone, (B, STARTS, n, n), in HR pixels; the mirror images are as likely.

        None at other scales than 1 and 2, and with weights that lack a `KernelSpectrum`.
        """
        if observation.scale > 2 or not self.kernel_spectrum.is_trained:
            return None
        fine = observation.derived(estimator_statistics).fine.to(self.dtype)
        power = self.kernel_spectrum.ensemble(fine, noise_level.to(self.dtype)).float()
        kernels, _ = retrieve_kernels(power, self.config.kernel_size)
        if observation.scale == 2:  # between the LR pixels, at which they were found, linearly
            side = 2 * kernels.shape[-1] - 1
            kernels = F.interpolate(kernels, (side, side), mode="bilinear", align_corners=True)
            kernels = kernels / kernels.sum((-2, -1), keepdim=True)
        return self._to_support(kernels.flatten(0, 1)).unflatten(0, kernels.shape[:2])

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
        """One prior step: predict clean image and degradation from the noisy image.

        Args:
            x_t, t, observation, transform: see `Denoiser`.
            degradation: kernel (of any size) and noise level to condition on; None for the initial estimate.
            correct_kernel: False returns this degradation, with its kernel padded or cropped to the network's support.
        """
        self.check_scale(observation.scale)
        degradation = self._given_or_estimated(observation, degradation)
        x0_hat = self._clean_image(x_t, t, observation, degradation, transform)
        current = degradation.with_estimate(self._to_support(degradation.kernel), degradation.noise_level)
        if not correct_kernel:
            return Prediction(x0_hat, current)
        features = self.correction_features(x0_hat, t, observation, current)
        return Prediction(x0_hat, self.estimator.correct(current, observation.scales, features))

    def correction_features(
        self, x0_hat: Tensor, t: Tensor, observation: Observation, degradation: Degradation
    ) -> CorrectionFeatures:
        """Features for the correction of a degradation, from the x0_hat (before the image step) predicted with it."""
        y, x = observation.y, x0_hat.detach()
        error_map = kernel_error_map(y, x, degradation.kernel, observation.scale, self.config.kernel_size)
        statistics_x = spectral_statistics(x, windows="even")
        statistics_y = observation.derived(estimator_statistics).spectral
        return CorrectionFeatures(statistics_y, statistics_x, error_map, self.alpha_bar[t].logit())

    def _clean_image(
        self, x_t: Tensor, t: Tensor, observation: Observation, degradation: Degradation, transform: int
    ) -> Tensor:
        """x0_hat in [0, 1], up to overshoot."""
        x_y = self.normalize(degradation.closed_form(observation))
        # z = d + sigma n is the offset d = x_0 - x_y plus noise; c_skip z is the best linear estimate of d.
        a = self.alpha_bar[t].view(-1, 1, 1, 1)
        tau2, sigma2 = self.residual_std**2, (1 - a) / a
        z = x_t / a.sqrt() - x_y
        c_skip = tau2 / (tau2 + sigma2)
        c_out = (tau2 * sigma2 / (tau2 + sigma2)).sqrt()

        upsampled = self.normalize(bicubic_upsample(observation.y, observation.scale))
        inputs = torch.cat([c_skip * z / tau2**0.5, x_y, upsampled], 1)
        condition = self.time_mlp(sinusoidal_embedding(t, self.config.dim).to(self.dtype))
        condition = condition + self.noise_mlp((degradation.noise_level[:, None] / 10).to(self.dtype))
        if degradation.noise_spectrum is not None:
            spectrum = transformed_spectrum(degradation.noise_spectrum, partial(dihedral, transform=transform))
            log_spectrum = spectrum[..., : NOISE_GRID // 2 + 1].clamp_min(MIN_POWER).log()
            condition = condition + self.noise_spectrum_mlp(log_spectrum.flatten(1).to(self.dtype))
        condition = condition + self.scale_embedding.weight[list(self.config.scales).index(observation.scale)]
        if self.config.kernel_modulation:
            # The square root of a kernel without negative entries has unit L2 norm, whatever its width.
            kernel = dihedral(self._to_support(degradation.kernel), transform).flatten(1)
            positive, negative = (_root_of_positive(part).to(self.dtype) for part in (kernel, -kernel))
            condition = condition + self.kernel_mlp(positive) + self.negative_kernel(negative)
        return self.denormalize(x_y + c_skip * z + c_out * self.unet.transformed(inputs, condition, transform))

    def _given_or_estimated(self, observation: Observation, degradation: Degradation | None) -> Degradation:
        return self.initial_estimate(observation) if degradation is None else degradation

    def _to_support(self, kernel: Tensor) -> Tensor:
        """Pad or crop a kernel to the network's support."""
        return resize_support(kernel, self.config.kernel_size, max_cut=1.0)

    def _fix_state_dict_keys_on_load(self, state_dict: MutableMapping[str, Tensor]) -> None:
        """Rename old keys and add those that old weights lack; called by diffusers before it loads weights."""
        for old in list(state_dict):
            state_dict[current_name(old)] = state_dict.pop(old)
        if any(name not in state_dict for name in self.state_dict()):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                new = type(self)(**self.config).state_dict()
            state_dict.update({name: new[name] for name in new.keys() - state_dict.keys() if name.startswith(ADDED)})


def _root_of_positive(values: Tensor) -> Tensor:
    """The square root of positive values and 0 for others, with a gradient of 0 there instead of infinity."""
    positive = values > 0
    return torch.where(positive, values, 1).sqrt() * positive


def current_name(name: str) -> str:
    """Map an old state-dict key to its current name."""
    for old, new in RENAMED.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
