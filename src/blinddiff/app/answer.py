"""What the page's outputs become."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from PIL import Image

from blinddiff.app.figures import figures, status
from blinddiff.app.pictures import drawn_kernel, drawn_uncertainty, shown
from blinddiff.app.restoring import Restoration, Step
from blinddiff.imaging import encode_image, residual_picture

_RESIDUAL_SIDE = 372


class Answer(NamedTuple):
    """The outputs in their order; what is skipped stays as it is.

    Attributes:
        status: a line of HTML.
        slider: paths of the pictures before and after.
        figures: a table in HTML.
        kernel, residual, uncertainty: paths of pictures.
        result: path of the file to download.
        estimate: path of the JSON file with `facts`.
        facts: see `Restoration`.
    """

    status: Any
    slider: Any = gr.skip()
    figures: Any = gr.skip()
    kernel: Any = gr.skip()
    residual: Any = gr.skip()
    uncertainty: Any = gr.skip()
    result: Any = gr.skip()
    estimate: Any = gr.skip()
    facts: Any = gr.skip()


def cleared(words: str) -> Answer:
    """No result yet, or no longer."""
    return Answer(status(words), None, "", None, None, None, None, None, None)


def answer_of_step(step: Step, folder: Path) -> Answer:
    """The image so far."""
    before = _before(step, folder)
    # each under its own name, for browsers keep what they have under a name
    now = folder / f"step-{step.number}.jpg"
    now.write_bytes(shown(step.image, step.photograph))
    words = f"Step {step.number} of {step.steps}"
    return Answer(status(words, step.number / step.steps), slider=(str(before), str(now)))


def answer_of_result(done: Restoration, file_format: str, folder: Path) -> Answer:
    """Everything."""
    name = f"{Path(done.facts['photograph']).stem}-x{done.facts['scale']}"
    output, estimate = folder / f"{name}.{file_format}", folder / f"{name}.json"
    output.write_bytes(encode_image(output, done.result.pixels, done.photograph, done.result.alpha))
    estimate.write_text(json.dumps(done.facts), encoding="utf-8")
    before, after = _before(done, folder), folder / "after.jpg"
    after.write_bytes(shown(done.result.pixels, done.photograph))

    residual, residual_extent = residual_picture(done.result.residual, _RESIDUAL_SIDE)
    uncertainty, uncertainty_extent = None, None
    if done.result.std is not None:
        drawn, uncertainty_extent = drawn_uncertainty(done.result.std)
        uncertainty = _saved(drawn, folder / "uncertainty.png")
    return Answer(
        status(f"Done in {done.facts['seconds']:.1f} seconds", 1),
        (str(before), str(after)),
        figures(done.facts, residual_extent, uncertainty_extent),
        _saved(drawn_kernel(done.result.kernel), folder / "kernel.png"),
        _saved(residual, folder / "residual.png"),
        uncertainty,
        str(output),
        str(estimate),
        done.facts,
    )


def _before(shows: Step | Restoration, folder: Path) -> Path:
    """The picture before, written once: a browser may be reading it when the next answer comes."""
    path = folder / "before.jpg"
    if not path.exists():
        path.write_bytes(shown(shows.before, shows.photograph))
    return path


def _saved(picture: Image.Image, path: Path) -> str:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())
    return str(path)
