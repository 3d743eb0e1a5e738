"""The layout of the page."""

import shutil
from pathlib import Path

import gradio as gr

from blinddiff.app.form import Form
from blinddiff.app.http import add_http_interface
from blinddiff.app.preview import Preview
from blinddiff.app.request import FORMATS, KERNEL_SUFFIXES
from blinddiff.app.restorer import Restorer
from blinddiff.app.views import status

CSS = Path(__file__).with_name("page.css")
HEAD = f"<script>{Path(__file__).with_name('page.js').read_text(encoding='utf-8')}</script>"
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
_QUEUE = "restoring"  # of the page and of programs: one restoration at a time


def build_page(restorer: Restorer) -> gr.Blocks:
    """The page of a restorer, to be served by `server.served`."""
    pipeline, limits, files = restorer.pipeline, restorer.limits, restorer.files
    form, preview = Form(restorer), Preview(limits, files)
    # Fields that may be empty are text: an empty field of numbers gets the value 0 when it is first displayed.
    with gr.Blocks(title="blinddiff", analytics_enabled=False) as page:
        gr.Markdown(
            "# blinddiff\nRestores a small, blurred or noisy photograph. Also returns the blur kernel and the noise "
            "level that explain the photograph."
        )
        with gr.Row():
            with gr.Column(min_width=300):
                # Accepts any file name: reading detects the format from the content, and reports errors.
                label = "Photographs: choose, drop or paste"
                photographs = gr.File(label=label, height=140, elem_id="upload", file_count="multiple")
                with gr.Row():
                    gr.Markdown("Or try an example:")
                    examples = [gr.Button(name, size="sm", min_width=80) for name in _EXAMPLES]
                picture = gr.Image(
                    label="Press two opposite corners to crop",
                    type="filepath",
                    interactive=False,
                    buttons=[],
                    visible=False,
                    elem_id="photograph",
                )
                number = gr.Number(1, label="Page", precision=0, minimum=1, visible=False)
                about = gr.HTML(status("Choose a photograph, then press Restore."), label="Photograph", elem_id="about")
                plan = gr.HTML("", label="Plan", elem_id="plan")
                label = "Part to restore: left, top, width, height"
                crop = gr.Textbox("", label=label, placeholder="all of it", visible=False)
                scale = gr.Radio(pipeline.scales, value=pipeline.scales[-1], label="Scale: how many times larger")
                size = gr.Textbox("", label="Other size", placeholder="1.5x, or the longer side such as 2000")
                modes = [(_MODE_LABELS[name], name) for name in pipeline.modes]
                mode = gr.Radio(modes, value=pipeline.network.default_mode, label="Mode")
                with gr.Row():
                    start = gr.Button("Restore", variant="primary", min_width=120, elem_id="restore")
                    cancel = gr.Button("Cancel", variant="stop", min_width=120, elem_id="cancel")
                status_line = gr.HTML("", label="Status", elem_id="status")
                with gr.Accordion("More choices", open=False):
                    samples = gr.Slider(1, 16, 1, step=1, label="Samples (two or more give an uncertainty map)")
                    seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**53 - 1)
                    file_format = gr.Dropdown(FORMATS, value="png", label="Format of the result")
                    noise = gr.Textbox("", label="Noise level in grey levels", placeholder="estimated")
                    steps = gr.Textbox("", label="Steps", placeholder="set by the mode")
                    label = "The blur varies over the photograph: estimate and remove it region by region"
                    kernel_map = gr.Checkbox(False, label=label)
                with gr.Accordion("Scratches or text to fill", open=False):
                    mask_file = gr.File(label="Mask: a picture of its size, white where to fill it", height=120)
                with gr.Accordion("The blur kernel, if you know it", open=False):
                    label = f"Kernel file: a grey picture or numbers ({', '.join(KERNEL_SUFFIXES)})"
                    kernel_file = gr.File(label=label, height=120)
                    label = "Kernel numbers: one row per line, with sum 1"
                    kernel_numbers = gr.Textbox("", lines=3, label=label, placeholder="0.25 0.5 0.25")
                with gr.Accordion("The region for the kernel", open=False):
                    label = "Region: left, top, width, height"
                    region = gr.Textbox("", label=label, placeholder="the whole photograph")
                    for_region = gr.Checkbox(False, label="Presses on the photograph select this region")
            with gr.Column(min_width=300, scale=2), gr.Column(visible=False, elem_id="results") as results:
                slider = gr.ImageSlider(
                    label="Before and after",
                    type="filepath",
                    interactive=False,
                    buttons=["fullscreen"],
                    elem_id="slider",
                )
                figures = gr.HTML("", label="Figures", elem_id="figures")
                with gr.Accordion("The measurements, for programs", open=False):
                    facts = gr.JSON(label="Facts", max_height=300)

        private = {"api_visibility": "private"}
        hidden = {"show_progress": "hidden", **private}
        fields = [photographs, number, crop, scale, size, mode, samples, seed, file_format, noise, steps]
        add_http_interface(restorer, _QUEUE)  # first, so that it gets the name
        restoring = start.click(
            form.restore,
            [*fields, kernel_map, mask_file, kernel_file, kernel_numbers, region],
            [status_line, results, slider, figures, facts],
            concurrency_limit=1,
            concurrency_id=_QUEUE,
            show_progress="minimal",
            show_progress_on=status_line,
            **private,
        )
        # Not queued, so that cancelling takes effect at once
        cancel.click(lambda: status("Cancelled"), None, status_line, cancels=[restoring], queue=False, **private)
        sizes = gr.State([])  # names with height and width
        shown = [picture, number, sizes, crop, region, about, status_line]
        photographs.change(preview.show, [photographs, gr.State(1)], shown, **hidden)
        number.input(preview.show, [photographs, number], shown, **hidden)
        pressed = [picture, crop, region]
        picture.select(preview.click, [photographs, number, crop, region, for_region], pressed, **hidden)
        gr.on(
            [sizes.change, crop.change, scale.change, size.change, mode.change, samples.release, steps.change],
            form.plan,
            [sizes, crop, scale, size, mode, samples, steps],
            plan,
            trigger_mode="multiple",  # the answers come in the order of the changes
            concurrency_limit=None,
            **hidden,
        )

        def choose_example(label: str, request: gr.Request) -> list[str]:
            return [str(shutil.copy(_EXAMPLES[label], files.new_folder(str(request.session_hash))))]

        for button in examples:
            button.click(choose_example, button, photographs, **private)

        def leave(request: gr.Request) -> None:
            files.leave(str(request.session_hash))

        page.unload(leave)
    return page
