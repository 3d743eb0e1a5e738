"""The published MCFormer: the architecture of the authors' code, variants for comparison, and its checkpoints.

Source of names and shapes: state dicts of the public code of arXiv 2403.10211.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from blinddiff.degradation.kernel_tensors import resize_support
from blinddiff.degradation.observation import HALF_TURN, Degradation, Observation, dihedral
from blinddiff.errors import ParameterError, WeightsError
from blinddiff.models.denoiser import Prediction
from blinddiff.models.kernel_estimator import SpectralEstimator
from blinddiff.models.mcformer import MCFormer
from blinddiff.models.statistics import estimator_statistics
from blinddiff.models.unet import ModulatedNetwork, sinusoidal_embedding


@dataclass
class PublishedPrediction(Prediction):
    """A prediction with the network's raw outputs: noise, and v, which interpolates log Sigma; (B, 3, H, W) each."""

    noise: Tensor
    variance: Tensor


class ConvolutionalEstimator(nn.Sequential):
    """Six 5x5 convolutions on (x_t, y upsampled), global pooling, softmax: (B, 6, H, W) -> (B, n^2)."""

    def __init__(self, dim: int, kernel_size: int) -> None:
        layers: list[nn.Module] = []
        for index, stride in enumerate((1, 1, 1, 2, 1, 1)):
            layers += [nn.Conv2d(dim if index else 6, dim, 5, stride, padding=2), nn.LeakyReLU(0.2)]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Conv2d(dim, kernel_size**2, 1), nn.Flatten(), nn.Softmax(1)]
        super().__init__(*layers)


class PublishedMCFormer(ModulatedNetwork):
    """The network of the released code of arXiv 2403.10211, a `Denoiser`.

    Its inputs are x_t and y upsampled, in [0, 1]. It predicts noise and variance, and estimates the kernel at each step
    by convolution and pooling. It does not estimate the noise level, which is always 0.

    Args:
        kernel_estimator: "convolutional", from x_t and y; or "spectral" for the `SpectralEstimator`, from y alone.
        closed_form_input: whether the closed-form image x_y, for the kernel of the modulation, is a further input.
        predicts: "noise", as a residual to x_t; or "x0", the image, as a residual to y upsampled.
        dim and the other arguments: as for `MCFormer`. The published network has a `patch_size` of 1.

    Raises ParameterError for an argument out of range.
    """

    default_mode = "paper"
    estimates_noise = False
    residual_std = 0.1

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
        patch_size: int = 1,
        kernel_estimator: str = "convolutional",
        estimator_hidden: int = 512,
        closed_form_input: bool = False,
        predicts: str = "noise",
    ) -> None:
        for name, value, known in (
            ("kernel_estimator", kernel_estimator, ("convolutional", "spectral")),
            ("predicts", predicts, ("noise", "x0")),
        ):
            if value not in known:
                raise ParameterError(f"{name}: {value!r} is not one of {', '.join(known)}")
        super().__init__(in_channels=9 if closed_form_input else 6, out_channels=6)
        self.estimator: nn.Module
        if kernel_estimator == "spectral":
            self.estimator = SpectralEstimator(kernel_size, estimator_hidden, tuple(scales))
        else:
            self.estimator = ConvolutionalEstimator(dim, kernel_size)

    def normalize(self, image: Tensor) -> Tensor:
        """A copy: the value range of x_t is [0, 1]."""
        return image.clone()

    def denormalize(self, x: Tensor) -> Tensor:
        """A copy, see `normalize`."""
        return x.clone()

    def initial_estimate(self, observation: Observation) -> None:
        """None: the kernel is estimated at each step, from x_t."""

    def picture_kind(self, observation: Observation) -> None:
        """None: every picture is taken for a photograph."""

    def shaken_kernels(self, observation: Observation, noise_level: Tensor) -> None:
        """None: no kernel is retrieved from a spectrum."""

    def closed_form_image(self, observation: Observation, degradation: Degradation | None) -> None:
        """None: the diffusion starts from pure noise."""

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        observation: Observation,
        degradation: Degradation | None = None,
        *,
        transform: int = 0,
    ) -> PublishedPrediction:
        """One prior step; the noise level is not used."""
        self.check_scale(observation.scale)
        y = F.interpolate(observation.y, scale_factor=observation.scale, mode="bicubic")
        estimate = self._estimate(x_t, y, observation)
        current = estimate if degradation is None else degradation
        condition = self.time_mlp(sinusoidal_embedding(t, self.config.dim).to(self.dtype))
        if self.config.kernel_modulation:
            # The published code correlates instead of convolving: its kernels are ours, rotated by 180 degrees.
            modulating = dihedral(resize_support(current.kernel, self.config.kernel_size, max_cut=1.0), HALF_TURN)
            condition = condition + self.kernel_mlp(dihedral(modulating, transform).flatten(1).to(self.dtype))
        x_y = [current.detach().closed_form(observation)] if self.config.closed_form_input else []
        inputs = torch.cat([x_t, y, *x_y], 1)
        predicted, variance = self.unet.transformed(inputs, condition, transform).chunk(2, 1)
        a = self.alpha_bar[t].view(-1, 1, 1, 1)
        if self.config.predicts == "noise":
            noise = x_t + predicted
            x0_hat = (x_t - (1 - a).sqrt() * noise) / a.sqrt()
        else:
            x0_hat = y + predicted
            noise = (x_t - a.sqrt() * x0_hat) / (1 - a).sqrt()
        return PublishedPrediction(x0_hat, estimate, noise, x_t + variance)

    def _estimate(self, x_t: Tensor, y: Tensor, observation: Observation) -> Degradation:
        """The kernel, from x_t and y upsampled or, by the spectral estimator, from y alone; without noise."""
        if isinstance(self.estimator, SpectralEstimator):
            spectral, _ = self.estimator(observation.derived(estimator_statistics), observation.scales)
            kernel = spectral.kernel.to(x_t)
        else:
            k_hat = self.estimator(torch.cat([x_t, y], 1).to(self.dtype)).to(x_t)
            kernel = dihedral(k_hat.unflatten(1, (self.config.kernel_size, -1)), HALF_TURN)
        return Degradation(kernel, torch.zeros(len(x_t), device=x_t.device, dtype=x_t.dtype))


ARCHITECTURES: dict[str, type[MCFormer] | type[PublishedMCFormer]] = {
    network.__name__: network for network in (MCFormer, PublishedMCFormer)
}
"""The networks by the names of their classes."""


EXPANSION = 2.66  # of all published networks

_BLOCK = {
    r"norm1\.body\.": "norm_attention.",
    r"norm2\.body\.": "norm_feed_forward.",
    r"attn\.qkv_dwconv\.": "attention.qkv_depthwise.",
    r"attn\.project_out\.": "attention.project.",
    r"attn\.qkv\.": "attention.qkv.",
    r"attn\.temperature": "attention.temperature",
    r"ffn\.dwconv\.": "feed_forward.depthwise.",
    r"ffn\.project": "feed_forward.project",
    r"modulation\.1\.": "modulation.",
}
_PARTS = {
    r"patch_embed\.proj\.": "unet.stem.",
    r"encoder_level(\d)\.": "unet.encoder.{}.",
    r"decoder_level(\d)\.": "unet.decoder.{}.",
    r"down(\d)_\d\.body\.": "unet.down.{}.",
    r"up\d_(\d)\.body\.": "unet.up.{}.",
    r"latent\.": "unet.latent.",
    r"refinement\.": "unet.refinement.",
    r"output\.": "unet.output.",
    r"reduce_chan_level2\.": "unet.reduce.0.",
    r"reduce_chan_level3\.": "unet.reduce.1.",
    r"t_embedder\.1\.": "time_mlp.0.",
    r"t_embedder\.3\.": "time_mlp.2.",
    r"k_mlp\.": "kernel_mlp.",
    r"predictor\.": "estimator.",
}
"""Key prefixes of published state dicts and ours; {} is the level, counted from 0 instead of 1."""


def read_published(path: Path) -> dict[str, Tensor]:
    """The state dict of a published checkpoint: ``.pth`` with ``params_ema``, ``params`` or bare, or ``.safetensors``.

    Files are read as data; code in them is never run. Raises WeightsError: missing, unreadable, or no state dict.
    """
    if not os.path.isfile(path):
        raise WeightsError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and safetensors raise errors of many kinds
        # The libraries' own messages are long, and advise to allow code in the file.
        reason = "it is no checkpoint of PyTorch or safetensors, or is damaged"
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        raise WeightsError(f"{path}: cannot be read as weights: {reason}") from error
    for key in ("params_ema", "params", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path}: holds no state dict")
    return {re.sub(r"^(module|state_dict)\.", "", str(name)): value for name, value in content.items()}


def network_from_published(state: Mapping[str, Tensor], scale: int = 4) -> PublishedMCFormer:
    """Build the network of a published state dict, its architecture inferred from the shapes.

    scale: the scale it was trained for, which shapes do not show; 4 in all published settings. Raises WeightsError for
    missing or unexpected tensors and for shapes that do not fit.
    """
    try:
        dim = state["patch_embed.proj.weight"].shape[0]
        top, deepest = state["encoder_level1.0.ffn.project_out.weight"], state["latent.0.ffn.project_out.weight"]
        kernel_entries = state["k_mlp.0.weight"].shape[1]
        stages = [*(f"encoder_level{level}" for level in range(1, 4)), "latent"]
        heads = [state[f"{stage}.0.attn.temperature"].shape[0] for stage in stages]
    except KeyError as error:
        raise WeightsError(f"not a checkpoint of the published BlindDiff: {error.args[0]} is missing") from error
    published = top.shape[1] == int(dim * EXPANSION)
    network = PublishedMCFormer(
        dim=dim,
        num_blocks=[_count(state, stage) for stage in stages],
        num_refinement_blocks=_count(state, "refinement"),
        heads=heads,
        expansion=EXPANSION if published else (deepest.shape[1] + 0.5) / deepest.shape[0],
        embedding_dim=dim,
        kernel_size=round(kernel_entries**0.5),
        scales=[scale],
    )
    renamed = {_rename(name): value for name, value in state.items()}
    try:
        network.load_state_dict(renamed)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"not a checkpoint of the published BlindDiff: {reason}") from error
    return network


def architecture_name(config: Mapping[str, Any]) -> str | None:
    """The class named in a config.json. Older files call every network MCFormer; the published one predicts noise."""
    if config.get("prediction") == "noise":
        return PublishedMCFormer.__name__
    return config.get("_class_name")


def _count(state: Mapping[str, Tensor], stage: str) -> int:
    return len({name.split(".")[1] for name in state if name.startswith(f"{stage}.")})


def _rename(name: str) -> str:
    for pattern, ours in _PARTS.items():
        if found := re.match(pattern, name):
            level = int(found[1]) - 1 if found.groups() else 0
            name = ours.format(level) + name[found.end() :]
            break
    for pattern, ours in _BLOCK.items():
        name, count = re.subn(rf"(?<=\.){pattern}", ours, name, count=1)
        if count:
            break
    return name
