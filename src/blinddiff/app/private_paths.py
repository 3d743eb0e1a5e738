"""Between the page's framework and the network: no path of this machine goes out, and only uploaded files come in.

The framework names files by their absolute paths, and takes such names, and addresses of other machines, from anyone.
Here they are names below `PUBLIC`, which stand for the page's own folder; anything else is refused. So is what pages of
other sites would have a visitor's browser send here, such as uploads, which the framework takes from any of them.
"""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PUBLIC = "files"
LARGEST_CALL = 4 << 20
"""Bytes of a call; photographs are uploaded, not put into it."""
_AROUND_A_FILE = 1 << 14
"""Bytes of an upload beside the file's own."""
_API = "/gradio_api/"
_FILE = f"{_API}file="
# fetching from other machines, and parts of the framework that the page has no use for
_CLOSED = tuple(_API + name for name in ("proxy=", "file/", "stream/", "vibe", "undo-vibe", "process_recording"))
_PORTS = {"http": 80, "https": 443}  # where an address names none
_TEXTS = ("application/json", "text/event-stream", "text/html", "text/plain")
_HEADERS = {
    "content-security-policy": "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; form-action 'self'; frame-ancestors 'self'; object-src 'none'; base-uri 'self'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class PrivatePaths:
    """An ASGI middleware.

    Args:
        app: what it stands before.
        folder: the page's own.
        is_full: whether no more files may be uploaded for now.
        largest: bytes of one upload, which may hold several files: the framework bounds each file alone.
    """

    def __init__(self, app: ASGIApp, folder: Path, is_full: Callable[[], bool], largest: int) -> None:
        self._app = app
        self._is_full = is_full
        self._largest = largest
        self._folder = str(folder)
        # as it is, as in an address, and as in JSON
        names = {self._folder, quote(self._folder), json.dumps(self._folder)[1:-1]}
        self._names = sorted((name.encode() for name in names), key=len, reverse=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "POST" and not _is_from_here(Headers(scope=scope)):
            await PlainTextResponse("Pages of other sites may not send anything here.", 403)(scope, receive, send)
            return
        path: str = scope["path"]
        if path.startswith(_CLOSED) or path.startswith(_API + "deep_link"):
            await PlainTextResponse("There is nothing here.", 404)(scope, receive, send)
            return
        if path.startswith(_FILE):
            name = path[len(_FILE) :]
            if not _is_public(name):
                await PlainTextResponse("There is no such file.", 404)(scope, receive, send)
                return
            inside = self._inside(name)
            scope = {**scope, "path": _FILE + inside, "raw_path": (_FILE + quote(inside)).encode()}
        elif scope["method"] == "POST" and path.startswith(_API + "upload"):
            length = Headers(scope=scope).get("content-length", "")
            if not length.isdecimal():
                await PlainTextResponse("An upload has to say its length.", 411)(scope, receive, send)
                return
            if int(length) > self._largest + _AROUND_A_FILE:
                await PlainTextResponse("The upload is too large: one file at a time.", 413)(scope, receive, send)
                return
            if await asyncio.to_thread(self._is_full):
                await PlainTextResponse("The page is full of files: come back later.", 503)(scope, receive, send)
                return
        elif scope["method"] == "POST":
            body = await _whole(receive)
            try:
                call = b"" if body is None else self._call(body)
            except ValueError as error:
                await PlainTextResponse(str(error), 400)(scope, receive, send)
                return
            if body is None:
                await PlainTextResponse("The call is too large: upload files first.", 413)(scope, receive, send)
                return
            receive = _replayed(call, receive)
            headers = [(key, value) for key, value in scope["headers"] if key != b"content-length"]
            scope = {**scope, "headers": [*headers, (b"content-length", str(len(call)).encode())]}
        await self._app(scope, receive, _Answer(send, self._hide))

    def _inside(self, name: str) -> str:
        return self._folder + name[len(PUBLIC) :]

    def _hide(self, text: bytes) -> bytes:
        for name in self._names:
            text = text.replace(name, PUBLIC.encode())
        return text

    def _call(self, body: bytes) -> bytes:
        """A call with the files' real names in it."""
        if not body:
            return body
        try:
            return json.dumps(self._with_real_names(_of_json(body))).encode()
        except RecursionError as error:
            raise ValueError("The call is nested too deep.") from error

    def _with_real_names(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._with_real_names(part) for part in value]
        if not isinstance(value, dict):
            return value
        changed = {key: self._with_real_names(part) for key, part in value.items() if key != "url"}
        path = changed.get("path")
        if path is not None:
            if not isinstance(path, str) or not _is_public(path):
                raise ValueError("A file in the call has not been uploaded here.")
            changed["path"] = self._inside(path)
        return changed


def _is_from_here(headers: Headers) -> bool:
    """Whether a request comes from the page itself, as its browser says, or from a program, which names no origin."""
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        sender, here = urlsplit(origin), urlsplit("//" + headers.get("host", ""))
        usual = _PORTS.get(sender.scheme)
        return sender.hostname == here.hostname and (sender.port or usual) == (here.port or usual)
    except ValueError:  # no port has that number
        return False


def _of_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise ValueError("The call is no JSON.") from error


def _is_public(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return parts[0] == PUBLIC and len(parts) > 1 and not {"", ".", ".."} & set(parts)


async def _whole(receive: Receive) -> bytes | None:
    """A request's body; None if it is too large."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > LARGEST_CALL:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


class _Answer:
    """Sends an answer on, with names hidden in texts and headers added."""

    def __init__(self, send: Send, hide: Any) -> None:
        self._send = send
        self._hide = hide
        self._start: Message | None = None
        self._is_text = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message["headers"]))
            for name, value in _HEADERS.items():
                headers[name] = value
            self._is_text = headers.get("content-type", "").startswith(_TEXTS)
            message = {**message, "headers": headers.raw}
            if self._is_text and "content-length" in headers:
                self._start = message  # its length is known once the names are hidden
                self._body = bytearray()
                return
        elif message["type"] == "http.response.body" and self._is_text:
            if self._start is not None:
                self._body += message.get("body", b"")
                if message.get("more_body", False):
                    return
                body = self._hide(bytes(self._body))
                MutableHeaders(raw=self._start["headers"])["content-length"] = str(len(body))
                await self._send(self._start)
                message = {**message, "body": body}
            else:
                message = {**message, "body": self._hide(message.get("body", b""))}
        await self._send(message)
