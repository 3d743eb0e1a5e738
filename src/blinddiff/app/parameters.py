"""The parameters of a restoration, as both HTTP interfaces publish and receive them."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from blinddiff.app.request import FORMATS, Request
from blinddiff.restoring.photograph import MAX_FACTOR, RestoreSettings
from blinddiff.sampling.pipeline import BlindDiffPipeline

FILES = ("photograph", "kernel_file", "mask_file")
"""The parameters that are files."""
_MAX_SIDE = 999_999
_SETTINGS = {field.name for field in fields(RestoreSettings)}


def restore_parameters(pipeline: BlindDiffPipeline, file: Any) -> type[BaseModel]:
    """A model whose fields are the parameters, in order; ``file`` is the type of a file in the interface.

    The model has the types. The ranges are for the description only: `restore_request` checks them.
    """
    modes, default = tuple(pipeline.modes), pipeline.network.default_mode
    of_result = "of the result in pixels, instead of scale"
    fields: dict[str, Any] = {
        "photograph": (file, Field(description="the photograph")),
        "scale": (float, _described("enlargement", 4, 1, MAX_FACTOR)),
        "mode": (Literal[modes], Field(default, description="how to restore")),
        "samples": (int, _described("samples with different noise; the result is their mean", 1, 1, 64)),
        "seed": (int, _described("seed of the noise of the diffusion", 0, 0, 2**63 - 1)),
        "file_format": (Literal[FORMATS], Field("png", description="format of the result")),
        "noise_level": (float | None, _described("noise in grey levels, if known", None, 0, 255)),
        "steps": (int | None, _described("steps; by default those of the mode", None, 1, 1000)),
        "kernel_map": (bool, Field(False, description="the blur varies: estimate and remove it region by region")),
        "kernel_file": (file | None, Field(None, description="file of the blur kernel, if known")),
        "kernel_numbers": (str, Field("", description="the kernel as text: one line per row, with sum 1")),
        "mask_file": (file | None, Field(None, description="grey picture, white where the photograph is not believed")),
        "region": (str, Field("", description="left, top, width, height: estimate the kernel from this part")),
        "crop": (str, Field("", description="left, top, width, height: restore only this part")),
        "page": (int | None, _described("page of a TIFF file", None, 1, 1000)),
        "width": (int | None, _described(f"width {of_result}", None, 1, _MAX_SIDE)),
        "height": (int | None, _described(f"height {of_result}", None, 1, _MAX_SIDE)),
        "longest": (int | None, _described(f"longer side {of_result}", None, 1, _MAX_SIDE)),
        "megapixels": (float | None, _described("size of the result, instead of scale", None, 0.001, 1000)),
    }
    return create_model("RestoreParameters", __config__=ConfigDict(extra="forbid"), **fields)


def _described(text: str, default: float | None, low: float, high: float) -> Any:
    """A number's field, with its range in the schema: in the part for numbers, if it may be missing."""

    def add_range(schema: dict[str, Any]) -> None:
        schema.get("anyOf", [schema])[0].update(minimum=low, maximum=high)

    return Field(default, description=text, json_schema_extra=add_range)


def restore_request(values: Mapping[str, Any], files: Mapping[str, Path | None], **others: Any) -> Request:
    """The request for values of `restore_parameters`, with its `FILES` stored as ``files``.

    Raises ParameterError for a wrong value.
    """
    plain = {name: value for name, value in values.items() if name not in FILES}
    settings = {name: value for name, value in plain.items() if name in _SETTINGS}
    rest = {name: value for name, value in plain.items() if name not in _SETTINGS}
    return Request.checked(settings=settings, **files, **rest, **others)
