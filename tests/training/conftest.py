"""Photographs, recipes and networks small enough to train in a test."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

from blinddiff.training.recipe import Recipe, parse_recipe

TINY_MODEL: dict[str, Any] = {
    "dim": 8,
    "num_blocks": [1, 1],
    "heads": [1, 1],
    "patch_size": 4,
    "kernel_size": 21,
    "estimator_hidden": 32,
    "embedding_dim": 16,
}


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three photographs."""
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("cat", "coffee", "astronaut"):
        pixels: np.ndarray = getattr(skimage.data, name)()
        Image.fromarray(pixels[:288, :320]).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def tiny(photographs: Path) -> Callable[..., Recipe]:
    """Makes a small recipe on the photographs; keyword arguments go over its keys, nested mappings key by key."""

    def make(**changes: Any) -> Recipe:
        content: dict[str, Any] = {
            "data": {"folders": [str(photographs)], "context": 64, "patch": 32, "batch": 4},
            "model": copy.deepcopy(TINY_MODEL),
            "degradation": {"scales": {2: 0.5, 4: 0.5}, "kernels": {"isotropic": 1.0}},
            "loss": {"kernel": 0.3, "noise_level": 0.1},
            "steps": 60,
            "warmup": 5,
            "learning_rate": 3e-3,
        }
        for key, value in changes.items():
            content[key] = {**content[key], **value} if isinstance(content.get(key), dict) else value
        (recipe,) = parse_recipe(content, "recipe.yaml")
        return recipe

    return make
