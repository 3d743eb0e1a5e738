"""Serves the page and the service for programs, by default to this machine only."""

import asyncio
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Mount
from starlette.types import ASGIApp

from blinddiff.app import Limits
from blinddiff.app.admission import Admission, is_token
from blinddiff.app.guard import Guard
from blinddiff.app.private_paths import PrivatePaths
from blinddiff.app.restorer import Restorer
from blinddiff.app.visitor_files import private_files
from blinddiff.errors import ParameterError
from blinddiff.sampling.pipeline import BlindDiffPipeline

_SETTINGS = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_VIBE_MODE": ""}
"""Environment variables that Gradio reads: no telemetry, and no editor of the page."""
_PORTS = range(7860, 7960)
_GRACE_SECONDS = 5
"""How long the server waits for running requests when it is stopped."""


@contextmanager
def served(
    pipeline: BlindDiffPipeline,
    host: str = "127.0.0.1",
    port: int | None = None,
    limits: Limits | None = None,
    embedded_in: str | None = None,
    token: str | None = None,
) -> Iterator[str]:
    """Serve the page and the service while this context is open; its value is the address of the page.

    ``host`` "0.0.0.0" listens on all addresses of the machine; ``port`` None selects the first free one from 7860. Only
    the page itself and the site ``embedded_in``, such as "https://huggingface.co", may show the page in a frame.
    Programs have to send ``token``, and the page asks for it as a password; None accepts everybody. The layers of the
    pipeline get hooks that stop a restoration. Raises ParameterError if host and port cannot be used.
    """
    limits = limits or Limits()
    with private_files() as files, _environment({**_SETTINGS, "GRADIO_TEMP_DIR": str(files.folder)}):
        import gradio as gr  # reads the environment

        from blinddiff.app.page import CSS, HEAD, THEME, build_page
        from blinddiff.app.service import build_service

        restorer = Restorer(pipeline, limits, files)
        places = asyncio.Semaphore(limits.queue + 1)  # one is worked on
        middleware = [Middleware(Guard, embedded_in), Middleware(Admission, restorer, places, token)]
        if is_loopback(host):
            # Against DNS rebinding: a hostile site could reach the page through a name that resolves to this machine.
            hosts = ["127.0.0.1", "localhost", "[::1]", host]
            middleware.append(Middleware(TrustedHostMiddleware, allowed_hosts=hosts))
        limit = int(1e6 * limits.upload_megabytes)
        # All uploads together are limited too, so that they cannot fill the disk.
        paths = Middleware(PrivatePaths, files.folder, lambda: files.uploaded_bytes() > 32 * limit, limit)
        page = build_page(restorer)
        page.queue(max_size=limits.queue, api_open=False)
        service = gr.mount_gradio_app(
            build_service(restorer, places, middleware=middleware),
            page,
            path="/",
            auth=None if token is None else lambda _name, password: is_token(password, token),
            auth_message="The password is the token of the server; any name will do.",
            allowed_paths=[],
            show_error=False,
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
            app_kwargs={"middleware": [paths], "docs_url": None, "redoc_url": None},
        )
        # So that `close` ends the streams of the mounted application, not of the one that Gradio makes beside it.
        [page.app] = [route.app for route in service.routes if isinstance(route, Mount)]
        with _listening(service, host, port) as address:
            try:
                yield address
            finally:
                page.close(verbose=False)


@contextmanager
def _listening(app: ASGIApp, host: str, port: int | None) -> Iterator[str]:
    """Run an application in a thread; yields its address."""
    listener = _open_socket(host.removeprefix("[").removesuffix("]"), _PORTS if port is None else [port])
    if listener is None:
        tried = f"port {port}" if port is not None else f"any port from {_PORTS[0]} to {_PORTS[-1]}"
        raise ParameterError(f"host {host}, {tried}: cannot be used; choose another with --host or --port")
    config = uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=_GRACE_SECONDS)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="serving", daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://{'localhost' if host == '0.0.0.0' else host}:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


def _open_socket(host: str, ports: range | list[int]) -> socket.socket | None:
    """Listen on the first of some ports that is free; None if there is none, or the host is unknown."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in ports:
        with suppress(OSError, OverflowError, UnicodeError):
            return socket.create_server((host, port), family=family)
    return None


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
