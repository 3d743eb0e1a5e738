"""The HTTP interface: one function with named arguments and one JSON object as its answer, see docs/guides/http.md."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal, TypedDict

import gradio as gr

from blinddiff.app.jobs import Progress, Restorer
from blinddiff.app.request import FORMATS, Request
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
    """The path of an uploaded file. `server.PrivatePaths` has checked a file's path, but no other value."""
    if not (isinstance(file, dict) and isinstance(file.get("path"), str)):
        raise ParameterError(f'{name} {short_repr(file)}: must be an uploaded file: {{"path": ..., "meta": ...}}')
    return Path(file["path"])


def add_http_interface(restorer: Restorer, concurrency_id: str) -> None:
    """Add the function ``restore`` to the page that is being built; the arguments are as in `Request`."""

    async def restore(
        photograph: File,
        scale: float = 4,
        mode: Literal[tuple(restorer.pipeline.modes)] = restorer.pipeline.network.default_mode,  # type: ignore[valid-type]
        samples: int = 1,
        seed: int = 0,
        file_format: Literal[FORMATS] = "png",  # type: ignore[valid-type]
        noise_level: float | None = None,
        steps: int | None = None,
        kernel_file: File | None = None,
        kernel_numbers: str = "",
        region: str = "",
        crop: str = "",
        page: int | None = None,
        width: int | None = None,
        height: int | None = None,
        longest: int | None = None,
        megapixels: float | None = None,
        request: gr.Request = None,  # from Gradio
    ) -> AsyncGenerator[Event, None]:
        try:
            if photograph is None:
                raise ImageError("no photograph yet: choose one first")
            settings = {"scale": scale, "mode": mode, "samples": samples, "seed": seed, "noise_level": noise_level}
            settings |= {"steps": steps, "width": width, "height": height, "longest": longest, "megapixels": megapixels}
            job = Request.checked(
                photograph=_path("photograph", photograph),
                settings=settings,
                file_format=file_format,
                kernel_file=None if kernel_file is None else _path("kernel_file", kernel_file),
                kernel_numbers=kernel_numbers,
                region=region,
                crop=crop,
                page=page,
            )
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

    restore.__annotations__["return"] = Event  # Gradio describes an answer by it
    gr.api(
        restore,
        api_name="restore",
        api_description="Restore a photograph; see docs/guides/http.md.",
        concurrency_limit=1,
        concurrency_id=concurrency_id,
    )
