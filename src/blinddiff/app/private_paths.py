"""Hides the machine's paths from what passes between Gradio and the network, and other files from Gradio.

Gradio's answers contain absolute paths of files. In requests, Gradio fetches the URLs of other machines that it gets in
place of a path. `PrivatePaths` replaces the path of the page's folder by `PUBLIC` in all answers, and accepts only
paths that begin with `PUBLIC`.
"""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blinddiff.app.guard import check_length
from blinddiff.app.visitor_files import PUBLIC

_MAX_CALL_BYTES = 4 << 20  # photographs are uploaded, not part of a call
_API = "/gradio_api/"
_FILE = f"{_API}file="
_NAMED_CALL = f"{_API}call/v2/"
_TEXT_TYPES = ("application/json", "text/event-stream", "text/html", "text/plain")


class PrivatePaths:
    """ASGI middleware for a page with its files in ``folder``. Refuses uploads while ``is_full()``.

    ``max_bytes`` limits all files of an upload together; Gradio limits only each file.
    """

    def __init__(self, app: ASGIApp, folder: Path, is_full: Callable[[], bool], max_bytes: int) -> None:
        self._app, self._folder, self._is_full, self._max_bytes = app, str(folder), is_full, max_bytes
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
        path, headers = scope["path"], MutableHeaders(scope=scope)
        if path.startswith(_FILE):
            real = self._real_path(path.removeprefix(_FILE))
            if real is None:
                raise HTTPException(404, "There is no such file.")
            scope.update(path=_FILE + real, raw_path=(_FILE + quote(real)).encode())
        elif scope["method"] != "POST" or not path.startswith(_API):
            return receive
        elif path.startswith(_API + "upload"):
            check_length(headers, self._max_bytes)
            if await asyncio.to_thread(self._is_full):
                raise HTTPException(503, "There is no space for more uploads: try again later.")
        else:
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
