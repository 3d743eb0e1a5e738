"""Crops and kernels as pictures inside the page."""

import base64
import io
from html import escape

import torch
from PIL import Image
from torch import Tensor

from blinddiff.evaluation.report.blocks import Figure
from blinddiff.evaluation.report.showcase import Showcase, Strip
from blinddiff.imaging import kernel_picture

KERNEL_SIDE = 62  # pixels of one kernel's picture


def data_uri(picture: Image.Image) -> str:
    """A picture as an address that holds it, losslessly."""
    file = io.BytesIO()
    picture.save(file, "WEBP", lossless=True, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def case_figures(showcase: Showcase) -> list[Figure]:
    """One strip of crops a case."""
    return [Figure(_strip(strip), "PSNR-Y is that of the whole image.") for strip in showcase.strips]


def _strip(strip: Strip) -> str:
    cells = []
    for picture in strip.pictures:
        image = data_uri(Image.fromarray(picture.crop))
        kernel = "" if picture.kernel is None else _kernel_image(picture.kernel, f"kernel, {picture.label}", "4rem")
        cells.append(
            f'<div><img src="{image}" alt="{escape(picture.label)}"><b>{escape(picture.label)}</b> '
            f'<span class="note">{escape(picture.note)}</span>{kernel}</div>'
        )
    return f'<h3>{escape(strip.title)}</h3><div class="strip">{"".join(cells)}</div>'


def kernel_figure(showcase: Showcase) -> list[Figure]:
    """True kernels on the left, estimates on the right, each pair in one scale of colours."""
    cells = []
    for pair in showcase.kernels:
        both = pair.estimated if pair.true is None else torch.cat([pair.true, pair.estimated], dim=1)
        cells.append(f"<div>{_kernel_image(both, pair.title, '100%')}{escape(pair.title)}</div>")
    if not cells:
        return []
    known = any(pair.true is not None for pair in showcase.kernels)
    what = "true (left) and estimated (right)" if known else "estimated (the truth is not known)"
    html = '<div class="strip wide">' + "".join(cells) + "</div>"
    return [Figure(html, f"Kernels of `{showcase.subject}`, {what}, from the best estimate to the worst by L1.")]


def _kernel_image(kernel: Tensor, alt: str, width: str) -> str:
    picture = kernel_picture(kernel, side=KERNEL_SIDE * (kernel.shape[1] // kernel.shape[0] or 1))
    return f'<img src="{data_uri(picture)}" alt="{escape(alt)}" style="width:{width}">'
