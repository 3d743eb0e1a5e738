"""The layout of the page, and which event calls what."""

import shutil
from functools import partial
from pathlib import Path

import gradio as gr

from blinddiff.app import Limits
from blinddiff.app.jobs import Restorer
from blinddiff.app.request import FORMATS, KERNEL_SUFFIXES, VisitorFiles
from blinddiff.app.views import Preview, status
from blinddiff.sampling.pipeline import MODES, BlindDiffPipeline

CSS = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
THEME = gr.themes.Base(
    font=("ui-sans-serif", "system-ui", "sans-serif"), font_mono=("ui-monospace", "Consolas", "monospace")
)
_EXAMPLES = {"Flowers": "flowers.jpg", "Guitar": "guitar.jpg"}
_EXAMPLES_FOLDER = Path(__file__).parents[1] / "samples"
_MAX_SAMPLES = 16
_MODE_LABELS = {
    "fidelity": "Fidelity: closest on average",
    "fast": "Fast: nearly as close, in half the time",
    "perceptual": "Perceptual: sharper, partly invented",
    "paper": "Paper: the published sampler, slow",
}
_picture = partial(gr.Image, type="filepath", interactive=False, buttons=["fullscreen"])
_small_picture = partial(_picture, min_width=150)


def build_page(pipeline: BlindDiffPipeline, limits: Limits, files: VisitorFiles) -> gr.Blocks:
    """The page for a pipeline; `server.served` opens it to visitors."""
    restorer, preview = Restorer(pipeline, limits, files), Preview(limits, files)
    with gr.Blocks(title="blinddiff", analytics_enabled=False) as page:
        gr.Markdown(
            "# blinddiff\n"
            "A small, blurred or noisy photograph goes in; out come the sharp photograph, and the blur kernel and "
            "noise level that explain the input."
        )
        with gr.Row():
            with gr.Column(min_width=300):
                # Any file name is accepted: the content decides, and errors are reported in one sentence.
                photograph = gr.File(label="Photograph", height=140, elem_id="upload")
                with gr.Row():
                    gr.Markdown("Or try one of ours:")
                    examples = [gr.Button(name, size="sm", min_width=80) for name in _EXAMPLES]
                chosen = _picture(
                    label="Your photograph", alt_text="Your photograph, as it was read", visible=False, height=180
                )
                scale = gr.Radio([1, 2, 3, 4], value=4, label="Scale: how many times larger")
                mode = gr.Radio([(_MODE_LABELS[name], name) for name in MODES], value="fidelity", label="Mode")
                with gr.Row():
                    start = gr.Button("Restore", variant="primary", min_width=120, elem_id="restore")
                    cancel = gr.Button("Cancel", variant="stop", min_width=120, elem_id="cancel")
                with gr.Accordion("More choices", open=False):
                    samples = gr.Slider(
                        1, _MAX_SAMPLES, 1, step=1, label="Samples: with several, an uncertainty map is drawn"
                    )
                    seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**53 - 1)
                    file_format = gr.Dropdown(FORMATS, value="png", label="Format of the result")
                    noise_level = gr.Number(
                        None, label="Noise level in grey levels, where you know it", minimum=0, maximum=255
                    )
                    steps = gr.Number(None, label="Steps (empty: the mode's own)", precision=0, minimum=1, maximum=1000)
                with gr.Accordion("The blur kernel, if you know it", open=False):
                    kernel_file = gr.File(
                        label=f"Kernel file: a grey picture or numbers ({', '.join(KERNEL_SUFFIXES)})", height=120
                    )
                    kernel_numbers = gr.Textbox(
                        "",
                        lines=3,
                        label="Kernel numbers: a row on each line, with the sum 1",
                        placeholder="0.25 0.5 0.25",
                    )
                with gr.Accordion("The region that the kernel is estimated from", open=False):
                    region = gr.Textbox(
                        "",
                        label="Region: left, top, width, height in pixels (empty: the whole photograph)",
                        placeholder="or press two opposite corners in the photograph below",
                    )
                    # Never hidden: Gradio does not draw an image that becomes visible in an open accordion.
                    region_picture = _picture(
                        label="Your photograph: press two corners of a region",
                        alt_text="Your photograph, with the region that the kernel is estimated from",
                        buttons=[],
                        elem_id="photograph",
                    )
            with gr.Column(min_width=300, scale=2):
                hint = status("Choose a photograph, then press Restore.")
                status_line = gr.HTML(hint, label="Status", elem_id="status")
                slider = gr.ImageSlider(
                    type="filepath",
                    label="Before and after",
                    interactive=False,
                    buttons=["fullscreen"],
                    elem_id="slider",
                )
                figures = gr.HTML("", label="Figures", elem_id="figures")
                with gr.Row():
                    kernel = _small_picture(
                        label="Kernel", alt_text="The blur kernel with the ellipse of its widths", elem_id="kernel"
                    )
                    residual = _small_picture(
                        label="Residual",
                        alt_text="What the result does not explain of the input, around mid-grey",
                        elem_id="residual",
                    )
                    uncertainty = _small_picture(
                        label="Uncertainty",
                        alt_text="Where the samples disagree: the lighter, the less sure",
                        elem_id="uncertainty",
                    )
                with gr.Row():
                    result = gr.File(label="Result", interactive=False)
                    estimate = gr.File(label="Estimate", interactive=False)
                with gr.Accordion("What was estimated, for programs", open=False):
                    facts = gr.JSON(label="Facts", max_height=300)

        inputs = [photograph, scale, mode, samples, seed, file_format, noise_level, steps]
        inputs += [kernel_file, kernel_numbers, region]
        restoring = start.click(
            restorer.restore,
            inputs,
            [status_line, slider, figures, kernel, residual, uncertainty, result, estimate, facts],
            api_name="restore",
            api_description="Restore a photograph; see docs/guides/http.md.",
            concurrency_id="restoring",
            concurrency_limit=1,
            show_progress="minimal",
            show_progress_on=status_line,
            trigger_mode="once",
        )
        # Not queued: cancelling takes effect at once.
        cancel.click(
            lambda: status("Cancelled"), None, status_line, cancels=[restoring], queue=False, api_visibility="private"
        )
        previews = [chosen, region_picture, region, status_line]
        hidden = {"api_visibility": "private", "show_progress": "hidden"}
        photograph.change(preview.upload, photograph, previews, **hidden)
        region_picture.select(preview.click, [photograph, region], previews, **hidden)
        for button, name in zip(examples, _EXAMPLES.values(), strict=True):
            button.click(_example_handler(files, name), None, photograph, api_visibility="private")

        def leave(request: gr.Request) -> None:
            files.leave(str(request.session_hash))

        page.unload(leave)
    return page


def _example_handler(files: VisitorFiles, name: str):  # type: ignore[no-untyped-def]  # Gradio reads the inner types
    def choose_example(request: gr.Request) -> str:
        copy = files.new_folder(str(request.session_hash)) / name
        shutil.copyfile(_EXAMPLES_FOLDER / name, copy)
        return str(copy)

    return choose_example
