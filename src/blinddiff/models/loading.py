"""Loads networks from folders and from the hub; every error is one WeightsError of one line."""

import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.utils.constants import SAFETENSORS_WEIGHTS_NAME
from safetensors import safe_open

from blinddiff.errors import WeightsError
from blinddiff.models.mcformer import ADDED, current_name


def weights_folder(weights: str | os.PathLike[str]) -> Path | None:
    """The folder that holds a network, also inside a pipeline's folder; None for a repository of the hub.

    Raises WeightsError if there is no such folder, or no weights in it.
    """
    folder = Path(weights)
    # os.path, because Path raises for invalid names. A name below an existing folder is a mistyped folder, not a
    # repository.
    if not os.path.exists(folder.parent) and re.fullmatch(r"[\w.-]+/[\w.-]+", str(weights)) is not None:
        return None
    if not os.path.isdir(folder):
        raise WeightsError(f"{weights}: no such folder of weights")
    folder = folder / "network" if os.path.isdir(folder / "network") else folder
    if not os.path.isfile(folder / "config.json"):
        raise WeightsError(f"{weights}: holds no weights: config.json is missing")
    return folder


def load_network(
    weights: str | os.PathLike[str],
    architectures: Mapping[str, Any],
    name_of: Callable[[Mapping[str, Any]], str | None],
    **hub_options: Any,
) -> Any:
    """Load a network from a folder (of a pipeline, or of the network alone), or from a repository of the hub.

    Args:
        weights: the folder, or the repository's name.
        architectures: classes by name, each a `ModelMixin` of diffusers.
        name_of: returns the architecture's name in a config.
        **hub_options: options of diffusers' `from_pretrained`, such as ``revision``.

    Raises WeightsError for weights that are missing, damaged, or of another architecture.
    """
    folder = weights_folder(weights)
    source, subfolder = (str(weights), "network") if folder is None else (folder, None)
    try:
        with _quiet_libraries():
            config = next(iter(architectures.values())).load_config(source, subfolder=subfolder, **hub_options)
            name = name_of(config)
            if name is None or name not in architectures:
                raise WeightsError(f"holds {name or 'no named architecture'}, not {' or '.join(architectures)}")
            architecture = architectures[name]
            if folder is not None and (folder / SAFETENSORS_WEIGHTS_NAME).is_file():
                _check_fit(architecture, config, folder / SAFETENSORS_WEIGHTS_NAME)
            network, found = architecture.from_pretrained(
                source,
                subfolder=subfolder,
                use_safetensors=True,
                low_cpu_mem_usage=False,
                output_loading_info=True,
                **hub_options,
            )
    except WeightsError as error:
        raise WeightsError(f"{weights}: {error}") from error
    except Exception as error:  # diffusers raises errors of many kinds, from files, the hub and shapes alike
        raise WeightsError(f"{weights}: cannot be loaded as weights: {' '.join(str(error).split())[:300]}") from error
    for what in ("missing", "unexpected"):
        if names := sorted(found[f"{what}_keys"]):
            raise WeightsError(f"{weights}: does not fit its config.json: {len(names)} {what} weights, as {names[0]}")
    for name, value in network.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise WeightsError(f"{weights}: {name} has values that are not finite")
    return network


def _check_fit(architecture: Any, config: Mapping[str, Any], file: Path) -> None:
    """Compare names and shapes of the weights in a file with those of a config, before memory is allocated.

    Raises WeightsError, without the folder's name, if they differ; any exception for a damaged file.
    """
    with safe_open(file, "pt") as weights:
        stored = {current_name(name): tuple(weights.get_slice(name).get_shape()) for name in list(weights.keys())}
    # Modules take memory even on the meta device: bound their number by that of the weights.
    blocks = sum(config.get("num_blocks", ())) + config.get("num_refinement_blocks", 0)
    if blocks > len(stored):
        raise WeightsError(f"does not fit its config.json: {blocks} blocks, {len(stored)} weights")
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in architecture.from_config(config).state_dict().items()}
    lacking = {name for name in expected.keys() - stored.keys() if not name.startswith(ADDED)}
    for what, names in (("missing", lacking), ("unexpected", stored.keys() - expected.keys())):
        if names:
            raise WeightsError(f"does not fit its config.json: {len(names)} {what} weights, as {min(names)}")
    for name, shape in expected.items():
        if stored.get(name, shape) != shape:
            raise WeightsError(f"does not fit its config.json: {name} has the shape {stored[name]}, not {shape}")


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Suppress the libraries' logging of what is raised as an error."""
    loggers = [logging.getLogger(name) for name in ("diffusers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
