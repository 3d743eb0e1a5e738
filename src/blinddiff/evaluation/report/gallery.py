"""The views that a report may come to show, kept while a run goes on, so that nothing is restored twice."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy.typing as npt

from blinddiff.evaluation.cases import Place
from blinddiff.evaluation.records import ImageResult
from blinddiff.evaluation.report.choice import examples, possible_extremes, shown_methods, subject_of
from blinddiff.evaluation.report.view import View


class Gallery:
    """Views by method and case. A view that is not here (of an earlier, killed run) can be made again.

    Bounded: crops are kept of the few cases that may still turn out best or worst, 28 KB for each method; and of every
    case the subject's kernel, 4 KB.
    """

    def __init__(self, methods: Sequence[str], planned: Iterable[Place]) -> None:
        """planned: all cases that are to be evaluated."""
        self.subject, self.baseline = subject_of(methods), methods[0]
        self.shown = frozenset(shown_methods(methods))
        self._always = set(examples(planned))
        self._views: dict[Place, dict[str, View]] = defaultdict(dict)
        self._kernels: dict[Place, npt.NDArray[Any]] = {}
        self._psnr: dict[str, dict[Place, float]] = {self.subject: {}, self.baseline: {}}
        self._latest: Place | None = None

    def add(self, result: ImageResult, view: View | None = None) -> None:
        """One more result; those of one case come one after another."""
        place = result.place
        if place != self._latest:
            self._drop()
            self._latest = place
        if result.method in self._psnr and "psnr_y" in result.metrics:
            self._psnr[result.method][place] = result.metrics["psnr_y"]
        if view is None or result.method not in self.shown:
            return
        self._views[place][result.method] = view
        if result.method == self.subject and view.kernel is not None:
            self._kernels[place] = view.kernel

    def __len__(self) -> int:
        """Of how many cases it holds crops."""
        return len(self._views)

    def view(self, method: str, place: Place) -> View | None:
        """What a method gave on a case, if it was kept."""
        return self._views.get(place, {}).get(method)

    def kernel(self, place: Place) -> npt.NDArray[Any] | None:
        """The subject's estimate on a case, if there is one here; all of them are kept."""
        return self._kernels.get(place)

    def _drop(self) -> None:
        """Forget the cases that will not be shown."""
        ours, theirs = self._psnr[self.subject], self._psnr[self.baseline]
        gains = {place: ours[place] - theirs[place] for place in ours.keys() & theirs.keys()}
        kept = self._always | possible_extremes(gains)
        self._views = defaultdict(dict, {place: views for place, views in self._views.items() if place in kept})
