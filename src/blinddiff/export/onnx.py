"""ONNX graphs of the method: for each scale and mode one that restores, and its two parts."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.compose
import onnx.inliner
import onnxruntime
import torch
from onnx import ModelProto, StringStringEntryProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from blinddiff.errors import BlindDiffError
from blinddiff.export.graphs import ESTIMATES, KIND, RESULTS, Estimate, Restore
from blinddiff.export.translations import TRANSLATIONS
from blinddiff.imaging import read_image
from blinddiff.models.mcformer import MCFormer

OPSET = 20
IR_VERSION = 10  # of ONNX Runtime 1.18 and later
TRACED_SIZE = (104, 136)  # height and width of the image that the graphs are traced with; they accept others
CHECKED_SIZE = (37, 75)
"""Height and width of the image on which the graphs are compared with the network."""
PERIODIC_SIZE = (16, 40)
"""Of the one on which the estimates are; its spectra have zeros, which depend on the smallest constants."""
SAMPLE = Path(__file__).parents[1] / "samples" / "flowers.jpg"
TOLERANCES = {"kernel": 1e-4, "x": 1e-3}
"""Largest accepted differences between graph and network."""
SMALLEST_LINKED = 256  # bytes: a link is as long as a smaller weight
DYNAMIC = torch.export.Dim.DYNAMIC


def export_graph(
    module: nn.Module, inputs: dict[str, Tensor], images: Sequence[str], outputs: Sequence[str]
) -> ModelProto:
    """The ONNX graph of a module.

    Args:
        inputs: the module's arguments by name, to trace it with.
        images: inputs of any height and width; the other shapes are fixed.
        outputs: names of the module's results.
    """
    shapes = {name: {2: DYNAMIC, 3: DYNAMIC} if name in images else None for name in inputs}
    arguments = tuple(inputs.values())
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module(*arguments)  # fills caches of constants, which must not hold what is traced
        traced = torch.export.export(
            module,
            arguments,
            dynamic_shapes=shapes,
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,  # an assumption on the size shall not become a limit
        )
        program = torch.onnx.export(
            traced,
            dynamo=True,
            opset_version=OPSET,
            custom_translation_table=TRANSLATIONS,
            input_names=list(inputs),
            output_names=list(outputs),
            optimize=False,  # its rules drop the addition of small constants, such as FLOOR of the statistics
            verbose=False,
        )
    assert program is not None
    return _named(onnx.inliner.inline_local_functions(program.model_proto))


def _named(model: ModelProto) -> ModelProto:
    """The same graph with the axes "height" and "width", and without notes on the source code."""
    shape = next(value for value in model.graph.input if value.name == "y").type.tensor_type.shape
    names = dict(zip((axis.dim_param for axis in shape.dim[2:]), ("height", "width"), strict=True))
    for value in (*model.graph.input, *model.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            for symbol, name in names.items():
                axis.dim_param = axis.dim_param.replace(symbol, name)
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.graph.ClearField("value_info")
    model.ir_version = IR_VERSION
    return model


def in_half_precision(model: ModelProto) -> ModelProto:
    """The same graph, its weights stored in half precision where that loses nothing; it computes in single."""
    casts = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if (
            weight.data_type == TensorProto.FLOAT
            and values.size > 64
            and np.array_equal(half.astype(np.float32), values)
        ):
            casts.append(helper.make_node("Cast", [f"{weight.name}.half"], [weight.name], to=TensorProto.FLOAT))
            weight.CopyFrom(numpy_helper.from_array(half, f"{weight.name}.half"))
    nodes = [*casts, *model.graph.node]
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)
    return model


def joined(estimate: ModelProto, restore: ModelProto) -> ModelProto:
    """One graph of two: `RESULTS`, `ESTIMATES` and `KIND` of an image, from y and jpeg_step."""
    first = onnx.compose.add_prefix(estimate, "estimate/", rename_inputs=False, rename_outputs=False)
    second = onnx.compose.add_prefix(restore, "restore/", rename_inputs=False, rename_outputs=False)
    one, two = first.graph, second.graph
    graph = helper.make_graph(
        [*one.node, *two.node],
        "blinddiff",
        one.input,
        [*two.output, *one.output],
        [*one.initializer, *two.initializer],
    )
    model = helper.make_model(graph, opset_imports=first.opset_import, producer_name="blinddiff")
    model.ir_version = IR_VERSION
    return model


def export_scale(network: MCFormer, scale: int, modes: Sequence[str]) -> dict[str, ModelProto]:
    """The graphs of a scale: "estimate", and for each mode "restore_MODE", and "blinddiff_MODE", which is both."""
    estimate = Estimate(network, scale)
    y, step = torch.rand(1, 3, *TRACED_SIZE, generator=torch.Generator().manual_seed(0)), torch.zeros(1)
    with torch.no_grad():
        estimates = dict(zip(ESTIMATES, estimate(y, step), strict=False))
    first = export_graph(estimate, {"y": y, "jpeg_step": step}, ["y"], [*ESTIMATES, *KIND])
    graphs = {"estimate": first}
    for mode in modes:
        second = export_graph(Restore(network, scale, mode), {"y": y, **estimates}, ["y"], RESULTS)
        graphs |= {f"restore_{mode}": second, f"blinddiff_{mode}": joined(first, second)}
    return {name: in_half_precision(graph) for name, graph in graphs.items()}


def run_graph(model: ModelProto, **inputs: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """The outputs of a graph by name, computed by ONNX Runtime."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip((each.name for each in session.get_outputs()), session.run(None, inputs), strict=True))


def with_linked_weights(model: ModelProto, file: Path, location: str) -> ModelProto:
    """The same graph, which reads the weights that a file of safetensors holds from there.

    location: of the file, relative to the folder of the graph.
    """
    data = file.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")  # of the values; the JSON before it has their places
    places = [each["data_offsets"] for name, each in json.loads(data[8:start]).items() if name != "__metadata__"]
    found = {data[start + first : start + last]: start + first for first, last in places}
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight).tobytes()
        if len(values) >= SMALLEST_LINKED and values in found:
            weight.ClearField("raw_data")
            weight.data_location = TensorProto.EXTERNAL
            entries = {"location": location, "offset": found[values], "length": len(values)}
            weight.external_data.extend(StringStringEntryProto(key=key, value=str(v)) for key, v in entries.items())
    return model


def check_graphs(
    graphs: dict[str, ModelProto], network: MCFormer, scale: int, modes: Sequence[str]
) -> dict[str, float]:
    """Compare a scale's graphs with the network on photographs; returns the largest difference of each output.

    Raises BlindDiffError if a difference is above `TOLERANCES`.
    """
    for graph in graphs.values():
        onnx.checker.check_model(graph)
    estimate, step = Estimate(network, scale), torch.zeros(1)
    differences: dict[str, float] = {}

    def compare(part: str, y: Tensor, expected: dict[str, Tensor]) -> None:
        found = run_graph(graphs[part], y=y.numpy(), jpeg_step=step.numpy())
        for name, value in expected.items():
            difference = float(np.abs(found[name] - value.numpy()).max())
            differences[name] = max(differences.get(name, 0.0), difference)

    with torch.no_grad():
        y = sample_image(*PERIODIC_SIZE)
        compare("estimate", y, dict(zip((*ESTIMATES, *KIND), estimate(y, step), strict=True)))
        y = sample_image(*CHECKED_SIZE)
        estimates = dict(zip((*ESTIMATES, *KIND), estimate(y, step), strict=True))
        for mode in modes:
            results = Restore(network, scale, mode)(y, *(estimates[name] for name in ESTIMATES))
            compare(f"blinddiff_{mode}", y, {**dict(zip(RESULTS, results, strict=True)), **estimates})
    for name, most in TOLERANCES.items():
        if not differences[name] <= most:
            raise BlindDiffError(
                f"the graph of scale {scale} differs from the network: {name} by {differences[name]:.2g}"
            )
    return differences


def sample_image(height: int, width: int) -> Tensor:
    """The middle of a sample photograph: (1, 3, height, width)."""
    pixels = torch.from_numpy(read_image(SAMPLE).pixels)
    top, left = (pixels.shape[-2] - height) // 2, (pixels.shape[-1] - width) // 2
    return pixels[None, :, top : top + height, left : left + width].contiguous()
