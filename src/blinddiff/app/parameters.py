"""The parameters of a restoration, as both HTTP interfaces publish and receive them."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from blinddiff.app.request import FORMATS, Request
from blinddiff.restoring.photograph import RestoreSettings
from blinddiff.sampling.pipeline import BlindDiffPipeline

FILES = ("photograph", "kernel_file")
"""The parameters that are files."""
_SETTINGS = {field.name for field in fields(RestoreSettings)}


def restore_parameters(pipeline: BlindDiffPipeline, file: Any) -> type[BaseModel]:
    """A model whose fields are the parameters, in order; ``file`` is the type of a file in the interface.

    The model has the types. Ranges are those of `RestoreSettings`, checked with `restore_request`.
    """
    modes, default = tuple(pipeline.modes), pipeline.network.default_mode
    text = "samples with different noise; the result is their mean"
    return create_model(
        "RestoreParameters",
        __config__=ConfigDict(extra="forbid"),
        photograph=(file, Field(description="the photograph")),
        scale=(float, Field(4, description="enlargement, 1 to 8")),
        mode=(Literal[modes], Field(default, description="how to restore")),  # type: ignore[valid-type]
        samples=(int, Field(1, description=text)),
        seed=(int, Field(0, description="seed of the noise of the diffusion")),
        file_format=(Literal[FORMATS], Field("png", description="format of the result")),  # type: ignore[valid-type]
        noise_level=(float | None, Field(None, description="noise in grey levels, 0 to 255, if known")),
        steps=(int | None, Field(None, description="steps, 1 to 1000; by default those of the mode")),
        kernel_file=(file | None, Field(None, description="file of the blur kernel, if known")),
        kernel_numbers=(str, Field("", description="the kernel as text: one line per row, with sum 1")),
        region=(str, Field("", description="left, top, width, height: estimate the kernel from this part")),
        crop=(str, Field("", description="left, top, width, height: restore only this part")),
        page=(int | None, Field(None, description="page of a TIFF file, from 1")),
        width=(int | None, Field(None, description="width of the result in pixels, instead of scale")),
        height=(int | None, Field(None, description="height of the result in pixels, instead of scale")),
        longest=(int | None, Field(None, description="longer side of the result in pixels, instead of scale")),
        megapixels=(float | None, Field(None, description="size of the result, instead of scale")),
    )


def restore_request(values: Mapping[str, Any], photograph: Path, kernel_file: Path | None, **others: Any) -> Request:
    """The request for values of `restore_parameters`, with its files stored as ``photograph`` and ``kernel_file``.

    Raises ParameterError for a wrong value.
    """
    plain = {name: value for name, value in values.items() if name not in FILES}
    settings = {name: value for name, value in plain.items() if name in _SETTINGS}
    rest = {name: value for name, value in plain.items() if name not in _SETTINGS}
    return Request.checked(photograph=photograph, settings=settings, kernel_file=kernel_file, **rest, **others)
