"""The service for programs: restorations and estimates in one request each, see docs/guides/service.md."""

import asyncio
import base64
import json
import secrets
import shutil
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, File, Form, Query, Request, Response, Security, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from gradio_client.utils import strip_invalid_filename_characters
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field, create_model

from blinddiff import __version__
from blinddiff.app.jobs import Restored
from blinddiff.app.messages import error_text
from blinddiff.app.parameters import FILES, restore_parameters, restore_request
from blinddiff.app.request import FORMATS, describe_validation
from blinddiff.app.request import Request as Job
from blinddiff.app.restorer import Restorer
from blinddiff.degradation import SCALES
from blinddiff.errors import BlindDiffError, ParameterError
from blinddiff.imaging import OUTPUT_FORMATS

Value = TypeVar("Value")
MEDIA_TYPES = {name: OUTPUT_FORMATS[f".{name}"].media_type for name in FORMATS}
CLIENT_CLOSED = 499
"""The status, in metrics only, of a request whose client has left."""
_DESCRIPTION = "Restores photographs by blind super-resolution, and estimates their blur kernel and noise."
_SCALES: dict[str, Any] = {"minimum": min(SCALES), "maximum": max(SCALES)}  # described; the pipeline checks it
_Scale = Annotated[int, Form(description="scale of the result whose pixels the kernel has", json_schema_extra=_SCALES)]
_Deadline = Annotated[float | None, Query(gt=0, description="seconds after which the request is given up, with 504")]


class Problem(BaseModel):
    """Why a request was not carried out, in one sentence."""

    detail: str


class Estimate(BaseModel, extra="allow"):
    """Kernel and noise of a photograph; docs/guides/http.md describes the facts."""

    photograph: str
    scale: int
    kernel: list[list[float]] = Field(description="rows, in pixels of a result of this scale; sum 1")
    noise_level: float = Field(description="standard deviation in grey levels")


class Answer(BaseModel):
    """A result with its measurements; docs/guides/http.md describes the facts."""

    facts: dict[str, Any]
    name: str
    media_type: str
    image: str = Field(description="the file, in Base64", json_schema_extra={"format": "byte"})


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem} for status in statuses}


def build_service(restorer: Restorer, places: asyncio.Semaphore, **options: Any) -> FastAPI:
    """The service without the page. ``places`` are those of `Admission`, ``options`` those of `FastAPI`."""
    service = FastAPI(
        title="blinddiff", version=__version__, description=_DESCRIPTION, docs_url=None, redoc_url=None, **options
    )
    service.add_exception_handler(BlindDiffError, _refuse)
    service.add_exception_handler(RequestValidationError, _refuse_values)
    service.include_router(_work_routes(restorer))

    @service.get("/healthz", tags=["state"])
    def health() -> dict[str, str]:
        """The server answers."""
        return {"status": "ok", "version": __version__}

    @service.get("/readyz", tags=["state"], responses=_problems(503))
    def readiness() -> JSONResponse:
        """The server accepts a further request; 503 while its queue is full."""
        if places.locked():
            return JSONResponse({"detail": "The queue is full."}, 503)
        return JSONResponse({"status": "ready"})

    text: dict[str, Any] = {"content": {"text/plain": {"schema": {"type": "string"}}}}
    token = Security(HTTPBearer(auto_error=False))  # for the description; `Admission` checks it

    @service.get("/metrics", tags=["state"], dependencies=[token], responses={200: text, **_problems(401)})
    def metrics() -> Response:
        """Counters in the text format of Prometheus."""
        return Response(restorer.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return service


def _work_routes(restorer: Restorer) -> APIRouter:
    answer: Any = (Literal["image", "json", "multipart"], Field("image", description="what is answered"))
    form = create_model("RestoreForm", __base__=restore_parameters(restorer.pipeline, UploadFile), answer=answer)
    router = APIRouter(
        tags=["work"],
        dependencies=[Security(HTTPBearer(auto_error=False))],  # for the description; `Admission` checks it
        responses=_problems(400, 401, 403, 411, 413, 422, 429, 500, 504),
    )
    image = {"schema": {"type": "string", "format": "binary"}}
    answers: dict[str, Any] = dict.fromkeys((*MEDIA_TYPES.values(), "multipart/mixed"), image)
    answers["application/json"] = {"schema": Answer.model_json_schema()}

    @router.post("/restore", response_class=Response, responses={200: {"content": answers}})
    async def restore(
        request: Request,
        values: Annotated[form, Form(media_type="multipart/form-data")],  # type: ignore[valid-type]
        deadline: _Deadline = None,  # noqa: ARG001  # described here; `Admission` keeps it
    ) -> Response:
        """Restore a photograph. Answers the image, or as `answer` says with the measurements."""
        named: dict[str, Any] = dict(values)
        answer = named.pop("answer")
        async with _stored(restorer, *(named[name] for name in FILES)) as stored:
            job = restore_request(named, dict(zip(FILES, stored, strict=True)), pictures=False)
            return await _unless_disconnected(request, _restored(restorer, job, answer))

    @router.post("/kernel", response_model=Estimate)
    async def kernel(
        request: Request,
        photograph: Annotated[UploadFile, File(description="the photograph")],
        scale: _Scale = 4,
        region: Annotated[str, Form(description="left, top, width, height: estimate from this part")] = "",
        page: Annotated[int | None, Form(description="page of a TIFF file, from 1")] = None,
        deadline: _Deadline = None,  # noqa: ARG001  # described here; `Admission` keeps it
    ) -> Response:
        """Estimate the blur kernel and the noise of a photograph."""
        async with _stored(restorer, photograph) as (stored,):
            job = Job.checked(photograph=stored, settings={"scale": scale}, region=region, page=page, pictures=False)
            return await _unless_disconnected(request, _estimated(restorer, job))

    return router


@asynccontextmanager
async def _stored(restorer: Restorer, *uploads: UploadFile | None) -> AsyncIterator[list[Path | None]]:
    """Store the files of a request, each in a folder with its own name, until the request ends."""
    with TemporaryDirectory(dir=restorer.files.folder, ignore_cleanup_errors=True) as folder:
        paths: list[Path | None] = []
        for number, upload in enumerate(uploads):
            paths.append(None)
            if upload is not None:
                name = strip_invalid_filename_characters(Path(upload.filename or "").name) or "photograph"
                path = Path(folder, str(number), name)
                path.parent.mkdir()
                await asyncio.to_thread(_copy, upload, path)
                paths[-1] = path
        yield paths


def _copy(upload: UploadFile, path: Path) -> None:
    with open(path, "wb") as file:
        shutil.copyfileobj(upload.file, file)


async def _restored(restorer: Restorer, job: Job, answer: str) -> Response:
    """The answer to a restoration. The files of the result are removed."""
    async with aclosing(restorer.restore(job, secrets.token_hex(16))) as events:
        async for event in events:
            if isinstance(event, Restored):
                try:
                    return await asyncio.to_thread(_answer, event, MEDIA_TYPES[job.file_format], answer)
                finally:
                    shutil.rmtree(event.result.parent, ignore_errors=True)
    raise AssertionError("a restoration ends with its result or an error")


async def _estimated(restorer: Restorer, job: Job) -> Response:
    return JSONResponse(await restorer.estimate(job))


def _answer(restored: Restored, media_type: str, answer: str) -> Response:
    image, name = restored.result.read_bytes(), restored.result.name
    disposition = {"content-disposition": f"attachment; filename*=UTF-8''{quote(name)}"}
    if answer == "image":
        return Response(image, media_type=media_type, headers=disposition)
    if answer == "json":
        encoded = base64.b64encode(image).decode()
        return JSONResponse({"facts": restored.facts, "name": name, "media_type": media_type, "image": encoded})
    boundary = secrets.token_hex(16)
    parts = {"application/json": ({}, json.dumps(restored.facts).encode()), media_type: (disposition, image)}
    body = b""
    for kind, (headers, content) in parts.items():
        lines = [f"--{boundary}", f"content-type: {kind}", *(f"{key}: {value}" for key, value in headers.items())]
        body += "\r\n".join([*lines, "", ""]).encode() + content + b"\r\n"
    return Response(body + f"--{boundary}--\r\n".encode(), media_type=f"multipart/mixed; boundary={boundary}")


async def _unless_disconnected(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """The answer of the work, which is cancelled when the client leaves."""
    job, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({job, gone}, return_when=asyncio.FIRST_COMPLETED)
        return job.result() if job.done() else Response(status_code=CLIENT_CLOSED)
    finally:
        job.cancel()
        gone.cancel()
        await asyncio.gather(job, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    """Return when the client has left; the body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _refuse(_request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": error_text(error)}, 422)


async def _refuse_values(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _refuse(request, ParameterError(describe_validation(error.errors()[0])))
