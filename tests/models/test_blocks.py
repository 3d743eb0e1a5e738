"""The blocks of MCFormer, against their formulas written out."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blinddiff.models.unet import (
    BlockStack,
    GatedFeedForward,
    ModulatedBlock,
    ModulatedLayerNorm,
    TransposedAttention,
    sinusoidal_embedding,
)


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Every parameter away from its start, so that none can be forgotten unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def features(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def restormer_attention(attention: TransposedAttention, x: Tensor) -> Tensor:
    """MDTA as in the Restormer paper: softmax(temperature * K^ Q^T) V with rows normalised over the pixels."""
    batch, channels, height, width = x.shape
    qkv = F.conv2d(x, attention.qkv.weight)
    qkv = F.conv2d(qkv, attention.qkv_depthwise.weight, padding=1, groups=3 * channels)
    q, k, v = (part.reshape(batch, attention.heads, -1, height * width) for part in qkv.split(channels, 1))
    q, k = (part / part.norm(dim=-1, keepdim=True).clamp_min(1e-12) for part in (q, k))
    weights = (torch.einsum("bhcn,bhdn->bhcd", q, k) * attention.temperature).softmax(-1)
    out = torch.einsum("bhcd,bhdn->bhcn", weights, v).reshape(batch, channels, height, width)
    return F.conv2d(out, attention.project.weight)


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("size", [(6, 9), (1, 1), (16, 5)])
def test_attention_is_restormers(heads: int, size: tuple[int, int]) -> None:
    attention = TransposedAttention(8, heads)
    randomise(attention)
    x = features(2, 8, *size)
    torch.testing.assert_close(attention(x), restormer_attention(attention, x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("factor", [1e-5, 1e3])
def test_attention_normalises_features_of_any_magnitude(factor: float) -> None:
    attention = TransposedAttention(8, 2)
    x = factor * features(1, 8, 6, 6)
    torch.testing.assert_close(attention(x) / factor, restormer_attention(attention, x) / factor, atol=1e-5, rtol=1e-4)


def test_attention_has_restormers_gradients() -> None:
    attention = TransposedAttention(8, 2)
    randomise(attention)
    ours, theirs = (features(2, 8, 5, 6).requires_grad_() for _ in range(2))
    attention(ours).square().sum().backward()
    restormer_attention(attention, theirs).square().sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4)


def test_attention_to_a_dead_channel_has_finite_gradients() -> None:
    attention = TransposedAttention(8, 2)
    x = torch.zeros(1, 8, 5, 5, requires_grad=True)
    attention(x).sum().backward()
    assert x.grad is not None
    for gradient in (x.grad, *(p.grad for p in attention.parameters() if p.grad is not None)):
        assert torch.isfinite(gradient).all()


def test_feed_forward_is_gated() -> None:
    block = GatedFeedForward(6, 2.66)
    randomise(block)
    hidden = 15  # int(2.66 * 6)
    assert block.project_in.weight.shape == (2 * hidden, 6, 1, 1)
    x = features(2, 6, 7, 5)
    inner = F.conv2d(F.conv2d(x, block.project_in.weight), block.depthwise.weight, padding=1, groups=2 * hidden)
    gate, value = inner[:, :hidden], inner[:, hidden:]
    gelu = gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2)))
    torch.testing.assert_close(block(x), F.conv2d(gelu * value, block.project_out.weight), atol=1e-5, rtol=1e-5)


def test_layer_norm_modulation() -> None:
    norm = ModulatedLayerNorm(6)
    randomise(norm)
    x, shift, scale = features(2, 6, 4, 3), features(2, 6, seed=2), features(2, 6, seed=3)
    mean, variance = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
    per_channel = (..., None, None)
    plain = (x - mean) / (variance + 1e-5).sqrt() * norm.weight[per_channel] + norm.bias[per_channel]
    expected = plain * (1 + scale[per_channel]) + shift[per_channel]
    torch.testing.assert_close(norm(x, shift, scale), expected, atol=1e-5, rtol=1e-5)


def test_block_is_two_modulated_residual_branches() -> None:
    block = ModulatedBlock(8, 2, 2.0, 5)
    randomise(block)
    x, condition = features(2, 8, 6, 6), features(2, 5, seed=2)
    mish = condition * torch.tanh(F.softplus(condition))
    shift_a, scale_a, shift_f, scale_f = F.linear(mish, block.modulation.weight, block.modulation.bias).split(8, 1)
    middle = x + block.attention(block.norm_attention(x, shift_a, scale_a))
    expected = middle + block.feed_forward(block.norm_feed_forward(middle, shift_f, scale_f))
    torch.testing.assert_close(block(x, condition), expected, atol=1e-5, rtol=1e-5)
    other = block(x, condition.flip(0))
    assert (other - expected).abs().mean() > 0.1, "the condition has to matter"


def test_stack_runs_its_blocks_in_order() -> None:
    stack = BlockStack(3, 8, 2, 2.0, 5)
    randomise(stack)
    x, condition = features(1, 8, 4, 4), features(1, 5, seed=2)
    expected = x
    for block in stack:
        expected = block(expected, condition)
    torch.testing.assert_close(stack(x, condition), expected)
    assert torch.equal(BlockStack(0, 8, 2, 2.0, 5)(x, condition), x)


def test_memory_format_changes_nothing() -> None:
    block = ModulatedBlock(8, 2, 2.0, 5)
    randomise(block)
    x, condition = features(2, 8, 6, 7), features(2, 5, seed=2)
    block.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fast = block(x.contiguous(memory_format=torch.channels_last), condition)
    torch.testing.assert_close(fast, block(x, condition), atol=1e-5, rtol=1e-5)


def test_sinusoidal_embedding() -> None:
    embedding = sinusoidal_embedding(torch.tensor([0, 7, 999]), 6)
    assert embedding.shape == (3, 6)
    for row, t in zip(embedding.tolist(), (0, 7, 999), strict=True):
        angles = [t * 10_000 ** (-i / 3) for i in range(3)]
        assert row == pytest.approx([*map(math.sin, angles), *map(math.cos, angles)], abs=1e-4)
