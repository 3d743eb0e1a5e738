"""Never worse than what came in.

A photograph is restored without what was drawn around and over it, which is enlarged alone, see `imaging.drawn`. A
picture that was enlarged is restored from its own size, and a result that does not agree with the input is replaced by
a milder one. The steps are declared in `FALLBACKS`, and the output names the one that was used, see `Decision`.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff.degradation import SCALES, Degradation, Observation
from blinddiff.imaging.drawn import Drawn, enlarge_alone, find_drawn
from blinddiff.imaging.photograph import Planes
from blinddiff.models.mcformer import MCFormer
from blinddiff.models.picture_kind import PICTURE_KINDS, PictureKind
from blinddiff.sampling.decision import (
    AS_ESTIMATED,
    CERTAIN,
    FALLBACKS,
    INTERPOLATED,
    MIN_FACTOR,
    Decision,
    halved,
    keeps_colours,
    measured,
    own_scale,
    own_size,
    residual_rms,
    suits_scale_1,
    working_scale,
)
from blinddiff.sampling.mask import with_mask
from blinddiff.sampling.output import BlindDiffOutput
from blinddiff.sampling.restoration import Restoration

Restore = Callable[[Observation, Degradation | None, Sequence[int]], BlindDiffOutput]
"""Restores observations, with an initial degradation or None for the estimate. The numbers are those of the images in
the batch. Images are tensors."""

RestorePhotographs = Callable[[Observation, Sequence[int]], BlindDiffOutput]
"""Restores photographs, to which the numbers belong."""

MIN_BELIEVED = 0.99
"""Share of the pixels behind a pixel of a reduced picture that must be believed for it to be."""


def restore_inside(restore: RestorePhotographs, observation: Observation) -> BlindDiffOutput:
    """Restore a batch of pictures, each without what is no photograph in it, see `find_drawn`; the rest is enlarged.

    So is all of a picture whose mean colour the restoration moves by more than `max_colour_shift`.
    """
    pictures = observation.y.cpu().numpy()
    found = [find_drawn(picture) for picture in pictures]
    plain = [index for index, drawn in enumerate(found) if drawn is None]
    together = restore(observation[plain] if len(plain) < len(found) else observation, plain) if plain else None
    outs = []
    for index, drawn in enumerate(found):
        if drawn is None:
            assert together is not None
            out = image_of(together, plain.index(index))
        else:
            inner = restore(photograph_in(observation[[index]], drawn), [index])
            out = _pasted(inner, pictures[index], drawn, observation.scale)
        outs.append(_with_colours_kept(out, pictures[index], observation.scale))
    return merged(outs)


def estimate_inside(estimate: Callable[[Observation], Degradation], observation: Observation) -> Degradation:
    """The estimates of a batch of pictures, each without what is no photograph in it."""
    found = [find_drawn(picture) for picture in observation.y.cpu().numpy()]
    if not any(found):
        return estimate(observation)
    parts = [observation[[index]] for index in range(len(found))]
    inner = [part if drawn is None else photograph_in(part, drawn) for part, drawn in zip(parts, found, strict=True)]
    each = [estimate(part) for part in inner]
    errors = [part.expected_kernel_error for part in each if part.expected_kernel_error is not None]
    spectra = [part.noise_spectrum for part in each if part.noise_spectrum is not None]
    return Degradation(
        torch.cat([part.kernel for part in each]),
        torch.cat([part.noise_level for part in each]),
        torch.cat(errors) if errors else None,
        torch.cat(spectra) if spectra else None,
    )


def photograph_in(observation: Observation, drawn: Drawn) -> Observation:
    """One picture inside its frame, without belief in what was drawn over it."""
    inside = observation.map(lambda part: part[..., drawn.rows, drawn.columns])
    if not drawn.mask.any():
        return inside
    hidden = drawn.mask if inside.mask is None else drawn.mask | ~inside.mask[0, 0].cpu().numpy()
    return with_mask(inside, hidden)


def _pasted(out: BlindDiffOutput, picture: Planes, drawn: Drawn, scale: int) -> BlindDiffOutput:
    """The output of the photograph in a picture (3, h, w) as that of the picture."""

    def paste(images: Tensor) -> Tensor:
        return torch.from_numpy(drawn.paste(images.numpy(), picture, scale))

    samples = None if out.samples is None else paste(out.samples)
    residuals = out.residuals.new_zeros(1, *picture.shape)
    residuals[..., drawn.rows, drawn.columns] = out.residuals
    return replace(
        out,
        images=paste(out.images),
        samples=samples,
        std=None if samples is None else samples.std(1),
        residuals=residuals,
    )


def _with_colours_kept(out: BlindDiffOutput, picture: Planes, scale: int) -> BlindDiffOutput:
    """The output, or the enlarged picture (3, h, w) if its mean colour has moved too far."""
    if out.decisions is None or keeps_colours(out.images.numpy(), picture[None], float(out.noise_levels[0])):
        return out
    x = torch.from_numpy(enlarge_alone(picture, scale))
    return replace(
        out,
        images=x.expand_as(out.images).clone(),
        samples=None if out.samples is None else x.expand_as(out.samples).clone(),
        std=None if out.std is None else torch.zeros_like(out.std),
        decisions=[replace(decision, fallback=INTERPOLATED) for decision in out.decisions],
    )


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


def restore_at_working_scales(
    run: Restoration, network: MCFormer, observation: Observation, images: Sequence[int]
) -> BlindDiffOutput:
    """Restore each picture safely, see `restore_safely`, at its `working_scale`.

    images: the numbers of the pictures in the batch of the call.
    """
    initial = run.initial(observation)
    assert initial is not None  # because the network tells kinds
    flags = suits_scale_1(initial).tolist()
    scales = [working_scale(observation.scale, network.config.scales, as_it_is=flag) for flag in flags]
    outs: dict[int, BlindDiffOutput] = {}
    for scale in dict.fromkeys(scales):
        places = [index for index, each in enumerate(scales) if each == scale]
        part = observation if len(places) == len(scales) else observation[places]
        working = part.at_scale(scale)
        estimate = run.initial(working) if scale > observation.scale else initial[places]
        assert estimate is not None

        def restore(
            part: Observation, start: Degradation | None, some: Sequence[int], places: list[int] = places
        ) -> BlindDiffOutput:
            return run(part, start, [images[places[index]] for index in some])

        out = restore_safely(restore, working.derived(network.picture_kind), working, estimate)
        out = at_half_size(out) if scale > observation.scale else out
        outs.update({index: image_of(out, place) for place, index in enumerate(places)})
    return merged([outs[index] for index in range(len(observation))])


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
    y = observation.y.cpu()
    found = measured(out.images, y, float(out.consistency[0]))
    return keeps_colours(out.images.numpy(), y.numpy(), float(out.noise_levels[0])) and all(
        value <= most for value, most in zip(found, limits.tolist(), strict=True)
    )


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
    decisions = None if out.decisions is None else out.decisions[index : index + 1]
    return replace(_map(lambda name, parts: parts[0].narrow(_axis(name), index, 1), [out]), decisions=decisions)


def merged(outs: Sequence[BlindDiffOutput]) -> BlindDiffOutput:
    """One output of several, in order."""
    if len(outs) == 1:
        return outs[0]
    decisions = [decision for out in outs for decision in out.decisions or ()]
    return replace(_map(lambda name, parts: torch.cat(parts, _axis(name)), outs), decisions=decisions or None)


def _axis(name: str) -> int:
    return 1 if name == "kernel_trajectory" else 0


def _map(change: Callable[[str, list[Tensor]], Tensor], outs: Sequence[BlindDiffOutput]) -> BlindDiffOutput:
    values: dict[str, Any] = {}
    for field in fields(BlindDiffOutput):
        parts = [getattr(out, field.name) for out in outs]
        values[field.name] = change(field.name, parts) if isinstance(parts[0], Tensor) else None
    return BlindDiffOutput(**values)
