"""Rules for every request to the server, of the page and of programs, and headers of every answer."""

from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "content-security-policy": "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; form-action 'self'; object-src 'none'; base-uri 'self'; frame-ancestors 'self'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_FORM_BYTES = 1 << 14  # names, types and numbers beside the files of an upload


class Guard:
    """ASGI middleware that refuses what pages of other sites send through a visitor's browser.

    Gradio's ``strict_cors`` only hides its answers from such pages; their uploads and calls would be carried out.
    ``embedded_in`` is a site that may show the page in a frame, beside the page itself.
    """

    def __init__(self, app: ASGIApp, embedded_in: str | None = None) -> None:
        self._app, self._headers = app, dict(_HEADERS)
        if embedded_in is not None:
            self._headers["content-security-policy"] += f" {embedded_in}"  # frame-ancestors is last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        app = self._app
        if scope["method"] == "POST" and not _is_same_origin(Headers(scope=scope)):
            app = PlainTextResponse("Requests from pages of other sites are refused.", 403)
        await app(scope, receive, send_with_headers)


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


def check_length(headers: Headers, max_bytes: int) -> None:
    """Raise HTTPException if an upload does not declare its length, or if its files exceed ``max_bytes`` together."""
    length = headers.get("content-length", "")
    if not length.isdecimal():
        raise HTTPException(411, "An upload needs a Content-Length header.")
    if int(length) > max_bytes + _FORM_BYTES:
        raise HTTPException(413, "The upload is too large: upload smaller files, one at a time.")
