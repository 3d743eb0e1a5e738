"""Reading the checkpoints of the published BlindDiff code: their names and shapes, as ours.

Source of names and shapes: the public code of arXiv 2403.10211, as recorded in state dicts.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from blinddiff.errors import WeightsError
from blinddiff.published.network import PublishedMCFormer

LEVELS = 4
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
"""Beginnings of their names and of ours; {} is the level, counted from 0 instead of 1."""


def read_published(path: Path) -> dict[str, Tensor]:
    """The state dict of a published checkpoint: ``.pth`` with ``params_ema``, ``params`` or bare, or ``.safetensors``.

    Raises:
        WeightsError: missing, unreadable, or no state dict. Files are read as data; code in them is never run.
    """
    if not os.path.isfile(path):
        raise WeightsError(f"{path}: no such file")
    try:
        content: Any
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and safetensors raise errors of many kinds
        reason = " ".join(str(error).split())[:200] or "it is empty or cut short"  # an EOFError says nothing
        raise WeightsError(f"{path}: cannot be read as weights: {reason}") from error
    for key in ("params_ema", "params", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path}: holds no state dict")
    return {re.sub(r"^(module|state_dict)\.", "", str(name)): value for name, value in content.items()}


def network_from_published(state: Mapping[str, Tensor], scale: int = 4) -> PublishedMCFormer:
    """The network with the weights of a published state dict, its architecture read off the shapes.

    Args:
        state: as `read_published` gives it.
        scale: what the network was trained for, which no shape tells; 4 in all published settings.

    Raises:
        WeightsError: a tensor is missing, left over, or of a shape that no such network has.
    """
    try:
        dim = state["patch_embed.proj.weight"].shape[0]
        top, deepest = state["encoder_level1.0.ffn.project_out.weight"], state["latent.0.ffn.project_out.weight"]
        kernel_entries = state["k_mlp.0.weight"].shape[1]
        stages = [*(f"encoder_level{level}" for level in range(1, LEVELS)), "latent"]
        heads = [state[f"{stage}.0.attn.temperature"].shape[0] for stage in stages]
    except KeyError as error:
        raise WeightsError(f"not a checkpoint of the published BlindDiff: {error.args[0]} is missing") from error
    expansion = EXPANSION
    if top.shape[1] != int(dim * EXPANSION):
        expansion = (deepest.shape[1] + 0.5) / deepest.shape[0]
    network = PublishedMCFormer(
        dim=dim,
        num_blocks=[_count(state, stage) for stage in stages],
        num_refinement_blocks=_count(state, "refinement"),
        heads=heads,
        expansion=expansion,
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
