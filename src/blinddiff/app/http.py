"""The HTTP interface by Gradio: one function with named arguments, see docs/guides/http.md."""

import inspect
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypedDict

import gradio as gr
from pydantic_core import PydanticUndefined

from blinddiff.app.jobs import Progress
from blinddiff.app.parameters import FILES, restore_parameters, restore_request
from blinddiff.app.restorer import Restorer
from blinddiff.app.views import page_error
from blinddiff.errors import ImageError, ParameterError
from blinddiff.sampling.arguments import short_repr

_PICTURES = ("before", "after", "kernel", "noise", "residual", "uncertainty")


class File(TypedDict):
    """A file on the server: ``path`` as the upload or an answer names it, ``meta`` {"_type": "gradio.FileData"}."""

    path: str
    meta: dict[str, str]


class Event(TypedDict, total=False):
    """An answer: status and progress (0 to 1) of a step, and in the last one the files and measurements too."""

    status: str
    progress: float
    result: File
    before: File
    after: File
    kernel: File
    noise: File | None
    residual: File
    uncertainty: File | None
    facts: dict[str, Any]


def _file(path: Path) -> File:
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def _path(name: str, file: Any) -> Path:
    """The path of an uploaded file. `PrivatePaths` has checked a file's path, but no other value."""
    if not (isinstance(file, dict) and isinstance(file.get("path"), str)):
        raise ParameterError(f'{name} {short_repr(file)}: must be an uploaded file: {{"path": ..., "meta": ...}}')
    return Path(file["path"])


def add_http_interface(restorer: Restorer, concurrency_id: str) -> None:
    """Add the function ``restore`` to the page that is being built; its arguments are `restore_parameters`."""
    fields = restore_parameters(restorer.pipeline, Any).model_fields

    async def restore(*arguments: Any) -> AsyncGenerator[Event, None]:
        *values, request = arguments
        try:
            named = dict(zip(fields, values, strict=True))
            if named["photograph"] is None:
                raise ImageError("no photograph yet: choose one first")
            stored = {name: None if named[name] is None else _path(name, named[name]) for name in FILES}
            job = restore_request(named, stored)
            async with aclosing(restorer.restore(job, str(request.session_hash))) as events:
                async for event in events:
                    if isinstance(event, Progress):
                        yield {"status": event.text, "progress": event.share}
                        continue
                    files: dict[str, Any] = {"result": _file(event.result)}
                    for name in _PICTURES:
                        files[name] = _file(event.pictures[name]) if name in event.pictures else None
                    done = f"Done in {event.facts['seconds']:.1f} seconds"
                    yield {"status": done, "progress": 1.0, **files, "facts": event.facts}  # type: ignore[typeddict-item]
        except Exception as error:  # noqa: BLE001  # logged, and reported to the visitor
            raise page_error(error) from None

    # Gradio reads the arguments and the answer, which it describes to programs, from signature and annotations.
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=inspect.Parameter.empty if field.default is PydanticUndefined else field.default,
        )
        for name, field in fields.items()
    ]
    parameters.append(inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None))
    restore.__signature__ = inspect.Signature(parameters, return_annotation=Event)  # type: ignore[attr-defined]
    types = {name: field.annotation for name, field in fields.items()}
    files = {**dict.fromkeys(FILES, File | None), "photograph": File}
    restore.__annotations__ = {**types, **files, "request": gr.Request, "return": Event}
    gr.api(
        restore,
        api_name="restore",
        api_description="Restore a photograph; see docs/guides/http.md.",
        concurrency_limit=1,
        concurrency_id=concurrency_id,
    )
