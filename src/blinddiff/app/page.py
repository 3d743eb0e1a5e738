"""The layout of the page, and the handlers of its events."""

import shutil
from functools import partial
from pathlib import Path

import gradio as gr

from blinddiff.app import Limits
from blinddiff.app.jobs import Restorer
from blinddiff.app.request import FORMATS, KERNEL_SUFFIXES, VisitorFiles
from blinddiff.app.views import Preview, status
from blinddiff.sampling.pipeline import MODES, BlindDiffPipeline

CSS = Path(__file__).with_name("page.css")
THEME = gr.themes.Base(
    font=("ui-sans-serif", "system-ui", "sans-serif"), font_mono=("ui-monospace", "Consolas", "monospace")
)
_EXAMPLES = {name: Path(__file__).parents[1] / "samples" / f"{name.lower()}.jpg" for name in ("Flowers", "Guitar")}
_MODE_LABELS = {
    "fidelity": "Fidelity: closest on average",
    "fast": "Fast: nearly as close, in half the time",
    "perceptual": "Perceptual: sharper, partly invented",
    "paper": "Paper: the published sampler, slow",
}
_DISPLAY = {"type": "filepath", "interactive": False, "buttons": ["fullscreen"]}
_picture = partial(gr.Image, **_DISPLAY)
_PICTURES = {
    "Kernel": "The blur kernel, with an ellipse that shows its widths",
    "Residual": "The input minus the blurred and downsampled result; mid-grey is zero",
    "Uncertainty": "The standard deviation of the samples: lighter pixels are less certain",
}


def build_page(pipeline: BlindDiffPipeline, limits: Limits, files: VisitorFiles) -> gr.Blocks:
    """The page for a pipeline, to be served by `server.served`."""
    restorer, preview = Restorer(pipeline, limits, files), Preview(limits, files)
    with gr.Blocks(title="blinddiff", analytics_enabled=False) as page:
        gr.Markdown(
            "# blinddiff\nRestores a small, blurred or noisy photograph. Also returns the blur kernel and the noise "
            "level that explain the photograph."
        )
        with gr.Row():
            with gr.Column(min_width=300):
                # Accepts any file name: reading detects the format from the content, and reports errors.
                photograph = gr.File(label="Photograph", height=140, elem_id="upload")
                with gr.Row():
                    gr.Markdown("Or try an example:")
                    examples = [gr.Button(name, size="sm", min_width=80) for name in _EXAMPLES]
                chosen = _picture(
                    label="Your photograph", alt_text="Your photograph, as it was read", visible=False, height=180
                )
                inputs = [
                    photograph,
                    gr.Radio([1, 2, 3, 4], value=4, label="Scale: how many times larger"),
                    gr.Radio([(_MODE_LABELS[name], name) for name in MODES], value="fidelity", label="Mode"),
                ]
                with gr.Row():
                    start = gr.Button("Restore", variant="primary", min_width=120, elem_id="restore")
                    cancel = gr.Button("Cancel", variant="stop", min_width=120, elem_id="cancel")
                with gr.Accordion("More choices", open=False):
                    inputs += [
                        gr.Slider(1, 16, 1, step=1, label="Samples (two or more give an uncertainty map)"),
                        gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**53 - 1),
                        gr.Dropdown(FORMATS, value="png", label="Format of the result"),
                        gr.Number(None, label="Noise level in grey levels, if you know it", minimum=0, maximum=255),
                        gr.Number(None, label="Steps (default: set by the mode)", precision=0, minimum=1, maximum=1000),
                    ]
                with gr.Accordion("The blur kernel, if you know it", open=False):
                    label = f"Kernel file: a grey picture or numbers ({', '.join(KERNEL_SUFFIXES)})"
                    inputs.append(gr.File(label=label, height=120))
                    label = "Kernel numbers: one row per line, with sum 1"
                    inputs.append(gr.Textbox("", lines=3, label=label, placeholder="0.25 0.5 0.25"))
                with gr.Accordion("The region that the kernel is estimated from", open=False):
                    label = "Region: left, top, width, height in pixels (empty: the whole photograph)"
                    placeholder = "or press two opposite corners in the photograph below"
                    region = gr.Textbox("", label=label, placeholder=placeholder)
                    # Always visible: Gradio does not draw an image that becomes visible in an open accordion.
                    region_picture = _picture(
                        label="Your photograph: press two corners of a region",
                        alt_text="Your photograph, with the region that the kernel is estimated from",
                        buttons=[],
                        elem_id="photograph",
                    )
            with gr.Column(min_width=300, scale=2):
                hint = status("Choose a photograph, then press Restore.")
                status_line = gr.HTML(hint, label="Status", elem_id="status")
                slider = gr.ImageSlider(label="Before and after", elem_id="slider", **_DISPLAY)
                outputs = [status_line, slider, gr.HTML("", label="Figures", elem_id="figures")]
                with gr.Row():
                    for label, text in _PICTURES.items():
                        outputs.append(_picture(label=label, alt_text=text, elem_id=label.lower(), min_width=150))
                with gr.Row():
                    outputs += [gr.File(label=label, interactive=False) for label in ("Result", "Estimate")]
                with gr.Accordion("The measurements, for programs", open=False):
                    outputs.append(gr.JSON(label="Facts", max_height=300))

        restoring = start.click(
            restorer.restore,
            [*inputs, region],
            outputs,
            api_name="restore",
            api_description="Restore a photograph; see docs/guides/http.md.",
            concurrency_limit=1,
            show_progress="minimal",
            show_progress_on=status_line,
        )
        private = {"api_visibility": "private"}
        # Not queued, so that cancelling takes effect at once
        cancel.click(lambda: status("Cancelled"), None, status_line, cancels=[restoring], queue=False, **private)
        previews = [chosen, region_picture, region, status_line]
        photograph.change(preview.upload, photograph, previews, show_progress="hidden", **private)
        region_picture.select(preview.click, [photograph, region], previews, show_progress="hidden", **private)

        def choose_example(label: str, request: gr.Request) -> str:
            return str(shutil.copy(_EXAMPLES[label], files.new_folder(str(request.session_hash))))

        for button in examples:
            button.click(choose_example, button, photograph, **private)

        def leave(request: gr.Request) -> None:
            files.leave(str(request.session_hash))

        page.unload(leave)
    return page
