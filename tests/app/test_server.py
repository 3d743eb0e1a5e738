"""From which origins requests are accepted."""

import asyncio

import httpx
import pytest
from starlette.responses import PlainTextResponse

from blinddiff.app.server import PrivatePaths


def status(folder, method="POST", **headers):
    """Of an upload to an application behind `PrivatePaths` that accepts everything."""

    async def send():
        transport = httpx.ASGITransport(PrivatePaths(PlainTextResponse("taken"), folder, lambda: False, 1000))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7860") as http:
            return await http.request(method, "/gradio_api/upload", headers=headers)

    return asyncio.run(send()).status_code


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:7860", "http://127.0.0.1:7860"),
        ("localhost:7860", "http://localhost:7860"),
        ("LocalHost:7860", "http://localhost:7860"),
        ("[::1]:7860", "http://[::1]:7860"),
        ("192.168.1.5:7860", "http://192.168.1.5:7860"),
        # behind a web server that has the certificate
        ("photos.example", "https://photos.example"),
        ("photos.example:443", "https://photos.example"),
        ("photos.example:8443", "https://photos.example:8443"),
    ],
)
def test_the_page_itself_is_accepted(tmp_path, host, origin):
    assert status(tmp_path, host=host, origin=origin) == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://hostile.example",
        "http://127.0.0.1",
        "http://127.0.0.1:8000",
        "http://localhost:7860",
        "http://127.0.0.1.hostile.example:7860",
        "http://127.0.0.1:7860@hostile.example",
        "http://127.0.0.1:99999999",
        "http://[",
        "null",
        "",
    ],
)
def test_other_origins_are_refused(tmp_path, origin):
    assert status(tmp_path, host="127.0.0.1:7860", origin=origin) == 403
    assert status(tmp_path, "GET", host="127.0.0.1:7860", origin=origin) == 200


def test_programs_are_accepted(tmp_path):
    assert status(tmp_path, host="127.0.0.1:7860") == 200


def test_which_sites_may_show_the_page_in_a_frame(tmp_path):
    def policy(**options):
        async def send():
            page = PrivatePaths(PlainTextResponse("page"), tmp_path, lambda: False, 1000, **options)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(page), base_url="http://127.0.0.1:7860") as http:
                return (await http.get("/")).headers["content-security-policy"]

        return [part.strip() for part in asyncio.run(send()).split(";") if "frame-ancestors" in part]

    assert policy() == ["frame-ancestors 'self'"]
    assert policy(embedded_in="https://site.example") == ["frame-ancestors 'self' https://site.example"]
