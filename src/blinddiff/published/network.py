"""The published MCFormer: the architecture of the authors' code."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

from blinddiff.degradation.kernel_measures import fit_size
from blinddiff.degradation.observation import HALF_TURN, Degradation, Observation, dihedral
from blinddiff.errors import ParameterError
from blinddiff.models.denoiser import Prediction
from blinddiff.models.schedule import alpha_bar_on, betas
from blinddiff.models.unet import ModulatedUNet, check_unet, kernel_mlp, sinusoidal_embedding, time_mlp


@dataclass
class PublishedPrediction(Prediction):
    """A prediction with the network's outputs: noise, and where log Sigma lies in its range, (B, 3, H, W) each."""

    noise: Tensor
    variance: Tensor


class ConvolutionalEstimator(nn.Sequential):
    """Six 5x5 convolutions on (x_t, y upsampled), global pooling, softmax: (B, 6, H, W) -> (B, n^2)."""

    def __init__(self, dim: int, kernel_size: int) -> None:
        layers: list[nn.Module] = []
        for index, stride in enumerate((1, 1, 1, 2, 1, 1)):
            layers += [nn.Conv2d(dim if index else 6, dim, 5, stride, padding=2), nn.LeakyReLU(0.2)]
        super().__init__(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Conv2d(dim, kernel_size**2, 1), nn.Flatten(), nn.Softmax(1)
        )


class PublishedMCFormer(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers' own clash over config_name
    """The network of the released code of arXiv 2403.10211, a `Denoiser`.

    It sees x_t and y upsampled, in [0, 1], predicts the noise and a variance, and estimates the kernel at each step by
    convolution and pooling. It knows no noise level: its estimate of it is 0.

    Args:
        dim: channels at the top level.
        num_blocks: modulated blocks at each level, top first.
        num_refinement_blocks: blocks after the decoder.
        heads: attention heads at each level.
        expansion: of the gated feed-forward networks.
        embedding_dim: length of the embedding of time and kernel.
        kernel_size: side of the kernel's support, odd.
        scales: scales the weights are made for.
        noise_schedule: name of the schedule x_t follows, see `models.schedule`.
        kernel_modulation: False removes the kernel from the modulation (an ablation).

    Raises:
        ParameterError: an argument outside its range.
    """

    config: Any  # the arguments above, by name
    default_mode = "paper"
    knows_noise = False

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        dim: int = 48,
        num_blocks: Sequence[int] = (2, 3, 6, 8),
        num_refinement_blocks: int = 2,
        heads: Sequence[int] = (1, 2, 4, 8),
        expansion: float = 2.66,
        embedding_dim: int = 48,
        kernel_size: int = 21,
        scales: Sequence[int] = (4,),
        noise_schedule: str = "linear",
        kernel_modulation: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        for name, number in {"embedding_dim": embedding_dim, "expansion": expansion}.items():
            if not number > 0:
                raise ParameterError(f"{name}: {number} is not above 0")
        check_unet(dim, num_blocks, heads, kernel_size)
        self.unet = ModulatedUNet(6, 6, dim, num_blocks, num_refinement_blocks, heads, expansion, embedding_dim)
        self.time_mlp = time_mlp(dim, embedding_dim)
        self.kernel_mlp = kernel_mlp(kernel_size, embedding_dim)
        self.estimator = ConvolutionalEstimator(dim, kernel_size)
        betas(noise_schedule)  # raises for an unknown name

    @property
    def alpha_bar(self) -> Tensor:
        """alpha_bar_t of the noise schedule, (1000,), on the network's device."""
        return alpha_bar_on(self.config.noise_schedule, self.device)

    @property
    def size_multiple(self) -> int:
        """HR sides are mirrored up to a multiple of this inside the network."""
        return self.unet.size_multiple

    @property
    def channels_per_pixel(self) -> float:
        """Channels of the top level per HR pixel."""
        return self.config.dim / self.unet.patch_size**2

    def to_diffusion(self, image: Tensor) -> Tensor:
        """A copy: x_t is noised in the image's own range."""
        return image.clone()

    def to_image(self, x: Tensor) -> Tensor:
        """A copy. See `to_diffusion`."""
        return x.clone()

    def initial_estimate(self, observation: Observation) -> None:
        """None: the kernel is estimated at each step, from x_t. See `Denoiser`."""

    def initial_image(self, observation: Observation, degradation: Degradation | None) -> None:
        """None: the diffusion starts from noise alone. See `Denoiser`."""

    def remaining_error(self, timestep: Tensor) -> float:
        """sigma_t / sqrt(sigma_t^2 + tau^2), tau = 0.1. See `Denoiser`."""
        a = float(self.alpha_bar[timestep])
        sigma2 = (1 - a) / a
        return float((sigma2 / (sigma2 + 0.1**2)) ** 0.5)

    def check_scale(self, scale: int) -> None:
        """Raise ParameterError if the weights were not made for a scale."""
        if scale not in self.config.scales:
            raise ParameterError(
                f"scale {scale} is not one of the network's: {', '.join(map(str, self.config.scales))}"
            )

    def forward(
        self,
        x_t: Tensor,
        timestep: Tensor,
        observation: Observation,
        degradation: Degradation | None = None,
        *,
        transform: int = 0,
    ) -> PublishedPrediction:
        """One prior step. See `Denoiser`; the noise level is not used."""
        self.check_scale(observation.scale)
        y = F.interpolate(observation.y, scale_factor=observation.scale, mode="bicubic")
        inputs = torch.cat([x_t, y], 1)
        k_hat = self.estimator(inputs.to(self.dtype)).to(x_t).unflatten(1, (self.config.kernel_size, -1))
        # The published code correlates where we convolve: its kernels are ours, rotated by half a turn.
        modulating = k_hat
        if degradation is not None:
            modulating = dihedral(fit_size(degradation.kernel, self.config.kernel_size, max_cut=1.0), HALF_TURN)
        condition = self.time_mlp(sinusoidal_embedding(timestep, self.config.dim).to(self.dtype))
        if self.config.kernel_modulation:
            condition = condition + self.kernel_mlp(dihedral(modulating, transform).flatten(1).to(self.dtype))
        # Both outputs are what has to be added to x_t.
        noise, variance = (x_t + part for part in self.unet.transformed(inputs, condition, transform).chunk(2, 1))
        a = self.alpha_bar[timestep].view(-1, 1, 1, 1)
        x0_hat = (x_t - (1 - a).sqrt() * noise) / a.sqrt()
        estimate = Degradation(dihedral(k_hat, HALF_TURN), torch.zeros(len(x_t), device=x_t.device, dtype=x_t.dtype))
        return PublishedPrediction(x0_hat, estimate, noise, variance)
