"""Serves the page, by default to this machine only, and filters what passes between Gradio and the network.

Gradio names files by their absolute paths, and accepts such paths, and URLs of other machines, from anyone.
`PrivatePaths` replaces the page's own folder by `PUBLIC` in every answer and accepts no other path. It also refuses
what pages of other sites make a visitor's browser send, such as uploads, which Gradio accepts from any site.
"""

import asyncio
import ipaddress
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blinddiff.app import Limits
from blinddiff.app.request import private_files
from blinddiff.errors import ParameterError
from blinddiff.sampling.pipeline import BlindDiffPipeline

HOST, PORT = "127.0.0.1", 7860
_PORTS_TRIED = 100  # by Gradio
# What Gradio would otherwise read from the environment, and its telemetry.
_SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ALLOWED_PATHS": "",
    "GRADIO_BLOCKED_PATHS": "",
    "GRADIO_DEBUG": "0",
}
PUBLIC = "files"
_MAX_CALL_BYTES = 4 << 20  # photographs are uploaded, not part of a call
_UPLOAD_OVERHEAD = 1 << 14  # bytes of an upload beside the file's own
_API = "/gradio_api/"
_FILE = f"{_API}file="
# Fetching from other machines, and parts of Gradio that the page does not use
_CLOSED = tuple(
    _API + name for name in ("proxy=", "file/", "stream/", "vibe", "undo-vibe", "process_recording", "deep_link")
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_TEXT_TYPES = ("application/json", "text/event-stream", "text/html", "text/plain")
_HEADERS = {
    "content-security-policy": "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; form-action 'self'; frame-ancestors 'self'; object-src 'none'; base-uri 'self'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@contextmanager
def served(
    pipeline: BlindDiffPipeline, host: str = HOST, port: int | None = None, limits: Limits | None = None
) -> Iterator[str]:
    """Serve the page within this context, which is given its address.

    Args:
        pipeline: restores the photographs; from now on, its layers check for requests to stop.
        host: address to listen on; "0.0.0.0" for all of the machine's.
        port: to listen on; the first free one from `PORT` where None.
        limits: of what visitors send.

    Raises:
        ParameterError: host and port cannot be used.
    """
    limits = limits or Limits()
    with private_files() as files, _environment({**_SETTINGS, "GRADIO_TEMP_DIR": str(files.folder)}):
        from blinddiff.app.page import CSS, THEME, build_page  # imports Gradio, which reads the environment

        page = build_page(pipeline, limits, files)
        page.queue(max_size=limits.queue, api_open=False)
        middleware = [
            Middleware(
                PrivatePaths,
                folder=files.folder,
                is_full=lambda: files.uploaded_bytes() > limits.all_uploads_bytes,
                max_bytes=limits.upload_bytes,
            )
        ]
        if is_loopback(host):
            # Against DNS rebinding: a hostile site must not reach the page by a name that leads to this machine.
            hosts = ["127.0.0.1", "localhost", "[::1]", host]
            middleware.append(Middleware(TrustedHostMiddleware, allowed_hosts=hosts))
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                show_error=False,
                max_file_size=limits.upload_bytes,
                theme=THEME,
                css=CSS,
                footer_links=["api"],
                run_history=False,
                enable_monitoring=False,
                mcp_server=False,
                ssr_mode=False,
                pwa=False,
                app_kwargs={"middleware": middleware, "docs_url": None, "redoc_url": None},
            )
        except OSError as error:
            tried = f"port {port}" if port is not None else f"any port from {PORT} to {PORT + _PORTS_TRIED - 1}"
            raise ParameterError(
                f"host {host}, {tried}: cannot be used; choose another with --host or --port"
            ) from error
        try:
            yield address
        finally:
            page.close(verbose=False)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host of that name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Refused(Exception):
    """A request is refused: status and text of the answer."""


class PrivatePaths:
    """ASGI middleware.

    Args:
        app: the application behind it.
        folder: of the page's files.
        is_full: whether uploads are refused for now.
        max_bytes: of one upload, which may hold several files; Gradio limits each file alone.
    """

    def __init__(self, app: ASGIApp, folder: Path, is_full: Callable[[], bool], max_bytes: int) -> None:
        self._app = app
        self._is_full = is_full
        self._max_bytes = max_bytes
        self._folder = str(folder)
        # as it is, as in a URL, and as in JSON
        spellings = {self._folder, quote(self._folder), json.dumps(self._folder)[1:-1]}
        self._spellings = sorted((text.encode() for text in spellings), key=len, reverse=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the application, or refuse it."""
        if scope["type"] == "http":
            try:
                scope, receive = await self._checked(scope, receive)
            except _Refused as refusal:
                status, text = refusal.args
                await PlainTextResponse(text, status)(scope, receive, send)
                return
            send = _FilteredSend(send, self._hide)
        await self._app(scope, receive, send)

    async def _checked(self, scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
        """The request with the real paths of files in it."""
        path, is_post, headers = scope["path"], scope["method"] == "POST", Headers(scope=scope)
        if is_post and not _is_same_origin(headers):
            raise _Refused(403, "Requests from pages of other sites are refused.")
        if path.startswith(_CLOSED):
            raise _Refused(404, "Not found.")
        if path.startswith(_FILE):
            name = path[len(_FILE) :]
            if not _is_public(name):
                raise _Refused(404, "There is no such file.")
            real = self._real_path(name)
            scope = {**scope, "path": _FILE + real, "raw_path": (_FILE + quote(real)).encode()}
        elif is_post and path.startswith(_API + "upload"):
            length = headers.get("content-length", "")
            if not length.isdecimal():
                raise _Refused(411, "An upload needs a Content-Length header.")
            if int(length) > self._max_bytes + _UPLOAD_OVERHEAD:
                raise _Refused(413, "The upload is too large: one file at a time.")
            if await asyncio.to_thread(self._is_full):
                raise _Refused(503, "There is no space for more uploads: try again later.")
        elif is_post:
            call = self._with_real_paths(await _read_body(receive))
            kept = [(key, value) for key, value in scope["headers"] if key != b"content-length"]
            scope = {**scope, "headers": [*kept, (b"content-length", str(len(call)).encode())]}
            receive = _replay(call, receive)
        return scope, receive

    def _real_path(self, name: str) -> str:
        return self._folder + name[len(PUBLIC) :]

    def _hide(self, text: bytes) -> bytes:
        for spelling in self._spellings:
            text = text.replace(spelling, PUBLIC.encode())
        return text

    def _with_real_paths(self, call: bytes) -> bytes:
        try:
            return json.dumps(self._replace_paths(json.loads(call))).encode() if call else call
        except RecursionError:
            raise _Refused(400, "The call is nested too deep.") from None
        except ValueError:
            raise _Refused(400, "The call is no JSON.") from None

    def _replace_paths(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._replace_paths(part) for part in value]
        if not isinstance(value, dict):
            return value
        # Gradio would fetch the URL of a file.
        changed = {key: self._replace_paths(part) for key, part in value.items() if key != "url"}
        path = changed.get("path")
        if path is not None:
            if not isinstance(path, str) or not _is_public(path):
                raise _Refused(400, "A file in the call has not been uploaded here.")
            changed["path"] = self._real_path(path)
        return changed


def _is_same_origin(headers: Headers) -> bool:
    """Whether a request comes from this page, by its `Origin` header, or from a program, which sends none."""
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        sender, here = urlsplit(origin), urlsplit("//" + headers.get("host", ""))
        default = _DEFAULT_PORTS.get(sender.scheme)
        return sender.hostname == here.hostname and (sender.port or default) == (here.port or default)
    except ValueError:  # an invalid port or address
        return False


def _is_public(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return parts[0] == PUBLIC and len(parts) > 1 and not {"", ".", ".."} & set(parts)


async def _read_body(receive: Receive) -> bytes:
    body, is_complete = bytearray(), False
    while not is_complete:
        message = await receive()
        body += message.get("body", b"")
        is_complete = not message.get("more_body", False)
        if len(body) > _MAX_CALL_BYTES:
            raise _Refused(413, "The call is too large: upload files first.")
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


class _FilteredSend:
    """Sends an answer with real paths in texts hidden, and with security headers."""

    def __init__(self, send: Send, hide: Callable[[bytes], bytes]) -> None:
        self._send = send
        self._hide = hide
        self._start: Message | None = None  # held back until the length of the body is known
        self._body = bytearray()
        self._is_text = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message["headers"]))
            headers.update(_HEADERS)
            self._is_text = headers.get("content-type", "").startswith(_TEXT_TYPES)
            message = {**message, "headers": headers.raw}
            if self._is_text and "content-length" in headers:
                self._start = message
                return
        elif message["type"] == "http.response.body" and self._is_text:
            body = message.get("body", b"")
            if self._start is not None:
                self._body += body
                if message.get("more_body", False):
                    return
                body = bytes(self._body)
            body = self._hide(body)
            if self._start is not None:
                MutableHeaders(raw=self._start["headers"])["content-length"] = str(len(body))
                await self._send(self._start)
            message = {**message, "body": body}
        await self._send(message)
