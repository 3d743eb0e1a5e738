"""The U-shaped stack of modulated blocks, shared by all variants of MCFormer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from blinddiff.models.blocks import BlockStack


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
