"""Which cases and methods a report shows."""

from collections.abc import Iterable, Mapping, Sequence

from blinddiff.evaluation.cases import Place
from blinddiff.evaluation.records import ImageResult

SUBJECTS = ("fidelity", "external")  # whose cases are chosen, with any number of steps, if among the methods
EACH = 3  # worst and best images
MOST_METHODS = 6  # in one strip
RANKS = (("best", 0.0), ("quarter", 0.25), ("median", 0.5), ("three quarters", 0.75), ("95 %", 0.95), ("worst", 1.0))


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


def chosen_cases(results: Iterable[ImageResult], subject: str, baseline: str) -> list[tuple[str, Place]]:
    """Titles and cases: where `subject` gains least and most PSNR-Y over `baseline`, no image twice.

    Without a ground truth, or with one method alone, a few cases over the whole range.
    """
    results = list(results)
    psnr = {
        name: {r.place: r.metrics["psnr_y"] for r in results if r.method == name and "psnr_y" in r.metrics}
        for name in (subject, baseline)
    }
    gains = {place: value - psnr[baseline][place] for place, value in psnr[subject].items() if place in psnr[baseline]}
    if subject != baseline and gains:
        worst, best = extremes(gains)
        return [
            *((f"worst: {gains[place]:+.2f} dB over {baseline}", place) for place in worst),
            *((f"best: {gains[place]:+.2f} dB over {baseline}", place) for place in best),
        ]
    return [("example", place) for place in examples({r.place for r in results if r.method == subject and not r.error})]


def extremes(gains: Mapping[Place, float]) -> tuple[list[Place], list[Place]]:
    """The cases of least and of most gain, at most `EACH` of either: one an image, no image in both."""
    ranked = sorted(gains, key=lambda place: (gains[place], place))
    images = len({place[:2] for place in gains})
    worst = _one_an_image(ranked)[: min(EACH, (images + 1) // 2)]
    taken = {place[:2] for place in worst}
    best = [place for place in _one_an_image(ranked[::-1]) if place[:2] not in taken]
    return worst, best[:EACH]


def possible_extremes(gains: Mapping[Place, float]) -> set[Place]:
    """All that `extremes` can still choose when more cases have come.

    The worst case of an image that has left the `EACH` worst images does not return, for others only get worse; of the
    best ones, at most `EACH` images are taken by the worst.
    """
    ranked = sorted(gains, key=lambda place: (gains[place], place))
    return {*_one_an_image(ranked)[:EACH], *_one_an_image(ranked[::-1])[: 2 * EACH]}


def examples(places: Iterable[Place]) -> list[Place]:
    """The first, the last and some between."""
    ordered = sorted(places)
    chosen = sorted({round(i * (len(ordered) - 1) / max(1, EACH - 1)) for i in range(EACH)}) if ordered else []
    return [ordered[i] for i in chosen]


def _one_an_image(ranked: Sequence[Place]) -> list[Place]:
    """The first case of each image."""
    first: dict[tuple[str, str], Place] = {}
    for place in ranked:
        first.setdefault(place[:2], place)
    return list(first.values())


def chosen_kernels(results: Sequence[ImageResult], subject: str) -> list[tuple[str, Place]]:
    """Titles and cases from the best to the worst kernel of `subject` by L1; any few where the truth is not known."""
    own = [r for r in results if r.method == subject and r.error is None]
    ranked = sorted((r for r in own if "kernel_l1" in r.metrics), key=lambda r: (r.metrics["kernel_l1"], r.place))
    if not ranked:
        few = sorted(own, key=lambda r: r.place)[: len(RANKS)]
        return [("estimate", r.place) for r in few]
    chosen: dict[Place, str] = {}
    for title, share in RANKS:
        result = ranked[round(share * (len(ranked) - 1))]
        chosen[result.place] = f"{title}: L1 {result.metrics['kernel_l1']:.3f}"
    return [(title, place) for place, title in chosen.items()]
