"""Pictures of chosen cases: the worst, the best, and kernels from the best estimate to the worst."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blinddiff.errors import BlindDiffError
from blinddiff.evaluation.cases import Case, Place
from blinddiff.evaluation.kernel_metrics import aligned_pair
from blinddiff.evaluation.methods import Method
from blinddiff.evaluation.records import ImageResult
from blinddiff.evaluation.report.choice import chosen_cases, chosen_kernels, shown_methods
from blinddiff.evaluation.report.gallery import Gallery
from blinddiff.evaluation.report.view import View, crop_of, view_of
from blinddiff.evaluation.settings import excuse


@dataclass(frozen=True)
class Picture:
    """A crop (h, w, 3) of one image, with the kernel (kh, kw) that belongs to it."""

    label: str
    note: str
    crop: npt.NDArray[np.uint8]
    kernel: Tensor | None


@dataclass(frozen=True)
class Strip:
    """One case: the input, every method, the truth."""

    title: str
    pictures: list[Picture]


@dataclass(frozen=True)
class KernelPair:
    """A true kernel (None if not known) and an estimate, on one grid."""

    title: str
    true: Tensor | None
    estimated: Tensor


@dataclass(frozen=True)
class Showcase:
    """What is shown, and of which method the cases were chosen."""

    subject: str = ""
    baseline: str = ""
    strips: list[Strip] = field(default_factory=list)
    kernels: list[KernelPair] = field(default_factory=list)


def make_showcase(
    results: Sequence[ImageResult],
    methods: Mapping[str, Method],
    make_case: Callable[[Place], Case],
    gallery: Gallery,
) -> Showcase:
    """Choose cases by their results and lay out their pictures. Cases that cannot be made are left out.

    What the gallery does not hold is restored again, which the fixed seeds allow.
    """
    subject, baseline = gallery.subject, gallery.baseline
    remade: dict[tuple[str, Place], View | None] = {}

    def view(name: str, case: Case) -> View | None:
        place = case.place
        kept = gallery.view(name, place)
        if kept is None and (name, place) not in remade:
            remade[name, place] = _viewed(methods[name], case)
        return kept or remade[name, place]

    strips = []
    for title, place in chosen_cases(results, subject, baseline):
        case = _made(make_case, place)
        if case is None:
            continue
        views = {name: view(name, case) for name in shown_methods(list(methods))}
        found = {name: view for name, view in views.items() if view is not None}
        if found:
            strips.append(_strip(title, case, found, {r.method: r.metrics for r in results if r.place == place}))
    kernels = []
    for title, place in chosen_kernels(results, subject):
        case = _made(make_case, place)
        if case is None:
            continue
        kernel = gallery.kernel(place)
        if kernel is None:
            remaining = view(subject, case)
            kernel = None if remaining is None else remaining.kernel
        if kernel is not None:
            kernels.append(_kernel_pair(title, case, torch.from_numpy(kernel)))
    return Showcase(subject, baseline, strips, kernels)


def _made(make_case: Callable[[Place], Case], place: Place) -> Case | None:
    try:
        return make_case(place)
    except BlindDiffError:
        return None  # the results say why


def _viewed(method: Method, case: Case) -> View | None:
    try:
        return view_of(case, method.restore(case.y, case.scale, case))
    except Exception as error:
        if excuse(error) is None:
            raise
        return None  # a picture less; the results are worth more


def _strip(title: str, case: Case, found: Mapping[str, View], values: Mapping[str, dict[str, float]]) -> Strip:
    enlarged = case.y.repeat_interleave(case.scale, -2).repeat_interleave(case.scale, -1)
    pictures = [Picture("input", f"pixels x{case.scale}", crop_of(case, enlarged), None)]
    for name, view in found.items():
        psnr = values.get(name, {}).get("psnr_y")
        note = "" if psnr is None else f"{psnr:.2f} dB"
        pictures.append(Picture(name, note, view.crop, None if view.kernel is None else torch.from_numpy(view.kernel)))
    if case.hr is not None:
        pictures.append(Picture("truth", "", crop_of(case, case.hr), case.kernel_at_pixel_centre))
    return Strip(f"{case.place}, {title}", pictures)


def _kernel_pair(title: str, case: Case, estimated: Tensor) -> KernelPair:
    true = case.kernel_at_pixel_centre
    if true is not None:
        estimated, true = aligned_pair(estimated, true)
    return KernelPair(f"{case.place}, {title}", true, estimated)
