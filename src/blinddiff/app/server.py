"""The page, open to visitors: those at this machine, unless told otherwise."""

import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from blinddiff.app.files import private_files
from blinddiff.app.limits import Limits
from blinddiff.errors import ParameterError
from blinddiff.sampling.pipeline import BlindDiffPipeline

HOST, PORT = "127.0.0.1", 7860
_PORTS_TRIED = 100
# What the framework would otherwise take from the environment, or tell its makers.
_SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ALLOWED_PATHS": "",
    "GRADIO_BLOCKED_PATHS": "",
    "GRADIO_DEBUG": "0",
}


@contextmanager
def served(
    pipeline: BlindDiffPipeline, host: str = HOST, port: int | None = None, limits: Limits | None = None
) -> Iterator[str]:
    """The page is open while this lasts; its address.

    Args:
        pipeline: what it restores with; its layers are watched for stops from now on.
        host: of which address; all of the machine's with "0.0.0.0".
        port: this and no other; the first free one from `PORT` where None.
        limits: of what visitors may ask.

    Raises:
        ParameterError: host and port cannot be had.
    """
    limits = limits or Limits()
    with private_files() as files, _environment({**_SETTINGS, "GRADIO_TEMP_DIR": str(files.folder)}):
        # After the environment: the framework reads it when it is imported.
        import gradio as gr
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        from blinddiff.app.layout import CSS, build_page
        from blinddiff.app.private_paths import PrivatePaths

        page = build_page(pipeline, limits, files)
        page.queue(max_size=limits.queue, api_open=False)
        middleware = [
            Middleware(
                PrivatePaths,
                folder=files.folder,
                is_full=lambda: files.uploaded() > limits.all_uploads_bytes,
                largest=limits.upload_bytes,
            )
        ]
        if is_loopback(host):
            # So that a hostile site cannot reach the page by a name of its own that leads to this machine.
            middleware.append(
                Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]", host])
            )
        app_kwargs: dict[str, Any] = {"middleware": middleware, "docs_url": None, "redoc_url": None}
        fonts = ("ui-sans-serif", "system-ui", "sans-serif"), ("ui-monospace", "Consolas", "monospace")
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                show_error=False,
                max_file_size=limits.upload_bytes,
                theme=gr.themes.Base(font=fonts[0], font_mono=fonts[1]),
                css=CSS,
                footer_links=["api"],
                run_history=False,
                enable_monitoring=False,
                mcp_server=False,
                ssr_mode=False,
                pwa=False,
                app_kwargs=app_kwargs,
            )
        except OSError as error:
            tried = f"port {port}" if port is not None else f"any port from {PORT} to {PORT + _PORTS_TRIED - 1}"
            raise ParameterError(
                f"host {host}, {tried}: cannot be had; choose another with --host or --port"
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
