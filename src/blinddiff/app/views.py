"""What the page displays, in HTML: messages, measurements, the pictures of a result, and the results of a batch."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from blinddiff.app.jobs import Progress, Restored
from blinddiff.app.messages import error_text
from blinddiff.degradation.kernel_measures import is_round
from blinddiff.degradation.sharpness import mtf50_in_words
from blinddiff.imaging.drawing import SPECTRUM_RANGE
from blinddiff.sampling.decision import UNRELIABLE_KERNEL_ERROR, Decision

_CAPTIONS = {
    "kernel": "The blur kernel; the ellipse shows its widths",
    "kernel_map": "The blur kernels of the regions, each at its place",
    "noise": "The power spectrum of the noise: frequency 0 in the centre, half a cycle per pixel at the edges; "
    f"white noise has the middle colour, and the range is \u00b1{SPECTRUM_RANGE:.0f} dB",
    "residual": "The input minus the blurred and downsampled result; mid-grey is zero",
    "uncertainty": "The standard deviation of the samples; lighter pixels are less certain",
}
_COMPARED = {
    "full_before": "Before: the photograph enlarged by bicubic interpolation",
    "full_after": "After: the result",
}


def status(text: str, progress: float | None = None, is_error: bool = False) -> str:
    """The status line in HTML, announced by screen readers; ``progress``, 0 to 1, is drawn as a bar."""
    bar = "" if progress is None else f"<progress max='1' value='{progress:.3f}' aria-label='work done'></progress>"
    attributes = "class='status wrong' role='alert'" if is_error else "class='status' role='status'"
    return f"<div {attributes} aria-live='polite'>{escape(text)}{bar}</div>"


def page_error(error: Exception) -> gr.Error:
    """An error for the page and Gradio's HTTP interface, see `error_text`."""
    return gr.Error(error_text(error), print_exception=False, title="Not done")


def measurements_table(facts: Mapping[str, Any], extents: Mapping[str, float]) -> str:
    """The measurements of a restoration as an HTML table; facts and extents as in `Restored`."""
    major, minor = facts["kernel_widths"]
    angle = f"{facts['kernel_angle']:.0f} degrees, clockwise from the horizontal"
    error, residual, uncertainty = (facts.get(key) for key in ("expected_kernel_error", "residual_rms", "uncertainty"))
    of = f"a result of scale {facts['kernel_scale']}" if "kernel_scale" in facts else "the result"
    rows = {
        "Size": f"{facts['width']} x {facts['height']} pixels",
        "Picture": _picture_text(facts),
        "Kernel widths": f"{major:.2f} x {minor:.2f} pixels of {of}",
        "Kernel angle": "none: it is round" if is_round(major, minor) else angle,
        "Kernel from": facts["kernel_from"],
        "Kernel error": None if error is None else kernel_error_text(error),
        "Sharpness": f"MTF50 {mtf50_in_words(facts['mtf50'])} cycles per pixel of the photograph"
        + (f"; sharpened: edges overshoot by {facts['overshoot']:.0%}" if facts["sharpened"] else ""),
        "Noise": f"{facts['noise_level']:.1f} grey levels"
        + ("" if facts["noise_kind"] == "none" else f", {facts['noise_kind']}"),
        "Residual": f"{residual:.2f} grey levels (root mean square); in the picture, "
        f"black is -{extents['residual']:.1f} and white is +{extents['residual']:.1f}",
        "Consistency": f"{facts['consistency']:.2f} ({_consistency_text(facts['consistency'])})",
        "Uncertainty": None
        if uncertainty is None
        else f"{uncertainty:.2f} grey levels over {facts['samples']} samples; in the picture, the darkest colour is 0 "
        f"and the lightest is {extents['uncertainty']:.1f}",
        "Notes": "; ".join(facts["notes"]),
        "Seconds": f"{facts['seconds']:.1f}",
        "Seed": str(facts["seed"]),
    }
    cells = [f"<tr><th scope='row'>{name}</th><td>{escape(text)}</td></tr>" for name, text in rows.items() if text]
    return f"<table class='figures'><caption>What was found</caption>{''.join(cells)}</table>"


def _picture_text(facts: Mapping[str, Any]) -> str | None:
    """What the picture was taken for, and how it was restored; None with a given kernel."""
    if facts["picture_kind"] is None:
        return None
    keys = ("picture_kind", "picture_probability", "enlarged_by", "decision")
    decision = Decision(*(facts[key] for key in keys))
    text = f"{decision.kind} ({decision.probability:.0%})"
    return f"{text}: {decision.sentence}" if decision.sentence else text


def kernel_error_text(expected: float) -> str:
    """The expected error of the kernel, and whether the kernel can be known at all, see `BlindDiffOutput`."""
    note = "it cannot be determined from this image" if expected >= UNRELIABLE_KERNEL_ERROR else "expected"
    return f"{expected:.2f} of 2 ({note})"


def _consistency_text(ratio: float) -> str:
    if ratio > 1.5:
        return "far above 1: kernel or noise level are not quite right"
    if ratio < 0.6:
        return "far below 1: the result repeats the input's noise"
    return "near 1: the result explains the input"


def result_html(restored: Restored, url: Callable[[Path], str]) -> str:
    """The pictures of a result, with captions, and its measurements; ``url`` gives the address of a file."""
    pictures = "".join(
        f"<figure id='{name}'><a href='{url(restored.pictures[name])}' target='_blank'>"
        f"<img src='{url(restored.pictures[name])}' alt='{text}'></a><figcaption>{text}</figcaption></figure>"
        for name, text in _CAPTIONS.items()
        if name in restored.pictures
    )
    panes = "".join(
        f"<figure><div class='pane' tabindex='0' role='region' aria-label='{text}'>"
        f"<img src='{url(restored.pictures[name])}' alt='{text}' loading='lazy'></div>"
        f"<figcaption>{text}</figcaption></figure>"
        for name, text in _COMPARED.items()
    )
    compare = f"<summary>Compare at full size (1:1)</summary><div class='pair'>{panes}</div>"
    return (
        f"{download_links([restored.result, restored.estimate], url)}<details id='full'>{compare}</details>"
        f"<div class='pictures'>{pictures}</div>{measurements_table(restored.facts, restored.extents)}"
    )


def download_links(paths: Sequence[Path], url: Callable[[Path], str]) -> str:
    """Links that download files."""
    links = (f"<a class='result' download href='{url(path)}'>{escape(path.name)}</a>" for path in paths)
    return f"<p>Download: {' '.join(links)}</p>"


def batch_table(outcomes: Sequence[tuple[str, Restored | str]], url: Callable[[Path], str]) -> str:
    """The outcomes of several photographs, by name, as an HTML table: the result, or the reason for having none."""
    rows = ""
    for name, outcome in outcomes:
        if isinstance(outcome, str):
            cell = f"<td class='wrong'>{escape(outcome)}</td>"
        else:
            facts = outcome.facts
            found = f"{facts['width']} x {facts['height']} pixels; noise {facts['noise_level']:.1f} grey levels"
            cell = f"<td>{download_links([outcome.result], url)}{found}; {facts['seconds']:.1f} s</td>"
        rows += f"<tr><th scope='row'>{escape(name)}</th>{cell}</tr>"
    return f"<table class='figures'><caption>Results</caption>{rows}</table>"


class Answer(NamedTuple):
    """The outputs of the page, in order; skipped ones keep their content.

    ``status`` and ``figures`` are HTML; ``results`` makes the results visible; ``slider`` has two pictures, before and
    after; ``facts`` are those of `Restored`, a list of them for several photographs.
    """

    status: Any
    results: Any = gr.skip()
    slider: Any = gr.skip()
    figures: Any = gr.skip()
    facts: Any = gr.skip()


def progress_answer(progress: Progress, prefix: str = "") -> Answer:
    """An answer before the result: the status, and the pictures of a step."""
    line = status(prefix + progress.text, progress.share)
    if progress.pictures is None:
        return Answer(line)
    return Answer(line, gr.update(visible=True), progress.pictures)
