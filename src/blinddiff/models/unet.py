"""The U-shaped stack of modulated blocks, shared by all variants of MCFormer."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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

        Queries and keys are normalised in their small product instead of pixel by pixel, and the output projection is
        joined to the attention matrices: both are exact, and save a pass over the image each.
        """
        batch, channels, height, width = x.shape
        qkv = self.qkv_depthwise(self.qkv(x)).permute(0, 2, 3, 1).reshape(batch, height * width, 3, self.heads, -1)
        q, k, v = qkv.unbind(2)  # (B, H*W, heads, c)
        q, k = q.transpose(1, 2), k.transpose(1, 2)
        # Clamped before the root, whose gradient at 0 is infinite.
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
        """Make the block return its input, until it learns."""
        nn.init.zeros_(self.attention.project.weight)
        nn.init.zeros_(self.feed_forward.project_out.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, C, H, W), condition (B, E)."""
        shift_a, scale_a, shift_f, scale_f = self.modulation(F.mish(condition)).chunk(4, 1)
        x = x + self.attention(self.norm_attention(x, shift_a, scale_a))
        return x + self.feed_forward(self.norm_feed_forward(x, shift_f, scale_f))


class BlockStack(nn.ModuleList):
    """Blocks one after another, all under the same condition."""

    def __init__(self, count: int, dim: int, heads: int, expansion: float, embedding: int) -> None:
        super().__init__(ModulatedBlock(dim, heads, expansion, embedding) for _ in range(count))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, C, H, W), condition (B, E)."""
        for block in self:
            x = block(x, condition)
        return x


def sinusoidal_embedding(t: Tensor, dim: int) -> Tensor:
    """(B,) -> (B, dim): sines, then cosines, of t at dim / 2 frequencies from 1 falling towards 1e-4."""
    steps = torch.arange(dim // 2, dtype=torch.float32, device=t.device) / (dim // 2)
    angles = t.float()[:, None] * torch.exp(-math.log(1e4) * steps)
    return torch.cat([angles.sin(), angles.cos()], 1)


class ModulatedUNet(nn.Module):
    """Encoder, latent and decoder of modulated blocks with skip connections, then refinement blocks.

    Args:
        in_channels, out_channels: of the image at full resolution.
        dim: channels at the top; doubled at each level below.
        num_blocks: blocks at each level, top first; its length is the number of levels.
        num_refinement_blocks: blocks after the decoder, at the top.
        heads: attention heads at each level.
        expansion: of the feed-forward networks.
        embedding: length of the condition's embedding.

    Input sides must be multiples of 2 ** (levels - 1).
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
    ) -> None:
        super().__init__()
        levels = len(num_blocks)
        dims = [dim * 2**level for level in range(levels)]
        # At the top the skip is joined without a reduction, so decoding runs on twice the channels.
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

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Image (B, in_channels, H, W) and condition (B, E) -> (B, out_channels, H, W)."""
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
