"""Which cases and methods a report shows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from blinddiff.evaluation.records import ImageResult

SUBJECTS = ("fidelity", "external")  # whose cases are chosen, with any number of steps, if among the methods
EACH = 3  # worst and best images
MOST_METHODS = 6  # in one strip
RANKS = (("best", 0.0), ("quarter", 0.25), ("median", 0.5), ("three quarters", 0.75), ("95 %", 0.95), ("worst", 1.0))

Key: TypeAlias = tuple[str, str, int]
"""Test set, image, parameter index."""


def subject_of(names: Sequence[str]) -> str:
    """The method whose cases are shown: one of `SUBJECTS`, else the last that does not know the truth."""
    usual = [name for subject in SUBJECTS for name in names if name.partition("@")[0] == subject]
    honest = [name for name in names if "oracle" not in name]
    return usual[0] if usual else (honest or list(names))[-1]


def shown_methods(names: Sequence[str]) -> list[str]:
    """The methods of a strip: the first ones, the subject among them."""
    subject = subject_of(names)
    first = list(names[:MOST_METHODS])
    return first if subject in first else [*first[:-1], subject]


def chosen_cases(results: Iterable[ImageResult], subject: str, baseline: str) -> list[tuple[str, Key]]:
    """Titles and keys: where `subject` gains least and most PSNR-Y over `baseline`, no image twice.

    Without a ground truth, or with one method alone, a few cases over the whole range.
    """
    results = list(results)
    psnr = {
        name: {r.key[1:]: r.metrics["psnr_y"] for r in results if r.method == name and "psnr_y" in r.metrics}
        for name in (subject, baseline)
    }
    gains = {key: value - psnr[baseline][key] for key, value in psnr[subject].items() if key in psnr[baseline]}
    if subject != baseline and gains:
        worst, best = extremes(gains)
        return [
            *((f"worst: {gains[key]:+.2f} dB over {baseline}", key) for key in worst),
            *((f"best: {gains[key]:+.2f} dB over {baseline}", key) for key in best),
        ]
    return [("example", key) for key in examples({r.key[1:] for r in results if r.method == subject and not r.error})]


def extremes(gains: Mapping[Key, float]) -> tuple[list[Key], list[Key]]:
    """The cases of least and of most gain, at most `EACH` of either: one an image, no image in both."""
    ranked = sorted(gains, key=lambda key: (gains[key], key))
    images = len({key[:2] for key in gains})
    worst = _one_an_image(ranked)[: min(EACH, (images + 1) // 2)]
    taken = {key[:2] for key in worst}
    best = [key for key in _one_an_image(ranked[::-1]) if key[:2] not in taken]
    return worst, best[:EACH]


def possible_extremes(gains: Mapping[Key, float]) -> set[Key]:
    """All that `extremes` can still choose when more cases have come.

    The worst case of an image that has left the `EACH` worst images does not return, for others only get worse; of the
    best ones, at most `EACH` images are taken by the worst.
    """
    ranked = sorted(gains, key=lambda key: (gains[key], key))
    return {*_one_an_image(ranked)[:EACH], *_one_an_image(ranked[::-1])[: 2 * EACH]}


def examples(keys: Iterable[Key]) -> list[Key]:
    """The first, the last and some between."""
    ordered = sorted(keys)
    places = sorted({round(i * (len(ordered) - 1) / max(1, EACH - 1)) for i in range(EACH)}) if ordered else []
    return [ordered[place] for place in places]


def _one_an_image(ranked: Sequence[Key]) -> list[Key]:
    """The first key of each image."""
    first: dict[tuple[str, str], Key] = {}
    for key in ranked:
        first.setdefault(key[:2], key)
    return list(first.values())


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
