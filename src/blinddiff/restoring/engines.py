"""Chooses and loads an engine: the pipeline of torch, or the light one of ONNX graphs."""

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from blinddiff.errors import need
from blinddiff.files import DEFAULT_WEIGHTS
from blinddiff.sampling.engine import Engine
from blinddiff.sampling.modes import DESCRIPTION

if TYPE_CHECKING:
    from blinddiff.sampling.pipeline import BlindDiffPipeline


def load_pipeline(weights: str | Path | None = None, device: str | None = None) -> "BlindDiffPipeline":
    """Load a pipeline as `BlindDiffPipeline.from_pretrained` does, without its progress bar: callers show their own.

    Raises BlindDiffError if torch is not installed.
    """
    need("without a folder of graphs as weights, this", "blinddiff[torch]", "torch", "diffusers")
    from blinddiff.sampling.pipeline import BlindDiffPipeline

    pipeline = BlindDiffPipeline.from_pretrained(weights, device)
    pipeline.set_progress_bar_config(disable=True)  # type: ignore[no-untyped-call]
    return pipeline


def load_engine(name: str = "auto", weights: str | Path | None = None, device: str | None = None) -> Engine:
    """Load an engine, see `engine_for`. ``weights`` is the folder of weights, or for onnx of graphs.

    Raises WeightsError if it cannot be used, and BlindDiffError if the engine's packages are not installed.
    """
    if engine_for(name, weights, device) == "torch":
        return load_pipeline(weights, device)
    need("the engine onnx", "blinddiff", "onnxruntime")
    from blinddiff.light.engine import Engine as LightEngine

    return LightEngine(DEFAULT_WEIGHTS if weights is None else weights)


def engine_for(name: str, weights: str | Path | None, device: str | None) -> str:
    """The engine that a name of `ENGINES` stands for.

    "auto" is onnx for a folder of graphs; without ``weights``, only if there is no accelerator to use.
    """
    if name != "auto":
        return name
    # os.path, because Path raises for invalid names
    if not os.path.isfile(os.path.join(DEFAULT_WEIGHTS if weights is None else weights, DESCRIPTION)):
        return "torch"
    return "torch" if weights is None and has_accelerator(device) else "onnx"


def default_mode(name: str, weights: str | Path | None, device: str | None) -> str:
    """The mode without a choice of one: that of the graphs, or "fidelity"."""
    if engine_for(name, weights, device) == "torch":
        return "fidelity"
    return load_engine("onnx", weights).modes[0]


def has_accelerator(device: str | None) -> bool:
    """Whether the engine torch is installed, and would use CUDA or MPS on a device, see `RestoreSettings`."""
    if device == "cpu" or importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()
