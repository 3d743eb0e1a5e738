"""From which origins requests are accepted, and where the page may be shown."""

import asyncio

import httpx
import pytest
from starlette.responses import PlainTextResponse

from blinddiff.app.guard import Guard


def status(method="POST", **headers):
    """Of an upload to an application behind `Guard` that accepts everything."""

    async def send():
        transport = httpx.ASGITransport(Guard(PlainTextResponse("taken")))
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
def test_the_page_itself_is_accepted(host, origin):
    assert status(host=host, origin=origin) == 200


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
def test_other_origins_are_refused(origin):
    assert status(host="127.0.0.1:7860", origin=origin) == 403
    assert status("GET", host="127.0.0.1:7860", origin=origin) == 200


def test_programs_are_accepted():
    assert status(host="127.0.0.1:7860") == 200


def test_which_sites_may_show_the_page_in_a_frame():
    def policy(**options):
        async def send():
            page = Guard(PlainTextResponse("page"), **options)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(page), base_url="http://127.0.0.1:7860") as http:
                return (await http.get("/")).headers["content-security-policy"]

        return [part.strip() for part in asyncio.run(send()).split(";") if "frame-ancestors" in part]

    assert policy() == ["frame-ancestors 'self'"]
    assert policy(embedded_in="https://site.example") == ["frame-ancestors 'self' https://site.example"]
