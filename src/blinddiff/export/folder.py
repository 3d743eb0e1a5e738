"""Writes a folder of exported graphs, with a description for programs (JSON) and a card for people (Markdown)."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from blinddiff import __version__
from blinddiff.errors import ParameterError
from blinddiff.export.onnx import OPSET, check_graphs, export_scale, with_linked_weights
from blinddiff.files import file_hash, make_folder, write_file
from blinddiff.models.mcformer import MCFormer
from blinddiff.models.picture_kind import LIMITS, PICTURE_KINDS
from blinddiff.models.statistics import MAX_WINDOWS, WINDOW
from blinddiff.sampling.decision import SMALLEST_SIDE
from blinddiff.sampling.modes import DESCRIPTION

MODES = ("fast", "fidelity")
"""Modes without diffusion, which a graph can hold."""
CARD = """---
license: apache-2.0
library_name: onnx
pipeline_tag: image-to-image
tags: [super-resolution, blind-super-resolution, deblurring, denoising, kernel-estimation]
---

# blinddiff as ONNX graphs

Blind super-resolution of one photograph: `blinddiff_MODE_xS.onnx`, MODE one of {modes}, S one of {scales}, is
the whole method, from an image to the restored image with its blur kernel and noise. Height and width are
dynamic; opset {opset}; no custom operators. All tensors are float32.

{inputs}

Outputs:

{outputs}

`estimate_xS.onnx` and `restore_MODE_xS.onnx` are its two parts: the first makes the estimates, the second restores
with them. `{file}` holds names, shapes and limits for programs.

## Limits

- One image at a time; sides of y of at least {smallest_side} pixels.
- Results of up to {megapixels:g} megapixels equal those of the package: within 1e-3 of the image's range (0.01 if
  a side is below 20 pixels), and 1e-4 in the kernel. For larger ones the package computes some statistics on
  parts of the image, and memory grows with the size: use overlapping tiles, with the kernel and
  the noise of the whole image.
- The package adds a little noise to what the network sees; the graph leaves it out. The difference is smaller
  than that between two seeds.
- Pictures that are no photographs (`picture_probabilities`) should not be restored as they are: reduce those
  that were enlarged before by `enlarged_by` first. Distrust a result whose `consistency` is above
  {consistency:.3g}.
"""
TENSORS = {
    "y": ("1, 3, height, width", "the image, RGB, 0 to 1"),
    "jpeg_step": (
        "1",
        "mean step of the luma quantisation table of the JPEG file that y comes from; 0 if none",
    ),
    "x": ("1, 3, scale * height, scale * width", "the restored image, RGB, 0 to 1"),
    "x_y": ("1, 3, scale * height, scale * width", "the closed-form image, without the image network, RGB, 0 to 1"),
    "refined_kernel": (
        "1, n, n",
        "the kernel refined with x, mean over the steps; sums to 1; entries may be negative",
    ),
    "refined_noise_level": ("1", "the noise level as refined with x, in grey levels"),
    "residual": ("1, 3, height, width", "y minus the degraded x, in grey levels"),
    "consistency": ("1", "RMS of the residual divided by that expected from noise and rounding; near 1 is good"),
    "kernel": ("1, n, n", "the blur kernel from y alone, in pixels of x; sums to 1; entries may be negative"),
    "noise_level": ("1", "standard deviation of the noise from y alone, in grey levels, 0 to 255"),
    "expected_kernel_error": ("1", "expected sum of |estimated kernel - true kernel|, 0 to 2; unreliable from 0.75 on"),
    "noise_spectrum": (
        "1, 16, 16",
        "power of the noise relative to white noise, mean 1, at the frequencies of fftfreq in cycles per pixel of y",
    ),
    "picture_probabilities": (f"1, {len(PICTURE_KINDS)}", f"of: {', '.join(PICTURE_KINDS)}"),
    "enlarged_by": ("1", "factor by which the picture was enlarged, if it was"),
}
"""Shape and meaning of each input and output. All are float32."""


def write_folder(
    network: MCFormer,
    folder: Path,
    scales: Sequence[int],
    modes: Sequence[str],
    on_scale: Callable[[int, dict[str, float]], object] = lambda *_: None,
    weights: str | None = None,
) -> None:
    """Write the graphs of some scales and modes, `DESCRIPTION` and README.md into a folder.

    Args:
        modes: of `MODES`; the first is the default of the engine.
        on_scale: called after each scale with the largest difference of each output from the network's.
        weights: a file in the folder, with the weights of the network as safetensors, from which the graphs read them.
            Then only the parts are written, without README.md: the folder is one of weights.

    Raises ParameterError for a published network, or a scale that the network does not have; OutputError if a file
    cannot be written; BlindDiffError if a graph does not compute what the network does.
    """
    for mode in modes:
        if mode not in MODES:
            raise ParameterError(f"mode {mode!r} is not one of {', '.join(MODES)}")
    if not network.estimates_noise:
        raise ParameterError("a network that estimates the kernel only from x_t cannot be exported")
    for scale in scales:
        network.check_scale(scale)
    make_folder(folder)
    description: dict[str, Any] = {}
    for scale in scales:
        graphs = export_scale(network, scale, modes)
        differences = check_graphs(graphs, network, scale, modes)
        if weights is not None:
            parts = {name: graph for name, graph in graphs.items() if not name.startswith("blinddiff")}
            graphs = {name: with_linked_weights(graph, folder / weights, weights) for name, graph in parts.items()}
        for name, graph in graphs.items():
            write_file(folder / f"{name}_x{scale}.onnx", graph.SerializeToString())
        description = describe(network, scales, modes, {name: list_tensors(graph) for name, graph in graphs.items()})
        on_scale(scale, differences)
    if weights is not None:
        description["weights"] = {"file": weights, "sha256": file_hash(folder / weights)}
    write_file(folder / DESCRIPTION, (json.dumps(description, indent=2) + "\n").encode())
    if weights is None:
        write_file(folder / "README.md", card(description).encode())


def list_tensors(graph: Any) -> dict[str, list[str]]:
    """Names of a graph's inputs and outputs."""
    return {"inputs": [each.name for each in graph.graph.input], "outputs": [each.name for each in graph.graph.output]}


def describe(
    network: MCFormer, scales: Sequence[int], modes: Sequence[str], graphs: dict[str, dict[str, list[str]]]
) -> dict[str, Any]:
    """What a program has to know of a folder of graphs, as JSON-compatible values."""
    limits = network.picture.limits.tolist()
    return {
        "version": __version__,
        "opset": OPSET,
        "modes": list(modes),
        "scales": list(scales),
        "kernel_size": network.config.kernel_size,
        "smallest_side": SMALLEST_SIDE,
        "largest_result_pixels": MAX_WINDOWS * WINDOW**2,
        "size_multiple": network.size_multiple,
        "picture_kinds": list(PICTURE_KINDS),
        "acceptable": dict(zip(LIMITS, limits, strict=True)),
        "graphs": graphs,
        "tensors": {name: {"shape": shape, "meaning": meaning} for name, (shape, meaning) in TENSORS.items()},
    }


def card(description: dict[str, Any]) -> str:
    """The card of a folder of graphs, in Markdown."""

    def table(names: Sequence[str]) -> str:
        tensors = [(name, description["tensors"][name]) for name in names]
        rows = [f"| `{name}` | ({tensor['shape']}) | {tensor['meaning']} |" for name, tensor in tensors]
        return "\n".join(["| name | shape | meaning |", "|---|---|---|", *rows])

    whole = description["graphs"][f"blinddiff_{description['modes'][0]}"]
    return CARD.format(
        scales=", ".join(map(str, description["scales"])),
        modes=", ".join(description["modes"]),
        opset=description["opset"],
        inputs=table(whole["inputs"]),
        outputs=table(whole["outputs"]),
        file=DESCRIPTION,
        smallest_side=description["smallest_side"],
        megapixels=description["largest_result_pixels"] / 2**20,
        consistency=description["acceptable"]["consistency"],
    )
