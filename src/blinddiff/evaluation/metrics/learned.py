"""LPIPS and DISTS, where this machine has their packages and weights. Nothing is downloaded."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from blinddiff.evaluation.metrics.metric import Metric, Sample

Distance: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Of two images (1, 3, H, W) in [0, 1], float32."""


def _backbone_is_here(file: str) -> bool:
    """Whether torchvision's weights are where torch.hub keeps them: without them both packages would download."""
    return (Path(torch.hub.get_dir()) / "checkpoints" / file).is_file()


@cache
def lpips() -> Distance | None:
    """R. Zhang et al., "The unreasonable effectiveness of deep features", CVPR 2018, on AlexNet; or None."""
    if find_spec("lpips") is None or not _backbone_is_here("alexnet-owt-7be5be79.pth"):
        return None
    try:
        network = import_module("lpips").LPIPS(net="alex", verbose=False).eval()
    except Exception:  # noqa: BLE001  # beside some builds of torch, torchvision does not even import
        return None
    return lambda image, reference: network(image, reference, normalize=True)


@cache
def dists() -> Distance | None:
    """K. Ding et al., "Image quality assessment: unifying structure and texture similarity", PAMI 2022; or None."""
    if find_spec("DISTS_pytorch") is None or not _backbone_is_here("vgg16-397923af.pth"):
        return None
    try:
        network = import_module("DISTS_pytorch").DISTS().eval()
    except Exception:  # noqa: BLE001  # as above
        return None
    return lambda image, reference: network(image, reference)


def available() -> list[str]:
    """The names of the learned metrics that this machine can measure."""
    return [name for name, load in (("lpips", lpips), ("dists", dists)) if load() is not None]


@torch.no_grad()
def _distance(sample: Sample, load: Callable[[], Distance | None]) -> float | None:
    distance = load()
    if distance is None or sample.reference is None:
        return None
    return float(distance(sample.image[None].float(), sample.reference[None].float()))


LPIPS = Metric("lpips", "LPIPS (AlexNet)", "", False, 3, lambda sample: _distance(sample, lpips))
DISTS = Metric("dists", "DISTS", "", False, 3, lambda sample: _distance(sample, dists))
