"""The nodes *Load kernel* and *Apply kernel / degrade*, which do without the network."""

from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io
from torch import Tensor

from blinddiff.cli.degrading import KERNEL_SIZE
from blinddiff.degradation import NOISES, SCALES, DegradationOperator
from blinddiff.degradation.kernel_files import KERNEL_ENDINGS, read_kernel
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.errors import ImageError
from blinddiff.files import file_hash

from .conversions import images_of, kernels_of, photographs_of, pictures_of
from .shared import CATEGORY, Kernel, kernel_input, outside_inference_mode, seed_input


class LoadKernel(io.ComfyNode):
    """Reads a kernel from a file in ComfyUI's folder of inputs."""

    @classmethod
    def define_schema(cls) -> Any:
        folder = Path(folder_paths.get_input_directory())
        files = sorted(path.name for path in folder.glob("*") if path.suffix.lower() in KERNEL_ENDINGS)
        return io.Schema(
            node_id="BlindDiffLoadKernel",
            display_name="Load kernel",
            category=CATEGORY,
            description="Reads a blur kernel, such as one that `blinddiff kernel` wrote, from the folder of inputs.",
            inputs=[io.Combo.Input("file", options=files)],
            outputs=[
                Kernel.Output("loaded_kernel", "loaded kernel"),
                io.Image.Output("kernel_picture", "kernel picture"),
            ],
        )

    @classmethod
    def execute(cls, file: str) -> Any:
        kernel = torch.from_numpy(read_kernel(folder_paths.get_annotated_filepath(file)))[None]
        return io.NodeOutput(kernel, pictures_of(kernel))

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        """ComfyUI reads the file again when its content has changed."""
        return file_hash(folder_paths.get_annotated_filepath(file))


class Degrade(io.ComfyNode):
    """Blurs and reduces sharp images, and adds noise: the model that the other nodes invert."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="BlindDiffDegrade",
            display_name="Apply kernel / degrade",
            category=CATEGORY,
            description="Blurs an image with a kernel, or a Gaussian, reduces it by the scale, and adds noise.",
            inputs=[
                io.Image.Input("image"),
                io.Int.Input("scale", default=4, min=SCALES[0], max=SCALES[-1]),
                io.Float.Input(
                    "sigma", default=1.6, min=0.1, max=8.0, step=0.1, tooltip="of the Gaussian; not used with a kernel"
                ),
                io.Float.Input("noise", default=0.0, min=0.0, max=255.0, step=0.1, tooltip="in grey levels"),
                io.Int.Input("jpeg_quality", default=0, min=0, max=100, tooltip="0: no JPEG compression"),
                seed_input(),
                kernel_input("the blur kernel, in pixels of the image"),
            ],
            outputs=[
                io.Image.Output("degraded", "degraded"),
                io.Image.Output("kernel_picture", "kernel picture"),
                Kernel.Output("used_kernel", "used kernel"),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        scale: int,
        sigma: float,
        noise: float,
        jpeg_quality: int,
        seed: int,
        kernel: Tensor | None = None,
    ) -> Any:
        with outside_inference_mode():
            gaussian = isotropic_gaussian(sigma, KERNEL_SIZE)
            photographs = photographs_of(image)
            kernels = [gaussian if k is None else torch.from_numpy(k) for k in kernels_of(kernel, len(photographs))]
            degraded = []
            for photograph, each in zip(photographs, kernels, strict=True):
                height, width = (side // scale * scale for side in photograph.pixels.shape[-2:])
                if not height or not width:
                    raise ImageError(f"an image smaller than {scale} pixels cannot be reduced by {scale}")
                generator = torch.Generator().manual_seed(seed)
                y = DegradationOperator(each, scale)(torch.from_numpy(photograph.pixels)[None, :, :height, :width])
                y = NOISES["gaussian"].apply(y, torch.tensor([noise]), generator)
                if jpeg_quality:
                    y = NOISES["jpeg"].apply(y, torch.tensor([float(jpeg_quality)]), generator)
                degraded.append(y[0].clamp(0, 1).numpy())
            return io.NodeOutput(images_of(degraded), pictures_of(kernels), torch.stack(kernels))
