"""The U-Net of MCFormer, its blocks (transposed attention, gated feed-forward, modulation), and the networks' base.

Sources: S. W. Zamir et al., "Restormer", CVPR 2022 (MDTA, GDFN); F. Li et al., "BlindDiff", arXiv 2403.10211 (their
modulation by time and kernel). Tensors are (B, C, H, W), in channels-last memory, so that the layer norm runs on
contiguous channels.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from blinddiff.degradation.observation import dihedral, dihedral_inverse
from blinddiff.degradation.resize import extend
from blinddiff.errors import ParameterError
from blinddiff.models.denoiser import alpha_bar_on, betas


class TransposedAttention(nn.Module):
    """Multi-Dconv head transposed attention (MDTA): attention between channels, so its cost is linear in the pixels."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.qkv_depthwise = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=False)
        self.project = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W).

        The L2 norms of queries and keys are divided out of the attention matrix, and the output projection is
        multiplied into it. Both are exact, and each saves a pass over the image.
        """
        batch, channels, height, width = x.shape
        qkv = self.qkv_depthwise(self.qkv(x)).permute(0, 2, 3, 1).reshape(batch, height * width, 3, self.heads, -1)
        q, k, v = qkv.unbind(2)  # (B, H*W, heads, c)
        q, k = q.transpose(1, 2), k.transpose(1, 2)
        # The clamp avoids the infinite gradient of the root at 0.
        q_norm, k_norm = (part.square().sum(-2).clamp_min(1e-24).sqrt() for part in (q, k))
        cosines = q.transpose(-2, -1) @ k / (q_norm[..., :, None] * k_norm[..., None, :])
        attention = (cosines * self.temperature).softmax(-1)  # (B, heads, c, c)
        project = self.project.weight.view(channels, self.heads, -1)
        mixing = torch.einsum("ohi,bhij->bhjo", project, attention).reshape(batch, channels, channels)
        out = v.reshape(batch, height * width, channels) @ mixing
        return out.view(batch, height, width, channels).permute(0, 3, 1, 2)


class GatedFeedForward(nn.Module):
    """Gated-Dconv feed-forward network (GDFN)."""

    def __init__(self, dim: int, expansion: float) -> None:
        super().__init__()
        hidden = int(dim * expansion)
        self.project_in = nn.Conv2d(dim, 2 * hidden, 1, bias=False)
        self.depthwise = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        gate, value = self.depthwise(self.project_in(x)).chunk(2, 1)
        return self.project_out(F.gelu(gate) * value)


class ModulatedLayerNorm(nn.LayerNorm):
    """Layer norm over channels, then (1 + scale) x + shift with a scale and a shift for each image and channel."""

    def forward(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:  # type: ignore[override]
        """x (B, C, H, W), shift and scale (B, C)."""
        normed = super().forward(x.permute(0, 2, 3, 1))
        normed = torch.addcmul(shift[:, None, None], normed, 1 + scale[:, None, None])
        return normed.permute(0, 3, 1, 2)


class ModulatedBlock(nn.Module):
    """x + MDTA(norm(x)), then x + GDFN(norm(x)), both norms modulated by the condition's embedding."""

    def __init__(self, dim: int, heads: int, expansion: float, embedding: int) -> None:
        super().__init__()
        self.norm_attention = ModulatedLayerNorm(dim)
        self.attention = TransposedAttention(dim, heads)
        self.norm_feed_forward = ModulatedLayerNorm(dim)
        self.feed_forward = GatedFeedForward(dim, expansion)
        self.modulation = nn.Linear(embedding, 4 * dim)

    def start_as_identity(self) -> None:
        """Initialise the block as the identity."""
        nn.init.zeros_(self.attention.project.weight)
        nn.init.zeros_(self.feed_forward.project_out.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, C, H, W), condition (B, E)."""
        shift_a, scale_a, shift_f, scale_f = self.modulation(F.mish(condition)).chunk(4, 1)
        x = x + self.attention(self.norm_attention(x, shift_a, scale_a))
        return x + self.feed_forward(self.norm_feed_forward(x, shift_f, scale_f))


class BlockStack(nn.ModuleList):
    """A sequence of blocks with the same condition."""

    def __init__(self, count: int, dim: int, heads: int, expansion: float, embedding: int) -> None:
        super().__init__(ModulatedBlock(dim, heads, expansion, embedding) for _ in range(count))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, C, H, W), condition (B, E)."""
        for block in self:
            x = block(x, condition)
        return x


def sinusoidal_embedding(t: Tensor, dim: int) -> Tensor:
    """(B,) -> (B, dim): sines, then cosines, of t at dim / 2 geometric frequencies from 1 towards 1e-4."""
    steps = torch.arange(dim // 2, dtype=torch.float32, device=t.device) / (dim // 2)
    angles = t.float()[:, None] * torch.exp(-math.log(1e4) * steps)
    return torch.cat([angles.sin(), angles.cos()], 1)


class ModulatedUNet(nn.Module):
    """Encoder, latent and decoder of modulated blocks with skip connections, then refinement blocks.

    Args:
        in_channels, out_channels: at full resolution, before pixel-unshuffle.
        dim: channels at the top level, doubled at each level below.
        embedding: size of the condition's embedding.
        num_blocks, num_refinement_blocks, heads, expansion, patch_size: as for `MCFormer`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dim: int,
        num_blocks: Sequence[int],
        num_refinement_blocks: int,
        heads: Sequence[int],
        expansion: float,
        embedding: int,
        patch_size: int = 1,
    ) -> None:
        super().__init__()
        levels = len(num_blocks)
        self.patch_size = patch_size
        self.size_multiple = patch_size * 2 ** (levels - 1)
        in_channels, out_channels = in_channels * patch_size**2, out_channels * patch_size**2
        dims = [dim * 2**level for level in range(levels)]
        # As in Restormer, the top level concatenates its skip without a 1x1 reduction, so it decodes 2 * dim channels.
        top = 2 * dim if levels > 1 else dim
        decoder_dims = [top, *dims[1:-1]]

        def stack(count: int, width: int, level: int) -> BlockStack:
            return BlockStack(count, width, heads[level], expansion, embedding)

        self.stem = nn.Conv2d(in_channels, dim, 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(stack(num_blocks[i], dims[i], i) for i in range(levels - 1))
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(d, d // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2)) for d in dims[:-1]
        )
        self.latent = stack(num_blocks[-1], dims[-1], levels - 1)
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(d, 2 * d, 3, padding=1, bias=False), nn.PixelShuffle(2)) for d in dims[1:]
        )
        self.reduce = nn.ModuleList(nn.Conv2d(2 * d, d, 1, bias=False) for d in dims[1:-1])
        self.decoder = nn.ModuleList(stack(num_blocks[i], decoder_dims[i], i) for i in range(levels - 1))
        self.refinement = stack(num_refinement_blocks, top, 0)
        self.output = nn.Conv2d(top, out_channels, 3, padding=1, bias=False)

    def transformed(self, image: Tensor, condition: Tensor, transform: int) -> Tensor:
        """Apply the network under a dihedral transform, to an image of any size.

        Args:
            image: (B, in_channels, H, W); reflect-padded at the bottom and right to a multiple of `size_multiple`.
            condition: (B, E).
            transform: the input is transformed, and the output transformed back.

        Returns:
            (B, out_channels, H, W).
        """
        image = dihedral(image, transform)
        height, width = image.shape[-2:]
        image = extend(image, (0, -height % self.size_multiple), (0, -width % self.size_multiple), "reflect")
        unshuffled = F.pixel_unshuffle(image, self.patch_size).contiguous(memory_format=torch.channels_last)
        out = F.pixel_shuffle(self(unshuffled.to(self.stem.weight.dtype), condition), self.patch_size).to(image)
        return dihedral_inverse(out[..., :height, :width], transform)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Unshuffled image (B, C, H, W), sides multiples of 2 ** (levels - 1), condition (B, E) -> (B, C', H, W)."""
        x, skips = self.stem(x), []
        for blocks, down in zip(self.encoder, self.down, strict=True):
            x = blocks(x, condition)
            skips.append(x)
            x = down(x)
        x = self.latent(x, condition)
        for level in reversed(range(len(self.decoder))):
            x = torch.cat([self.up[level](x), skips[level]], 1)
            if level > 0:
                x = self.reduce[level - 1](x)
            x = self.decoder[level](x, condition)
        x = self.refinement(x, condition)
        return self.output(x)


class ModulatedNetwork(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers' own clash over config_name
    """The base of both networks: a U-Net modulated by time and kernel, over a noise schedule.

    in_channels, out_channels: of the U-Net at full resolution. Raises ParameterError for an argument out of range.
    """

    config: Any
    """Arguments of the subclass's constructor by name; set before this constructor is called."""
    residual_std: float
    """tau: RMS of the predicted image (x - x_y for `MCFormer`) after normalisation, see `relative_error`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        _check(self.config)
        c, dim, embedding = self.config, self.config.dim, self.config.embedding_dim
        sizes = dim, c.num_blocks, c.num_refinement_blocks, c.heads, c.expansion, embedding, c.get("patch_size", 1)
        self.unet = ModulatedUNet(in_channels, out_channels, *sizes)
        self.time_mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.Mish(), nn.Linear(4 * dim, embedding))
        self.kernel_mlp = nn.Sequential(
            nn.Linear(c.kernel_size**2, embedding), nn.Mish(), nn.Linear(embedding, embedding)
        )

    def to(self, *args: Any, **kwargs: Any) -> Self:  # type: ignore[override]
        """Move the network, as in torch; diffusers' own method warns about float32 for every network."""
        nn.Module.to(self, *args, **kwargs)
        return self

    @property
    def alpha_bar(self) -> Tensor:
        """alpha_bar_t of the noise schedule, (1000,), on the network's device."""
        return alpha_bar_on(self.config.noise_schedule, self.device)

    @property
    def size_multiple(self) -> int:
        """The network reflect-pads HR images to a multiple of this."""
        return self.unet.size_multiple

    @property
    def channels_per_pixel(self) -> float:
        """Channels of the top level per HR pixel."""
        return self.config.dim / self.unet.patch_size**2

    def relative_error(self, timestep: Tensor) -> float:
        """sigma_t / sqrt(sigma_t^2 + tau^2): RMS error of a linear estimate of an image of RMS tau, divided by tau."""
        a = float(self.alpha_bar[timestep])
        sigma2 = (1 - a) / a
        return float((sigma2 / (sigma2 + self.residual_std**2)) ** 0.5)

    def check_scale(self, scale: int) -> None:
        """Raise ParameterError if the network was not trained for a scale."""
        if scale not in self.config.scales:
            supported = ", ".join(map(str, self.config.scales))
            raise ParameterError(f"scale {scale} is not one of the network's: {supported}")


def _check(config: Any) -> None:
    """Raise ParameterError for invalid arguments of a network."""
    for name in ("embedding_dim", "expansion", "patch_size", "estimator_hidden", "image_std", "residual_std"):
        if name in config and not config[name] > 0:
            raise ParameterError(f"{name}: {config[name]} is not above 0")
    dim, num_blocks, heads, kernel_size = config.dim, config.num_blocks, config.heads, config.kernel_size
    if not num_blocks:
        raise ParameterError("num_blocks is empty; at least one level is needed")
    if len(heads) != len(num_blocks):
        raise ParameterError(f"heads has {len(heads)} entries, but num_blocks has {len(num_blocks)}")
    if dim < 2 or dim % 2:
        raise ParameterError(f"dim {dim} is not a positive even number")
    for level, count in enumerate(heads):
        if count < 1 or dim * 2**level % count:
            raise ParameterError(f"{count} heads do not divide the {dim * 2**level} channels of level {level + 1}")
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ParameterError(f"kernel_size {kernel_size} is not odd and positive")
    betas(config.noise_schedule)  # raises for an unknown name
