"""Serves the page, by default to this machine only, and filters what passes between Gradio and the network.

Gradio's answers contain absolute paths of files. In requests, Gradio accepts any such path, and URLs of other machines.
`PrivatePaths` replaces the path of the page's folder by `PUBLIC` in all answers, and accepts only paths that begin with
`PUBLIC`. It also refuses what pages of other sites send through a visitor's browser: Gradio accepts their uploads.
"""

import asyncio
import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blinddiff.app import Limits
from blinddiff.app.visitor_files import PUBLIC, private_files
from blinddiff.errors import ParameterError
from blinddiff.sampling.pipeline import BlindDiffPipeline

# Environment variables that Gradio reads, set to safe values and without telemetry
_SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ALLOWED_PATHS": "",
    "GRADIO_BLOCKED_PATHS": "",
    "GRADIO_DEBUG": "0",
}
_MAX_CALL_BYTES = 4 << 20  # photographs are uploaded, not part of a call
_API = "/gradio_api/"
_FILE = f"{_API}file="
_NAMED_CALL = f"{_API}call/v2/"
# These paths fetch from other machines, or belong to parts of Gradio that the page does not use.
_CLOSED = ("proxy=", "file/", "stream/", "vibe", "undo-vibe", "process_recording", "deep_link")
_TEXT_TYPES = ("application/json", "text/event-stream", "text/html", "text/plain")
_HEADERS = {
    "content-security-policy": "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; form-action 'self'; object-src 'none'; base-uri 'self'; frame-ancestors 'self'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@contextmanager
def served(
    pipeline: BlindDiffPipeline,
    host: str = "127.0.0.1",
    port: int | None = None,
    limits: Limits | None = None,
    embedded_in: str | None = None,
) -> Iterator[str]:
    """Serve the page while this context is open; its value is the address of the page.

    ``host`` "0.0.0.0" listens on all addresses of the machine; ``port`` None selects the first free one from 7860. Only
    the page itself and the site ``embedded_in``, such as "https://huggingface.co", may show the page in a frame. The
    layers of the pipeline get hooks that stop a restoration. Raises ParameterError if host and port cannot be used.
    """
    limits = limits or Limits()
    with private_files() as files, _environment({**_SETTINGS, "GRADIO_TEMP_DIR": str(files.folder)}):
        from blinddiff.app.page import CSS, HEAD, THEME, build_page  # imports Gradio, which reads the environment

        limit = int(1e6 * limits.upload_megabytes)
        # All uploads together are limited too, so that they cannot fill the disk.
        middleware = [
            Middleware(PrivatePaths, files.folder, lambda: files.uploaded_bytes() > 32 * limit, limit, embedded_in)
        ]
        if is_loopback(host):
            # Against DNS rebinding: a hostile site could reach the page through a name that resolves to this machine.
            hosts = ["127.0.0.1", "localhost", "[::1]", host]
            middleware.append(Middleware(TrustedHostMiddleware, allowed_hosts=hosts))
        page = build_page(pipeline, limits, files)
        page.queue(max_size=limits.queue, api_open=False)
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port,
                prevent_thread_lock=True,
                _frontend=False,  # no check that the page answers within 3 seconds: on a busy machine it does not
                quiet=True,
                share=False,
                max_file_size=limit,
                theme=THEME,
                css_paths=CSS,
                head=HEAD,
                footer_links=["api"],
                run_history=False,
                enable_monitoring=False,
                mcp_server=False,
                ssr_mode=False,
                pwa=False,
                app_kwargs={"middleware": middleware, "docs_url": None, "redoc_url": None},
            )
        except OSError as error:
            tried = f"port {port}" if port is not None else "any port from 7860 to 7959"
            message = f"host {host}, {tried}: cannot be used; choose another with --host or --port"
            raise ParameterError(message) from error
        try:
            yield address
        finally:
            page.close(verbose=False)


def is_loopback(host: str) -> bool:
    """Whether a host to listen on can be reached from this machine only."""
    with suppress(ValueError):
        return host == "localhost" or ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    return False


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ[name] for name in values if name in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)
        os.environ.update(before)


class PrivatePaths:
    """ASGI middleware for a page with its files in ``folder``. Refuses uploads while ``is_full()``.

    ``max_bytes`` limits all files of an upload together; Gradio limits only each file. ``embedded_in`` as in `served`.
    """

    def __init__(
        self,
        app: ASGIApp,
        folder: Path,
        is_full: Callable[[], bool],
        max_bytes: int,
        embedded_in: str | None = None,
    ) -> None:
        self._app, self._folder, self._is_full, self._max_bytes = app, str(folder), is_full, max_bytes
        self._headers = dict(_HEADERS)
        if embedded_in is not None:
            self._headers["content-security-policy"] += f" {embedded_in}"  # frame-ancestors is last
        # The folder's path as it appears in JSON, in a URL, and in other text
        spellings = (json.dumps(self._folder)[1:-1], quote(self._folder), self._folder)
        self._paths = re.compile("|".join(map(re.escape, spellings)).encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_text = has_begun = False

        async def send_filtered(message: Message) -> None:
            nonlocal is_text, has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                is_text = headers.get("content-type", "").startswith(_TEXT_TYPES)
                if is_text:
                    del headers["content-length"]  # replacing paths changes the length
            elif message["type"] == "http.response.body" and is_text:
                message["body"] = self._paths.sub(PUBLIC.encode(), message.get("body", b""))
            await send(message)

        scope = dict(scope)
        try:
            receive = await self._check(scope, receive)
            try:
                await self._app(scope, receive, send_filtered)
            except (KeyError, TypeError) as error:
                # Gradio's answer to a call by names that it does not know
                if has_begun or not scope["path"].startswith(_NAMED_CALL):
                    raise
                detail = str(error).split(". Please")[0] if isinstance(error, TypeError) else "There is no such call"
                raise HTTPException(400 if isinstance(error, TypeError) else 404, f"{detail}.") from None
        except HTTPException as refusal:
            await PlainTextResponse(refusal.detail, refusal.status_code)(scope, receive, send)

    async def _check(self, scope: Scope, receive: Receive) -> Receive:
        """Replace the public paths of files in a request by real paths. Raises HTTPException to refuse the request."""
        path, is_post, headers = scope["path"], scope["method"] == "POST", MutableHeaders(scope=scope)
        if is_post and not _is_same_origin(headers):
            raise HTTPException(403, "Requests from pages of other sites are refused.")
        if path.startswith(_API) and path.removeprefix(_API).startswith(_CLOSED):
            raise HTTPException(404, "Not found.")
        if path.startswith(_FILE):
            real = self._real_path(path.removeprefix(_FILE))
            if real is None:
                raise HTTPException(404, "There is no such file.")
            scope.update(path=_FILE + real, raw_path=(_FILE + quote(real)).encode())
        elif is_post and path.startswith(_API + "upload"):
            length = headers.get("content-length", "")
            if not length.isdecimal():
                raise HTTPException(411, "An upload needs a Content-Length header.")
            if int(length) > self._max_bytes + (1 << 14):  # the file's name and type take a few bytes
                raise HTTPException(413, "The upload is too large: upload smaller files, one at a time.")
            if await asyncio.to_thread(self._is_full):
                raise HTTPException(503, "There is no space for more uploads: try again later.")
        elif is_post:
            return await self._check_call(headers, receive)
        return receive

    async def _check_call(self, headers: MutableHeaders, receive: Receive) -> Receive:
        """Return a `Receive` that gives the body of a call with real paths of files."""
        call, is_complete = b"", False
        while not is_complete:
            message = await receive()
            call += message.get("body", b"")
            is_complete = not message.get("more_body", False)
            if len(call) > _MAX_CALL_BYTES:
                raise HTTPException(413, "The call is too large: upload files first.")
        try:
            call = json.dumps(self._with_real_paths(json.loads(call))).encode() if call else call
        except RecursionError:
            raise HTTPException(400, "The call is nested too deeply.") from None
        except ValueError:
            raise HTTPException(400, "The call is not valid JSON.") from None
        headers["content-length"] = str(len(call))
        messages = iter([{"type": "http.request", "body": call, "more_body": False}])

        async def replay() -> Message:
            return next(messages, None) or await receive()

        return replay

    def _real_path(self, name: Any) -> str | None:
        """The real path of a file for its public path, as in the page's answers; None for any other name."""
        parts = name.replace("\\", "/").split("/") if isinstance(name, str) else []
        if parts[:1] != [PUBLIC] or len(parts) == 1 or {"", ".", ".."} & set(parts):
            return None
        return self._folder + name.removeprefix(PUBLIC)

    def _with_real_paths(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._with_real_paths(part) for part in value]
        if not isinstance(value, dict):
            return value
        # Drop "url": Gradio would fetch the file from there.
        changed = {key: self._with_real_paths(part) for key, part in value.items() if key != "url"}
        if changed.get("path") is not None:
            changed["path"] = self._real_path(changed["path"])
            if changed["path"] is None:
                raise HTTPException(400, "A file in the call has not been uploaded here.")
        return changed


def _is_same_origin(headers: Headers) -> bool:
    """Whether the `Origin` header of a request names this page, or is missing, as in requests of programs."""
    origin = headers.get("origin")
    if origin is None:
        return True
    with suppress(ValueError):  # an invalid port or address
        sender, here = urlsplit(origin), urlsplit("//" + headers.get("host", ""))
        default = {"http": 80, "https": 443}.get(sender.scheme)
        return sender.hostname == here.hostname and (sender.port or default) == (here.port or default)
    return False
