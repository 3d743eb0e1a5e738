"""The nodes *Blind restore* and *Estimate kernel*, and the list of all nodes.

Each image of a batch is treated alone, with the same seed, so that its result does not depend on the others.
"""

from typing import Any

import comfy.model_management
import comfy.utils
import numpy as np
import torch
from comfy_api.latest import ComfyExtension, io
from torch import Tensor

from blinddiff.cli.photographs import describe_estimate
from blinddiff.degradation import SCALES
from blinddiff.restoring.photograph import MAX_FACTOR, RestoreSettings, restore_photograph

from .conversions import images_of, in_words, kernels_of, masks_of, photographs_of, pictures_of, std_of
from .kernel_nodes import Degrade, LoadKernel
from .shared import CATEGORY, JPEG_STEP, Kernel, kernel_input, outside_inference_mode, pipeline, seed_input

MODES = ("fidelity", "fast", "perceptual")
"""The modes of the included weights."""


class BlindRestore(io.ComfyNode):
    """Restores photographs with the blur kernel that they have, or a given one."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="BlindDiffRestore",
            display_name="Blind restore",
            category=CATEGORY,
            description="Deblurs, denoises and enlarges a photograph; its blur kernel and noise level are estimated.",
            inputs=[
                io.Image.Input("image"),
                io.Float.Input("scale", default=4.0, min=1.0, max=float(MAX_FACTOR), step=0.5),
                io.Combo.Input("mode", options=list(MODES), default=MODES[0]),
                seed_input(),
                kernel_input("the blur kernel, if it is known"),
                io.Float.Input(
                    "noise_level",
                    default=-1.0,
                    min=-1.0,
                    max=255.0,
                    step=0.1,
                    optional=True,
                    tooltip="standard deviation of the noise in grey levels, if it is known; -1: estimated",
                ),
                io.Int.Input("steps", default=0, min=0, max=1000, optional=True, tooltip="0: the default of the mode"),
                io.Int.Input(
                    "samples",
                    default=1,
                    min=1,
                    max=64,
                    optional=True,
                    tooltip="restorations with different noise; the result is their mean",
                ),
                JPEG_STEP,
                io.Mask.Input(
                    "mask", optional=True, tooltip="white where the image is not to be believed, such as scratches"
                ),
            ],
            outputs=[
                io.Image.Output("restored", "restored"),
                io.Image.Output("kernel_picture", "kernel picture"),
                io.Image.Output(
                    "std", "std", tooltip="differences between the samples, the largest white; black for one"
                ),
                io.String.Output("measurements", "measurements"),
                Kernel.Output("estimated_kernel", "estimated kernel"),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        scale: float,
        mode: str,
        seed: int,
        kernel: Tensor | None = None,
        noise_level: float = -1.0,
        steps: int = 0,
        samples: int = 1,
        jpeg_step: float = 0.0,
        mask: Tensor | None = None,
    ) -> Any:
        settings = RestoreSettings(
            scale=scale,
            mode=mode,
            seed=seed,
            steps=steps or None,
            samples=samples,
            noise_level=None if noise_level < 0 else noise_level,
        )
        with outside_inference_mode():
            photographs = photographs_of(image, jpeg_step)
            kernels, masks = kernels_of(kernel, len(photographs)), masks_of(mask, photographs)
            bar = comfy.utils.ProgressBar(1000 * len(photographs))
            results = []
            for index, (photograph, given, hidden) in enumerate(zip(photographs, kernels, masks, strict=True)):

                def show(share: float, index: int = index) -> None:
                    comfy.model_management.throw_exception_if_processing_interrupted()
                    bar.update_absolute(round(1000 * (index + share)))

                results.append(
                    restore_photograph(pipeline(), photograph, settings, given, on_progress=show, mask=hidden)
                )
            return io.NodeOutput(
                images_of([result.pixels for result in results]),
                pictures_of([result.kernel for result in results]),
                images_of([std_of(result) for result in results]),
                "\n".join(map(in_words, results)),
                torch.from_numpy(np.stack([result.kernel for result in results])),
            )


class EstimateKernel(io.ComfyNode):
    """Estimates blur kernels and noise levels only."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="BlindDiffEstimateKernel",
            display_name="Estimate kernel",
            category=CATEGORY,
            description="Estimates a photograph's blur kernel, in pixels of a result at this scale, and its noise.",
            inputs=[
                io.Image.Input("image"),
                io.Int.Input("scale", default=4, min=SCALES[0], max=SCALES[-1]),
                JPEG_STEP,
            ],
            outputs=[
                Kernel.Output("estimated_kernel", "estimated kernel"),
                io.Image.Output("kernel_picture", "kernel picture"),
                io.Float.Output("noise_level", "noise level", tooltip="of the first image, in grey levels"),
                io.String.Output("measurements", "measurements"),
            ],
        )

    @classmethod
    def execute(cls, image: Tensor, scale: int, jpeg_step: float = 0.0) -> Any:
        with outside_inference_mode():
            found = [pipeline().estimate(p.pixels, scale, p.jpeg_step) for p in photographs_of(image, jpeg_step)]
            kernels = torch.cat([each.kernel for each in found])
            text = "\n".join(describe_estimate(each, scale, jpeg_step) for each in found)
            return io.NodeOutput(kernels, pictures_of(kernels), float(found[0].noise_level[0]), text)


class BlindDiffExtension(ComfyExtension):
    """All nodes of the pack."""

    async def get_node_list(self) -> list[type[Any]]:
        return [BlindRestore, EstimateKernel, LoadKernel, Degrade]


async def comfy_entrypoint() -> BlindDiffExtension:
    """Called by ComfyUI when it loads the pack."""
    return BlindDiffExtension()
