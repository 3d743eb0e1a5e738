"""Which requests of programs are carried out: token, size, place in the queue, and deadline.

All but the deadline is decided before the body of a request is read, so that a refused upload takes no memory.
"""

import asyncio
import hmac
import math
import time

from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blinddiff.app.guard import check_length
from blinddiff.app.messages import error_text
from blinddiff.app.restorer import Restorer

WORK = ("/restore", "/kernel")
"""The routes that need the machine, by POST."""
_WITH_TOKEN = (*WORK, "/metrics")


class Admission:
    """ASGI middleware for `WORK`; the routes that need a token are refused without it. ``token`` None accepts all.

    ``places`` has one place for each request that waits or is worked on; when all are taken, requests are refused.
    """

    def __init__(self, app: ASGIApp, restorer: Restorer, places: asyncio.Semaphore, token: str | None) -> None:
        self._app, self._restorer, self._places, self._token = app, restorer, places, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in _WITH_TOKEN:
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            try:
                self._check_token(Headers(scope=scope))
                if scope["path"] in WORK and scope["method"] == "POST":
                    await self._work(scope, receive, send_noting_status)
                else:
                    await self._app(scope, receive, send_noting_status)
            except HTTPException as refusal:
                answer = JSONResponse({"detail": refusal.detail}, refusal.status_code, refusal.headers)
                await answer(scope, receive, send_noting_status)
            except Exception as error:
                if status:
                    raise
                # Not left to the framework, which would also close the connection.
                await JSONResponse({"detail": error_text(error)}, 500)(scope, receive, send_noting_status)
        finally:
            if scope["path"] in WORK and scope["method"] == "POST":
                metrics = self._restorer.metrics
                metrics.requests.labels(scope["path"], status or 500).inc()
                metrics.latency.labels(scope["path"]).observe(time.perf_counter() - started)

    def _check_token(self, headers: Headers) -> None:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if self._token is None or (scheme.lower() == "bearer" and is_token(given.strip(), self._token)):
            return
        raise HTTPException(401, "This needs the header 'Authorization: Bearer TOKEN'.", {"www-authenticate": "Bearer"})

    async def _work(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry out a request within its deadline. Raises HTTPException if it is refused, or takes too long."""
        limits = self._restorer.limits
        check_length(Headers(scope=scope), int(1e6 * limits.upload_megabytes))
        if self._places.locked():
            await _discard_body(receive)
            detail = f"{limits.queue} requests are waiting: try again later."
            seconds_to_wait = max(1, math.ceil(self._restorer.mean_seconds))
            raise HTTPException(429, detail, {"retry-after": str(seconds_to_wait)})
        seconds = _deadline(QueryParams(scope["query_string"]), limits.seconds)
        async with self._places:
            with self._restorer.metrics.admitted.track_inprogress():
                try:
                    await asyncio.wait_for(self._app(scope, receive, send), seconds)
                except asyncio.TimeoutError:
                    text = "choose a smaller scale, fewer samples or steps, or crop the photograph"
                    raise HTTPException(504, f"Not finished after {seconds:g} seconds, and stopped: {text}.") from None


def is_token(given: str, token: str) -> bool:
    """Whether a text is the token, compared in constant time."""
    return hmac.compare_digest(given.encode(), token.encode())


def _deadline(query: QueryParams, longest: float) -> float:
    """The seconds that a request may take: ``?deadline=SECONDS``, if that is shorter; the route refuses wrong ones."""
    try:
        given = float(query.get("deadline", longest))
    except ValueError:
        return longest
    return given if 0 < given < longest else longest


async def _discard_body(receive: Receive) -> None:
    """Read a body to its end: a client that is still sending it would otherwise miss the answer."""
    while (await receive()).get("more_body", False):
        pass
