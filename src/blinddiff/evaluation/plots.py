"""Plots and pictures of `report.html`: matplotlib figures as SVG, crops and kernels of example cases as WebP."""

import base64
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from blinddiff.evaluation.data import Case, CaseId, to_bytes
from blinddiff.evaluation.kernel_metrics import aligned_pair
from blinddiff.evaluation.methods import Method
from blinddiff.evaluation.published_results import PublishedResult
from blinddiff.evaluation.records import ImageResult, describe_failure
from blinddiff.evaluation.statistics import (
    METRICS,
    Estimate,
    SetSummary,
    chosen_cases,
    chosen_kernels,
    examples,
    methods_shown,
    possible_extremes,
    subject_of,
)
from blinddiff.imaging import kernel_picture

T = TypeVar("T")

GREY = "#60646c"
# distinguishable with colour blindness; the first six are from Okabe and Ito
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a5c00", "#56b4e9", "#6f42c1", "#b03a2e", "#2e7d32", "#455a64")
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "blinddiff",  # the same ids in every run
    "font.size": 9,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": "#e4e6ea",
}


@dataclass(frozen=True)
class Plot:
    """A figure with a caption, and a title that is not drawn but read by screen readers."""

    title: str
    figure: Figure
    caption: str

    @property
    def svg(self) -> str:
        """The figure as an element for HTML."""
        file = io.StringIO()
        for artist in self.figure.findobj():
            artist.set_clip_on(False)  # clip paths are referred to by url(...)
        with rc_context(STYLE):
            metadata = {"Title": self.title, "Date": None, "Creator": None, "Format": None, "Type": None}
            self.figure.savefig(file, format="svg", bbox_inches="tight", metadata=metadata)
        text = file.getvalue()
        return text[text.index("<svg") :]


def _axes(height: float, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure 7.5 inches wide with `rows` axes that share x and y."""
    with rc_context(STYLE):
        figure = Figure((7.5, height), layout="constrained")
        return figure, list(figure.subplots(rows, squeeze=False, sharex=True, sharey=True)[:, 0])


def scatter(
    points: Mapping[str, tuple[Estimate, Estimate]],
    labels: tuple[str, str],
    log_x: bool = False,
    lower_y_is_better: bool = False,
) -> Figure:
    """Methods as labelled points with their intervals; better is up. points: method -> (x, y)."""
    figure, (axes,) = _axes(4.2)
    axes.set(xlabel=labels[0], ylabel=labels[1], xscale="log" if log_x else "linear")
    axes.margins(0.08)
    colours = dict(zip(points, cycle(COLOURS), strict=False))
    for colour, (x, y) in zip(colours.values(), points.values(), strict=True):
        axes.plot([x.low, x.high], [y.mean, y.mean], color=colour, alpha=0.5)
        axes.plot([x.mean, x.mean], [y.low, y.high], color=colour, alpha=0.5)
        axes.plot(x.mean, y.mean, "o", color=colour)
    if lower_y_is_better:
        axes.invert_yaxis()
    figure.draw_without_rendering()  # computes the positions of the points
    centres = {method: (x.mean, y.mean) for method, (x, y) in points.items()}
    placed: list[Bbox] = []
    for name in sorted(points, key=lambda name: -axes.transData.transform(centres[name])[1]):
        text = axes.annotate(name, centres[name], (6, 4), textcoords="offset points", size=9, color=colours[name])
        if text.get_window_extent().x1 > axes.bbox.x1:
            text.set(ha="right", x=-6)
        while any(text.get_window_extent().overlaps(other) for other in placed):
            text.set_y(text.get_position()[1] - 1)  # moved down until it covers no other name
        placed.append(text.get_window_extent())
    return figure


def trade_offs(summary: SetSummary) -> Iterator[Plot]:
    """Perceptual metrics against PSNR-Y (Blau and Michaeli, CVPR 2018), and PSNR-Y against the time per image."""
    measured = {method: found for method, found in summary.means.items() if "psnr_y" in found}
    for name in ("niqe", "lpips", "dists"):
        points = {method: (found["psnr_y"], found[name]) for method, found in measured.items() if name in found}
        if len(points) > 1:
            label = METRICS[name].label
            axes = "PSNR-Y (dB), to the right: less distortion", f"{label}, upwards: more natural"
            figure = scatter(points, axes, lower_y_is_better=True)
            caption = f"{summary.set}: perception ({label}) against distortion (PSNR-Y)."
            yield Plot(f"{summary.set}: {label} against PSNR-Y", figure, caption)
    times = {method: found["seconds"] for method, found in measured.items() if "seconds" in found}
    points = {method: (time, measured[method]["psnr_y"]) for method, time in times.items() if time.low > 0}
    if len(points) > 1:
        figure = scatter(points, ("seconds per image (logarithmic)", "PSNR-Y (dB)"), log_x=True)
        caption = f"{summary.set}: quality against the time per image, as measured during this run."
        yield Plot(f"{summary.set}: PSNR-Y against seconds", figure, caption)


def measured_and_published(published: Sequence[PublishedResult], summary: SetSummary) -> list[Plot]:
    """PSNR-Y of all measured methods (filled, with interval) and published ones (hollow), best on top."""
    rows: list[tuple[float, str, Estimate | None]] = [
        (result.mean, f"{result.method} (published)", None)
        for result in published
        if result.metric == "psnr_y" and not result.label  # others are only in the table
    ]
    if not rows:
        return []
    rows += [(e["psnr_y"].mean, method, e["psnr_y"]) for method, e in summary.means.items() if "psnr_y" in e]
    rows.sort(key=lambda row: row[0])
    figure, (axes,) = _axes(0.6 + 0.23 * len(rows))
    axes.set(xlabel="PSNR-Y (dB)", yticks=range(len(rows)), yticklabels=[label for _, label, _ in rows])
    for y, (mean, _, measured) in enumerate(rows):
        colour = COLOURS[0] if measured else GREY
        if measured:
            axes.plot([measured.low, measured.high], [y, y], color=colour)
        axes.plot(mean, y, "o", color=colour, markerfacecolor=colour if measured else "white")
        axes.text(1.01, y, f"{mean:.2f}", transform=axes.get_yaxis_transform(), va="center", size=9, color=colour)
        axes.get_yticklabels()[y].set_color(colour)
    caption = f"{summary.set}: measured here (filled, with interval) and published, not run here (hollow)."
    return [Plot(f"{summary.set}: measured and published PSNR-Y", figure, caption)]


BINS, LAST = 20, 50.0  # of the histogram; errors above LAST percent are in the last bin


def width_histogram(results: Sequence[ImageResult], methods: Sequence[str]) -> list[Plot]:
    """Width errors of the estimated kernels, all sets together: one histogram per method, on common axes."""
    metric = "kernel_width_error"
    values = {m: [r.metrics[metric] for r in results if r.method == m and metric in r.metrics] for m in methods}
    values = {method: found for method, found in values.items() if found}
    if not values:
        return []
    figure, rows = _axes(0.6 + 0.9 * len(values), len(values))
    for colour, axes, (method, found) in zip(cycle(COLOURS), rows, values.items(), strict=False):
        weights = np.full(len(found), 1 / len(found))
        axes.hist(np.minimum(found, LAST), BINS, range=(0, LAST), weights=weights, color=colour, rwidth=0.9)
        median = sorted(found)[len(found) // 2]
        axes.set_title(f"{method}: median {median:.1f} %, {len(found)} kernels", loc="right", fontsize=9)
        axes.set_yticks([])
    rows[-1].set_xlabel(f"width error (%), {LAST:.0f} and more in the last bin")
    caption = "Error of the estimated kernels' width: share of the kernels, all sets together."
    return [Plot("Histograms of width error", figure, caption)]


CROP = 96  # HR pixels


@dataclass(frozen=True)
class View:
    """What a report shows of an image: a crop (h, w, 3), at most `CROP` pixels a side, and its kernel (kh, kw), if any.

    Arrays, not tensors: torch would send them between processes in shared memory, which ends with the process.
    """

    crop: npt.NDArray[np.uint8]
    kernel: npt.NDArray[Any] | None


def view_of(case: Case, image: Tensor, kernel: Tensor | None) -> View:
    """The view of an image (3, H, W) in [0, 1] of the case's HR size, and of its kernel (kh, kw), if any.

    The crop is the region with the most structure in the true image, or in the input if there is no true image.
    """
    side = CROP // case.scale * case.scale
    if case.hr is not None:
        top, left = busiest_window(case.hr, side, case.scale)
    else:
        top, left = (offset * case.scale for offset in busiest_window(case.y, side // case.scale, 1))
    crop = to_bytes(image.cpu()[:, top : top + side, left : left + side])
    return View(crop, None if kernel is None else kernel.cpu().float().numpy())


def busiest_window(image: Tensor, side: int, step: int) -> tuple[int, int]:
    """Top and left, multiples of `step`, of the window of `side` with the most gradient energy in (3, H, W)."""
    grey = image.mean(0)
    energy = torch.zeros_like(grey)
    energy[:, 1:] += grey.diff(dim=1).square()
    energy[1:] += grey.diff(dim=0).square()
    height, width = (min(side, length) for length in grey.shape)
    sums = F.avg_pool2d(energy[None, None], (height, width), stride=step)[0, 0]
    best = int(sums.argmax())
    return best // sums.shape[1] * step, best % sums.shape[1] * step


class KeptViews:
    """The views that a report may show, kept during a run so that nothing is restored twice.

    Its memory is bounded: crops of the few cases that may still turn out best or worst (28 KB per method), and the
    subject's kernel of every case (4 KB). Views from before a kill are missing. `planned`: all cases of the run.
    """

    def __init__(self, methods: Sequence[str], planned: Iterable[CaseId]) -> None:
        self.subject, self.baseline = subject_of(methods), methods[0]
        self.views: dict[CaseId, dict[str, View | None]] = defaultdict(dict)
        self.kernels: dict[CaseId, npt.NDArray[Any]] = {}
        self._shown = frozenset(methods_shown(methods))
        self._always = set(examples(planned))
        self._psnr: dict[str, dict[CaseId, float]] = {self.subject: {}, self.baseline: {}}
        self._latest: CaseId | None = None

    def add(self, result: ImageResult, view: View | None = None) -> None:
        """Add a result. The results of a case must come one after another."""
        case_id = result.case_id
        if case_id != self._latest:
            ours, theirs = self._psnr[self.subject], self._psnr[self.baseline]
            gains = {key: ours[key] - theirs[key] for key in ours.keys() & theirs.keys()}
            kept = self._always | possible_extremes(gains)
            self.views = defaultdict(dict, {key: views for key, views in self.views.items() if key in kept})
            self._latest = case_id
        if result.method in self._psnr and "psnr_y" in result.metrics:
            self._psnr[result.method][case_id] = result.metrics["psnr_y"]
        if view is not None and result.method in self._shown:
            self.views[case_id][result.method] = view
            if result.method == self.subject and view.kernel is not None:
                self.kernels[case_id] = view.kernel


class Picture(NamedTuple):
    """A picture as a data URI, with a label, a note, and the picture of its kernel as another data URI."""

    label: str
    uri: str
    note: str = ""
    kernel: str | None = None


class Pictures(NamedTuple):
    """Pictures in a row, with a title and a caption; only in HTML."""

    title: str
    pictures: Sequence[Picture]
    caption: str
    wide: bool = False


@dataclass(frozen=True)
class ReportPictures:
    """Pictures of cases chosen by the gain of `subject` over `baseline`, and of its kernels from best to worst."""

    subject: str = ""
    baseline: str = ""
    strips: list[Pictures] = field(default_factory=list)
    kernels: list[Picture] = field(default_factory=list)


def make_report_pictures(
    results: Sequence[ImageResult], methods: Mapping[str, Method], make_case: Callable[[CaseId], Case], kept: KeptViews
) -> ReportPictures:
    """Choose cases by their results and make their pictures. Cases that cannot be made are left out.

    Views that were not kept are restored again and added; as seeds are fixed, they show the same images.
    """

    def view(name: str, case: Case) -> View | None:
        views = kept.views[case.id]
        if name not in views:
            restored = _or_none(lambda: methods[name].restore(case.y, case.scale, case))
            views[name] = None if restored is None else view_of(case, restored.image, restored.kernel)
        return views[name]

    strips, kernels = [], []
    for title, case_id in chosen_cases(results, kept.subject, kept.baseline):
        case = _or_none(partial(make_case, case_id))
        views = {name: view(name, case) for name in methods_shown(list(methods))} if case else {}
        if case and any(views.values()):
            psnr = {r.method: r.metrics["psnr_y"] for r in results if r.case_id == case_id and "psnr_y" in r.metrics}
            caption = "PSNR-Y is measured on the whole image, not on the crop."
            strips.append(Pictures(f"{case_id}, {title}", _pictures(case, views, psnr), caption))
    for title, case_id in chosen_kernels(results, kept.subject):
        case, kernel = _or_none(partial(make_case, case_id)), kept.kernels.get(case_id)
        if case and kernel is None and (restored := view(kept.subject, case)):
            kernel = restored.kernel
        if case and kernel is not None:
            kernels.append(Picture(f"{case_id}, {title}", _kernel_uri(kernel, case.kernel_centred_on_lr_pixel)))
    return ReportPictures(kept.subject, kept.baseline, strips, kernels)


def _or_none(make: Callable[[], T]) -> T | None:
    """What `make` returns; None for bad input or lack of memory, which the results report."""
    try:
        return make()
    except Exception as error:
        if describe_failure(error) is None:
            raise
        return None


def _pictures(case: Case, views: Mapping[str, View | None], psnr: Mapping[str, float]) -> list[Picture]:
    """Input, restorations, and ground truth of one case."""
    enlarged = case.y.repeat_interleave(case.scale, -2).repeat_interleave(case.scale, -1)
    shown = [("input", view_of(case, enlarged, None), f"pixels x{case.scale}")]
    shown += [(name, view, f"{psnr[name]:.2f} dB" if name in psnr else "") for name, view in views.items() if view]
    if case.hr is not None:
        shown.append(("truth", view_of(case, case.hr, case.kernel_centred_on_lr_pixel), ""))
    pictures = []
    for name, view, note in shown:
        kernel = None if view.kernel is None else _kernel_uri(view.kernel)
        pictures.append(Picture(name, data_uri(Image.fromarray(view.crop)), note, kernel))
    return pictures


def _kernel_uri(kernel: npt.NDArray[Any], true: Tensor | None = None) -> str:
    """A kernel's picture; with the true kernel to its left, both on the same grid and colour scale."""
    shown = torch.from_numpy(kernel)
    if true is not None:
        shown = torch.cat(aligned_pair(shown, true)[::-1], dim=1)
    return data_uri(kernel_picture(shown, side=62 * (shown.shape[1] // shown.shape[0] or 1)))


def data_uri(picture: Image.Image) -> str:
    """A picture as a data URI, lossless."""
    file = io.BytesIO()
    picture.save(file, "WEBP", lossless=True, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")
