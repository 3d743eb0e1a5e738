"""Time a step of the published sampler against the same step with the published order of operations.

python scripts/benchmark_published_loop.py [--steps 3] [--threads 2] [--out results/performance/published_loop.json]

Both run the full network (26.5 M parameters, random weights) at 256x256 with the published guidance, alternating, so
that other load on the machine affects both. "As published" is the same computation in the published order, written out
below: contiguous memory format, attention between normalised queries and keys with a separate projection, layer norm
from means and variances.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from benchmark_record import write_record
from torch import Tensor
from torch.nn import functional as F

from blinddiff.degradation import Observation
from blinddiff.models.unet import ModulatedLayerNorm, TransposedAttention
from blinddiff.published.network import PublishedMCFormer
from blinddiff.published.sampler import PublishedGuidance
from blinddiff.sampling.schedulers import NoiseSource, make_scheduler

SCALE, SIDE, STEPS = 4, 256, 500


def full_network() -> PublishedMCFormer:
    """The published network with random weights."""
    torch.manual_seed(0)
    network = PublishedMCFormer(scales=(SCALE,))
    return network.eval().requires_grad_(False)


def plain_attention(self: TransposedAttention, x: Tensor) -> Tensor:
    """Multi-Dconv head transposed attention (MDTA), in the order of its formula."""
    batch, channels, height, width = x.shape
    qkv = self.qkv_depthwise(self.qkv(x))
    q, k, v = (part.reshape(batch, self.heads, -1, height * width) for part in qkv.chunk(3, 1))
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    attention = (q @ k.transpose(-2, -1) * self.temperature).softmax(-1)
    out: Tensor = self.project((attention @ v).reshape(batch, channels, height, width))
    return out


def plain_layer_norm(self: ModulatedLayerNorm, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm from the mean and variance over channels, on rows of pixels; modulated afterwards."""
    rows = x.flatten(2).transpose(1, 2).contiguous()
    mean, variance = rows.mean(-1, keepdim=True), rows.var(-1, keepdim=True, unbiased=False)
    normed = (rows - mean) / torch.sqrt(variance + self.eps) * self.weight + self.bias
    normed = normed.transpose(1, 2).reshape(x.shape).contiguous()
    return normed * (1 + scale[..., None, None]) + shift[..., None, None]


@contextmanager
def as_published() -> Iterator[None]:
    """Within this block, every network computes in the published order."""
    with (
        mock.patch.object(TransposedAttention, "forward", plain_attention),
        mock.patch.object(ModulatedLayerNorm, "forward", plain_layer_norm),
    ):
        yield


def step(network: PublishedMCFormer, x_t: Tensor, y: Tensor) -> tuple[float, Tensor]:
    """Seconds of one step of the loop, and x_{t-1}."""
    scheduler = make_scheduler("published", network, STEPS, torch.device("cpu"))
    noise = NoiseSource((1, 3, SIDE, SIDE), torch.Generator().manual_seed(1), torch.device("cpu"))
    started = time.perf_counter()
    t = scheduler.timesteps[0]
    x_t = x_t.detach().requires_grad_()
    observation = Observation(y, SCALE)
    prediction = network(x_t, t.expand(1), observation)
    x0_hat, shift = PublishedGuidance()(x_t, prediction.x0_hat, observation, prediction.degradation, 1.0)
    after = scheduler.step(x_t.detach(), t, network.normalize(x0_hat), prediction, noise).detach() + shift
    return time.perf_counter() - started, after


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/performance/published_loop.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    planar = full_network()
    ours = full_network().to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(0)
    x_t = torch.randn(1, 3, SIDE, SIDE, generator=generator)
    y = torch.rand(1, 3, SIDE // SCALE, SIDE // SCALE, generator=generator)
    times: dict[str, list[float]] = {"as published": [], "blinddiff": []}
    difference = 0.0
    for index in range(args.steps + 1):
        with as_published():
            published_seconds, published_x = step(planar, x_t, y)
        seconds, x = step(ours, x_t, y)
        difference = max(difference, float((x - published_x).abs().max()))
        if index:  # the first one warms up
            times["as published"].append(published_seconds)
            times["blinddiff"].append(seconds)
    ratios = [a / b for a, b in zip(times["as published"], times["blinddiff"], strict=True)]
    record = {
        "command": f"python scripts/benchmark_published_loop.py --steps {args.steps} --threads {args.threads}",
        "parameters": sum(p.numel() for p in ours.parameters()),
        "seconds_per_step": {name: round(statistics.median(values), 3) for name, values in times.items()},
        "ratio": round(statistics.median(ratios), 2),
        "ratio_least_most": [round(min(ratios), 2), round(max(ratios), 2)],
        "largest_difference_of_x": difference,
    }
    write_record(args.out, record)


if __name__ == "__main__":
    main()
