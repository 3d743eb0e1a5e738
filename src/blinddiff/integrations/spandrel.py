"""The network as an architecture of spandrel, the model loader of chaiNNer, ComfyUI and similar programs.

spandrel gets a state dict alone, without config.json, and each of its models has one scale. So the network's size is
read from the shapes of the weights, and the scale from a tensor in the file, `SCALE_KEY`.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.utils.constants import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file, save
from spandrel import MAIN_REGISTRY, Architecture, ArchSupport, ImageModelDescriptor, ModelTiling, SizeRequirements
from torch import Tensor

from blinddiff.degradation import SCALES
from blinddiff.errors import WeightsError
from blinddiff.files import DEFAULT_WEIGHTS, FilePath, write_file
from blinddiff.models.loading import weights_folder
from blinddiff.models.mcformer import MCFormer
from blinddiff.sampling.decision import SMALLEST_SIDE
from blinddiff.sampling.pipeline import BlindDiffPipeline, load_denoiser
from blinddiff.sampling.schedulers import default_scheduler

SCALE_KEY = "output_scale"
"""Key of the scale in a file for spandrel, an integer tensor of shape (); a file without it has scale 4."""
DEFAULT_SCALE = 4
SEED = 0
"""Of the noise at every call: the same image gives the same result, that of the command line's default seed."""
_RECOGNISED_BY = {"unet.stem.weight", "unet.output.weight", "estimator.head.weight", "scale_embedding.weight"}


def network_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of `MCFormer` that give weights of these shapes; those without a shape have their defaults.

    Raises WeightsError if the network has other scales than 1 to 4, which the shapes do not tell.
    """

    def blocks(stack: str) -> int:
        return len({name.removeprefix(f"{stack}.").split(".")[0] for name in state if name.startswith(f"{stack}.")})

    dim, inputs = state["unet.stem.weight"].shape[:2]
    stacks = [*(f"unet.encoder.{level}" for level in range(blocks("unet.encoder"))), "unet.latent"]
    hidden = state["unet.latent.0.feed_forward.project_out.weight"].shape
    kernel_and_level, estimator_hidden = state["estimator.head.weight"].shape
    if len(state["scale_embedding.weight"]) != len(SCALES):
        raise WeightsError(
            f"a network for other scales than {', '.join(map(str, SCALES))} cannot be loaded by spandrel"
        )
    return {
        "dim": dim,
        "num_blocks": [blocks(stack) for stack in stacks],
        "num_refinement_blocks": blocks("unet.refinement"),
        "heads": [len(state[f"{stack}.0.attention.temperature"]) for stack in stacks],
        "expansion": hidden[1] / hidden[0],
        "embedding_dim": len(state["time_mlp.2.weight"]),
        "patch_size": math.isqrt(inputs // 9),  # 9 channels: z, x_y and the bicubic image
        "kernel_size": math.isqrt(kernel_and_level - 1),
        "estimator_hidden": estimator_hidden,
    }


class BlindDiffArch(Architecture[MCFormer]):  # type: ignore[misc]  # spandrel's types are not read
    """The architecture of `MCFormer` files for spandrel's registries."""

    def __init__(self) -> None:
        super().__init__(id="BlindDiff", name="BlindDiff", detect=lambda state: state.keys() >= _RECOGNISED_BY)

    def load(self, state_dict: Mapping[str, Tensor]) -> Any:
        """A descriptor of spandrel: (1, 3, h, w) in [0, 1] -> (1, 3, s*h, s*w) in [0, 1], s from `SCALE_KEY`, or 4.

        Raises WeightsError if the weights are not those of an `MCFormer`.
        """
        state = dict(state_dict)
        scale = int(state.pop(SCALE_KEY, DEFAULT_SCALE))
        if scale not in SCALES:
            raise WeightsError(f"{SCALE_KEY} {scale} is not one of {', '.join(map(str, SCALES))}")
        network = MCFormer(**network_config(state)).eval().requires_grad_(False)
        network._fix_state_dict_keys_on_load(state)
        pipeline = BlindDiffPipeline(network, default_scheduler(network))
        pipeline.set_progress_bar_config(disable=True)  # type: ignore[no-untyped-call]
        try:
            return ImageModelDescriptor(
                network,
                state,
                architecture=self,
                purpose="Restoration" if scale == 1 else "SR",
                tags=[f"{network.config.dim}dim"],
                supports_half=True,
                supports_bfloat16=True,
                scale=scale,
                input_channels=3,
                output_channels=3,
                size_requirements=SizeRequirements(minimum=SMALLEST_SIDE),
                tiling=ModelTiling.INTERNAL,
                call_fn=lambda _, image: _restore(pipeline, scale, image),
            )
        except RuntimeError as error:  # of load_state_dict, several lines long
            message = " ".join(str(error).split())[:300]
            raise WeightsError(f"the weights are not those of an MCFormer: {message}") from error


def _restore(pipeline: BlindDiffPipeline, scale: int, image: Tensor) -> Tensor:
    """Run the pipeline in mode fidelity; dtype and device are those of the image."""
    # spandrel calls in inference mode; what the package caches there could not be used with a gradient later.
    with torch.inference_mode(False):
        generator = torch.Generator().manual_seed(SEED)
        out = pipeline(image.clamp(0, 1), scale=scale, generator=generator, output_type="pt")
        return out.images.to(image)


def install() -> None:
    """Register the architecture with spandrel's main registry, which all its loaders use; again, it does nothing."""
    MAIN_REGISTRY.add(ArchSupport.from_architecture(BlindDiffArch()), ignore_duplicates=True)


def export(path: FilePath, scale: int = DEFAULT_SCALE, weights: FilePath | None = None) -> None:
    """Write one file for programs with spandrel, which restores at one scale.

    Args:
        path: the new file, ``*.safetensors``.
        scale: 1, 2, 3 or 4.
        weights: a folder of weights; None for the included weights.

    Raises:
        WeightsError: the scale is not 1 to 4, the folder holds no weights, or they could not be recognised by shapes.
        OutputError: the file cannot be written.
    """
    source = DEFAULT_WEIGHTS if weights is None else Path(weights)
    folder = weights_folder(source)
    if folder is None:
        raise WeightsError(f"{source}: no such folder of weights")
    if scale not in SCALES:
        raise WeightsError(f"scale {scale} is not one of {', '.join(map(str, SCALES))}")
    options = _options(load_denoiser(folder))
    state = load_file(folder / SAFETENSORS_WEIGHTS_NAME)
    if not BlindDiffArch().detect(state) or _options(MCFormer(**network_config(state))) != options:
        raise WeightsError(f"{source}: the options of this network cannot be recognised from the shapes of its weights")
    write_file(path, save({**state, SCALE_KEY: torch.tensor(scale)}))


def _options(network: Any) -> Any:
    """The arguments of a network's constructor, with lists for sequences."""
    return json.loads(json.dumps({name: value for name, value in network.config.items() if not name.startswith("_")}))
