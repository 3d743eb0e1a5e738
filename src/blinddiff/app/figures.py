"""What was found, in words."""

from html import escape
from typing import Any

from blinddiff.degradation.kernel_measures import is_round
from blinddiff.sampling.output import UNKNOWABLE


def figures(facts: dict[str, Any], residual_extent: float, uncertainty_extent: float | None) -> str:
    """The figures of a restoration as a table in HTML.

    Args:
        facts: as in `Restoration`.
        residual_extent, uncertainty_extent: grey levels that the lightest colour of these pictures stands for.
    """
    major, minor = facts["kernel_widths"]
    rows = [
        ("Size", f"{facts['width']} x {facts['height']} pixels"),
        ("Kernel widths", f"{major:.2f} x {minor:.2f} pixels of the result"),
        ("Kernel angle", _angle(major, minor, facts["kernel_angle"])),
        ("Kernel from", facts["kernel_from"]),
        *([] if (error := facts["expected_kernel_error"]) is None else [("Kernel error", error_words(error))]),
        ("Noise level", f"{facts['noise_level']:.1f} grey levels"),
        (
            "Residual",
            f"{facts['residual_rms']:.2f} grey levels (root mean square); drawn from -{residual_extent:.1f}, black, "
            f"to +{residual_extent:.1f}, white",
        ),
        ("Consistency", f"{facts['consistency']:.2f} ({consistency_words(facts['consistency'])})"),
    ]
    if uncertainty_extent is not None:
        words = (
            f"{facts['uncertainty']:.2f} grey levels over {facts['samples']} samples; drawn from 0, dark, to "
            f"{uncertainty_extent:.1f}, light"
        )
        rows.append(("Uncertainty", words))
    rows += [("Seconds", f"{facts['seconds']:.1f}"), ("Seed", str(facts["seed"]))]
    cells = "".join(f"<tr><th scope='row'>{name}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table class='figures'><caption>What was found</caption>{cells}</table>"


def error_words(expected: float) -> str:
    """How far the kernel is to be trusted, see `BlindDiffOutput`."""
    trust = "it cannot be known from this picture" if expected >= UNKNOWABLE else "expected"
    return f"{expected:.2f} of 2 ({trust})"


def consistency_words(consistency: float) -> str:
    """What the residual says, see `BlindDiffOutput`."""
    if consistency > 1.5:
        return "far above 1: kernel or noise level are not quite right"
    if consistency < 0.6:
        return "far below 1: the result repeats the input's noise"
    return "near 1: the result explains the input"


def _angle(major: float, minor: float, angle: float) -> str:
    if is_round(major, minor):
        return "none: it is round"
    return f"{angle:.0f} degrees, clockwise from the horizontal"


def status(words: str, share: float | None = None, wrong: bool = False) -> str:
    """A line that screen readers announce, with a bar where a share of the work is done."""
    bar = "" if share is None else f"<progress max='1' value='{share:.3f}' aria-label='work done'></progress>"
    kind = "alert" if wrong else "status"
    return f"<div class='status {'wrong' if wrong else ''}' role='{kind}' aria-live='polite'>{escape(words)}{bar}</div>"
