"""The weights that ship with the package."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from blinddiff.errors import WeightsError
from blinddiff.models.mcformer import MCFormer

DEFAULT_WEIGHTS = Path(__file__).parents[1] / "weights" / "default"


def weights_folder(weights: str | Path) -> Path | None:
    """The folder that holds a network: the one named, or the part of a pipeline's; None for a repository of the hub.

    Raises:
        WeightsError: there is no such folder, or no weights in it.
    """
    folder = Path(weights)
    # os.path, for what cannot be a name is no folder: Path raises. A name below a folder that exists is a mistyped
    # folder, not a repository.
    if not os.path.exists(folder.parent) and re.fullmatch(r"[\w.-]+/[\w.-]+", str(weights)) is not None:
        return None
    if not os.path.isdir(folder):
        raise WeightsError(f"{weights}: no such folder of weights")
    folder = folder / "network" if os.path.isdir(folder / "network") else folder
    if not os.path.isfile(folder / "config.json"):
        raise WeightsError(f"{weights}: holds no weights: config.json is missing")
    return folder


def check_fit(config: Mapping[str, Any], file: Path) -> None:
    """Compare names and shapes; the numbers themselves are not read.

    Args:
        config: of an `MCFormer`, as read from config.json: any values.
        file: the weights, .safetensors.

    Raises:
        WeightsError: they are those of another network; the line does not name the folder.
        Exception: of whatever type, from a damaged file or impossible values.
    """
    with safe_open(file, "pt") as weights:
        stored = {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    # A network without memory for its weights still has its modules: no more of them than there are weights.
    blocks = sum(config.get("num_blocks", ())) + config.get("num_refinement_blocks", 0)
    if blocks > len(stored):
        raise WeightsError(f"does not fit its config.json: {blocks} blocks, {len(stored)} weights")
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in MCFormer.from_config(config).state_dict().items()}
    for what, names in (("missing", expected.keys() - stored.keys()), ("unexpected", stored.keys() - expected.keys())):
        if names:
            raise WeightsError(f"does not fit its config.json: {len(names)} {what} weights, as {min(names)}")
    for name, shape in expected.items():
        if stored[name] != shape:
            raise WeightsError(f"does not fit its config.json: {name} has the shape {stored[name]}, not {shape}")
