"""A picture of how training goes: inputs, closed form, prediction and truth side by side."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from blinddiff.atomic import write_file
from blinddiff.degradation import bicubic_upsample, closed_form
from blinddiff.models.mcformer import MCFormer
from blinddiff.training.degrade import Pairs


@torch.no_grad()
def write_sheet(path: Path, network: MCFormer, pairs: Pairs) -> None:
    """One row an example: y enlarged, the closed form, one call from pure noise, the truth."""
    network.eval()
    first = network.estimate(pairs.y, pairs.scale)
    x_y = closed_form(pairs.y, first.kernel, first.noise_level, pairs.scale)
    last = len(network.alpha_bar) - 1
    noise = torch.randn(x_y.shape, generator=torch.Generator().manual_seed(0)).to(x_y)
    t = torch.full((len(x_y),), last, device=x_y.device)
    x_t = network.add_noise(x_y, t[0], noise)
    x0_hat = network(x_t, t, pairs.y, pairs.scale, first.kernel, first.noise_level, x_y).x0_hat
    columns = torch.cat([bicubic_upsample(pairs.y, pairs.scale), x_y, x0_hat, pairs.x], 3)
    pixels = (columns.clamp(0, 1) * 255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).flatten(0, 1).numpy()
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG")
    write_file(path, buffer.getvalue())
