"""What the nodes share: types, inputs and the pipeline."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import torch
from comfy_api.latest import io

from blinddiff.restoring.engines import load_pipeline

CATEGORY = "image/blinddiff"
LARGEST_SEED = 2**63 - 1
Kernel = io.Custom("BLINDDIFF_KERNEL")

JPEG_STEP = io.Float.Input(
    "jpeg_step",
    default=0.0,
    min=0.0,
    max=255.0,
    step=0.1,
    optional=True,
    tooltip="mean luma quantisation step of the JPEG file that the image comes from; 0 for none or unknown",
)


def kernel_input(tooltip: str) -> Any:
    """An input for a kernel, or a grey picture of one with one pixel per entry."""
    return io.MultiType.Input("kernel", [Kernel, io.Image], optional=True, tooltip=tooltip)


def seed_input() -> Any:
    """An input for the seed of the noise."""
    tooltip = "seed of the noise; 0 gives the result of the command line"
    return io.Int.Input("seed", default=0, min=0, max=LARGEST_SEED, control_after_generate=True, tooltip=tooltip)


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """ComfyUI runs nodes in inference mode; what the package caches there could not be used with a gradient later."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def pipeline() -> Any:
    """The pipeline with the included weights on ComfyUI's device, loaded once."""
    return _pipeline(str(comfy.model_management.get_torch_device()))


@functools.cache
def _pipeline(device: str) -> Any:
    return load_pipeline(device=device)
