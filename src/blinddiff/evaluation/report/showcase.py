"""Pictures of chosen cases: the worst, the best, and kernels from the best estimate to the worst.

Images are not kept while a run goes on; the few that are shown are made again, which the fixed seeds allow.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff.errors import BlindDiffError
from blinddiff.evaluation.cases import Case
from blinddiff.evaluation.methods.method import Method
from blinddiff.evaluation.metrics.kernel_pair import aligned_pair
from blinddiff.evaluation.records import ImageResult
from blinddiff.evaluation.restoration import Restoration

SUBJECTS = ("fidelity", "external")  # whose cases are chosen, with any number of steps, if among the methods
CROP = 96  # HR pixels
EACH = 3  # worst and best images
MOST_METHODS = 6  # in one strip
RANKS = (("best", 0.0), ("quarter", 0.25), ("median", 0.5), ("three quarters", 0.75), ("95 %", 0.95), ("worst", 1.0))

Key = tuple[str, str, int]


@dataclass(frozen=True)
class Picture:
    """A crop (3, h, w) in [0, 1] of one image, with the kernel that belongs to it."""

    label: str
    note: str
    crop: Tensor
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
    results: Sequence[ImageResult], methods: Mapping[str, Method], make_case: Callable[[Key], Case]
) -> Showcase:
    """Choose cases by their results and make their pictures. Cases that cannot be made are left out."""
    names = list(methods)
    subject = subject_of(names)
    baseline = names[0]
    shown = names[:MOST_METHODS] if subject in names[:MOST_METHODS] else [*names[: MOST_METHODS - 1], subject]
    strips = []
    for title, key in chosen_cases(results, subject, baseline):
        case = _made(make_case, key)
        found = {} if case is None else {name: r for name in shown if (r := _restored(methods[name], case)) is not None}
        if case is not None and found:
            values = {r.method: r.metrics for r in results if r.key[1:] == key}
            strips.append(_strip(title, case, found, values))
    kernels = []
    for title, key in chosen_kernels(results, subject):
        case = _made(make_case, key)
        restoration = None if case is None else _restored(methods[subject], case)
        if case is not None and restoration is not None and restoration.kernel is not None:
            kernels.append(_kernel_pair(title, case, restoration.kernel))
    return Showcase(subject, baseline, strips, kernels)


def subject_of(names: Sequence[str]) -> str:
    """The method whose cases are shown: one of `SUBJECTS`, else the last that does not know the truth."""
    usual = [name for subject in SUBJECTS for name in names if name.partition("@")[0] == subject]
    honest = [name for name in names if "oracle" not in name]
    return usual[0] if usual else (honest or list(names))[-1]


def _made(make_case: Callable[[Key], Case], key: Key) -> Case | None:
    try:
        return make_case(key)
    except BlindDiffError:
        return None  # the results say why


def _restored(method: Method, case: Case) -> Restoration | None:
    try:
        return method.restore(case.y, case.scale, case)
    except BlindDiffError:
        return None


def chosen_cases(results: Sequence[ImageResult], subject: str, baseline: str) -> list[tuple[str, Key]]:
    """Titles and keys: where `subject` gains least and most PSNR-Y over `baseline`, no image twice.

    Without a ground truth, or with one method alone, a few cases over the whole range.
    """
    psnr = {
        name: {r.key[1:]: r.metrics["psnr_y"] for r in results if r.method == name and "psnr_y" in r.metrics}
        for name in (subject, baseline)
    }
    gains = {key: value - psnr[baseline][key] for key, value in psnr[subject].items() if key in psnr[baseline]}
    if subject != baseline and gains:
        ranked = sorted(gains, key=lambda key: (gains[key], key))
        worst = _one_an_image(ranked, set())
        best = _one_an_image(ranked[::-1], {key[:2] for key in worst})
        return [
            *((f"worst: {gains[key]:+.2f} dB over {baseline}", key) for key in worst),
            *((f"best: {gains[key]:+.2f} dB over {baseline}", key) for key in best),
        ]
    keys = sorted({r.key[1:] for r in results if r.method == subject and r.error is None})
    places = sorted({round(i * (len(keys) - 1) / max(1, EACH - 1)) for i in range(EACH)}) if keys else []
    return [("example", keys[place]) for place in places]


def _one_an_image(ranked: Sequence[Key], taken: set[tuple[str, str]]) -> list[Key]:
    """The first `EACH` keys, one for each image that is not taken."""
    first: dict[tuple[str, str], Key] = {}
    for key in ranked:
        if key[:2] not in taken:
            first.setdefault(key[:2], key)
    return list(first.values())[:EACH]


def chosen_kernels(results: Sequence[ImageResult], subject: str) -> list[tuple[str, Key]]:
    """Titles and keys from the best to the worst kernel of `subject` by L1; any few where the truth is not known."""
    own = [r for r in results if r.method == subject and r.error is None]
    ranked = sorted((r for r in own if "kernel_l1" in r.metrics), key=lambda r: (r.metrics["kernel_l1"], r.key))
    if not ranked:
        few = sorted(own, key=lambda r: r.key)[: len(RANKS)]
        return [("estimate", r.key[1:]) for r in few]
    chosen: dict[Key, str] = {}
    for title, share in RANKS:
        result = ranked[round(share * (len(ranked) - 1))]
        chosen[result.key[1:]] = f"{title}: L1 {result.metrics['kernel_l1']:.3f}"
    return [(title, key) for key, title in chosen.items()]


def busiest_window(image: Tensor, side: int, step: int) -> tuple[int, int]:
    """Top and left, multiples of `step`, of the window of `side` with most gradient energy in (3, H, W)."""
    grey = image.mean(0)
    energy = torch.zeros_like(grey)
    energy[:, 1:] += grey.diff(dim=1).square()
    energy[1:] += grey.diff(dim=0).square()
    height, width = (min(side, length) for length in grey.shape)
    sums = F.avg_pool2d(energy[None, None], (height, width), stride=step)[0, 0]
    place = int(sums.argmax())
    return place // sums.shape[1] * step, place % sums.shape[1] * step


def _strip(title: str, case: Case, found: Mapping[str, Restoration], values: Mapping[str, dict[str, float]]) -> Strip:
    scale, side = case.scale, CROP // case.scale * case.scale
    guide = case.hr if case.hr is not None else next(iter(found.values())).image
    top, left = busiest_window(guide, side, scale)

    def crop(image: Tensor) -> Tensor:
        return image.clamp(0, 1)[:, top : top + side, left : left + side]

    enlarged = case.y.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    pictures = [Picture("input", f"pixels x{scale}", crop(enlarged), None)]
    for name, restoration in found.items():
        psnr = values.get(name, {}).get("psnr_y")
        note = "" if psnr is None else f"{psnr:.2f} dB"
        pictures.append(Picture(name, note, crop(restoration.image), restoration.kernel))
    if case.hr is not None:
        pictures.append(Picture("truth", "", crop(case.hr), case.kernel_at_pixel_centre))
    return Strip(f"{case.key}, {title}", pictures)


def _kernel_pair(title: str, case: Case, estimated: Tensor) -> KernelPair:
    true = case.kernel_at_pixel_centre
    if true is not None:
        estimated, true = aligned_pair(estimated, true)
    return KernelPair(f"{case.key}, {title}", true, estimated)
