"""Never worse than what came in.

A picture that was enlarged is restored from its own size, and a result that does not agree with the input is replaced
by a milder one. The steps are declared in `FALLBACKS`, and the output names the one that was used, see `Decision`.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff.degradation import SCALES, Degradation, Observation
from blinddiff.models.picture_kind import PICTURE_KINDS, PictureKind
from blinddiff.sampling.decision import (
    AS_ESTIMATED,
    CERTAIN,
    FALLBACKS,
    MIN_FACTOR,
    Decision,
    halved,
    measured,
    own_scale,
    own_size,
    residual_rms,
)
from blinddiff.sampling.output import BlindDiffOutput

Restore = Callable[[Observation, Degradation | None, Sequence[int]], BlindDiffOutput]
"""Restores observations, with an initial degradation or None for the estimate. The numbers are those of the images in
the batch. Images are tensors."""

MIN_BELIEVED = 0.99
"""Share of the pixels behind a pixel of a reduced picture that must be believed for it to be."""


def restore_safely(
    restore: Restore, kind: PictureKind, observation: Observation, estimate: Degradation
) -> BlindDiffOutput:
    """Restore a batch of pictures of certain kinds.

    Args:
        estimate: the initial estimate of the batch.
    """
    enlarged = (kind.of("enlarged") >= CERTAIN) & (kind.factor >= MIN_FACTOR)
    plain = [index for index in range(len(observation)) if not enlarged[index]]
    outs: dict[int, BlindDiffOutput] = {}
    fallback = dict.fromkeys(range(len(observation)), AS_ESTIMATED)
    if plain:
        together = restore(observation[plain], estimate[plain], plain)
        for place, index in enumerate(plain):
            out = image_of(together, place)
            for name, milder in FALLBACKS.items():
                if is_acceptable(observation[[index]], out, kind.limits):
                    break
                fallback[index] = name
                one, start = observation[[index]], estimate[[index]]
                out = restore(one, milder(start, residual_rms(out.residuals.to(start.kernel), one.believed)), [index])
            outs[index] = out
    for index in range(len(observation)):
        if enlarged[index]:
            outs[index] = _restore_from_own_size(restore, observation[[index]], float(kind.factor[index]), index)
    likeliest = kind.probabilities.max(1)
    decisions = [
        Decision(
            PICTURE_KINDS[int(likeliest.indices[index])],
            float(likeliest.values[index]),
            float(kind.factor[index]) if enlarged[index] else 1.0,
            fallback[index],
        )
        for index in range(len(observation))
    ]
    return replace(merged([outs[index] for index in range(len(observation))]), decisions=decisions)


def at_half_size(out: BlindDiffOutput) -> BlindDiffOutput:
    """The output of a restoration at scale 2 as that of one at scale 1, see `working_scale`."""
    height, width = (side // 2 for side in out.images.shape[-2:])
    samples = None if out.samples is None else _resized(out.samples, (height, width)).clamp(0, 1)
    trajectory, local = out.kernel_trajectory, out.kernel_map
    return replace(
        out,
        images=_resized(out.images, (height, width)).clamp(0, 1),
        samples=samples,
        std=None if samples is None else samples.std(1),
        kernels=halved(out.kernels),
        kernel_trajectory=halved(trajectory.flatten(0, 1)).view_as(trajectory),
        kernel_map=None
        if local is None
        else replace(local, kernels=halved(local.kernels.flatten(0, 1)).view_as(local.kernels)),
    )


def is_acceptable(observation: Observation, out: BlindDiffOutput, limits: Tensor) -> bool:
    """Whether one result agrees with its input in detail, mean colour and contrast: see `measured` and `LIMITS`."""
    found = measured(out.images, observation.y.cpu(), float(out.consistency[0]))
    return all(value <= most for value, most in zip(found, limits.tolist(), strict=True))


def _restore_from_own_size(restore: Restore, observation: Observation, factor: float, index: int) -> BlindDiffOutput:
    """Reduce an enlarged picture by its factor, restore it, and resize the result to the size that was asked for."""
    height, width = observation.y.shape[-2:]
    size = own_size(height, width, factor)
    reduced = F.interpolate(observation.y, size, mode="bicubic", antialias=True).clamp(0, 1)
    mask = observation.mask
    believed = None if mask is None else F.interpolate(mask.float(), size, mode="area") > MIN_BELIEVED
    scale = own_scale(observation.scale, factor, SCALES)
    out = restore(Observation(reduced, scale, mask=believed), None, [index])
    return replace(
        out,
        images=_resized(out.images, observation.hr_size).clamp(0, 1),
        residuals=_resized(out.residuals, (height, width)),
        samples=None if out.samples is None else _resized(out.samples, observation.hr_size),
        std=None if out.std is None else _resized(out.std, observation.hr_size),
    )


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (..., 3, h, w) at another size."""
    resized = F.interpolate(images.flatten(0, -4), size, mode="bicubic", antialias=True)
    return resized.unflatten(0, images.shape[:-3])


def image_of(out: BlindDiffOutput, index: int) -> BlindDiffOutput:
    """The output of one image of a batch, as a batch of one."""
    return _map(lambda name, parts: parts[0].narrow(_axis(name), index, 1), [out])


def merged(outs: Sequence[BlindDiffOutput]) -> BlindDiffOutput:
    """One output of several, in order."""
    return outs[0] if len(outs) == 1 else _map(lambda name, parts: torch.cat(parts, _axis(name)), outs)


def _axis(name: str) -> int:
    return 1 if name == "kernel_trajectory" else 0


def _map(change: Callable[[str, list[Tensor]], Tensor], outs: Sequence[BlindDiffOutput]) -> BlindDiffOutput:
    values: dict[str, Any] = {}
    for field in fields(BlindDiffOutput):
        parts = [getattr(out, field.name) for out in outs]
        values[field.name] = change(field.name, parts) if isinstance(parts[0], Tensor) else None
    return BlindDiffOutput(**values)
