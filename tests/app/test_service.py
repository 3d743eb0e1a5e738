"""The service for programs: what it answers, and what it refuses, stops and counts."""

import email
import email.policy
import io
import json
import re
import socket
import time
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor

import httpx
import jsonschema
import numpy as np
import pytest
from gradio_client import Client
from PIL import Image

from blinddiff.app import Limits
from blinddiff.app.server import served
from blinddiff.imaging import visible_colours
from blinddiff.restoring.photograph import RestoreSettings, read_restorable, restore_photograph

TOKEN = "a token of this test"


@pytest.fixture
def http(address):
    with httpx.Client(base_url=address, timeout=60) as http:
        yield http


@pytest.fixture(scope="module")
def narrow(tiny_pipeline):
    """A service with a token, and room for one waiting request."""
    with served(tiny_pipeline, limits=Limits(upload_megabytes=0.1, queue=1, seconds=30), token=TOKEN) as address:
        yield address


@pytest.fixture
def with_token(narrow):
    with httpx.Client(base_url=narrow, timeout=60, headers={"authorization": f"Bearer {TOKEN}"}) as http:
        yield http


def post(http, png, path="/restore", name="photo.png", **values):
    query = {"deadline": values.pop("deadline")} if "deadline" in values else None
    return http.post(path, files={"photograph": (name, png)}, data={"scale": 2, **values}, params=query)


def metric(http, name):
    """The value of a metric with its labels; 0 if it is missing."""
    found = re.search(rf"^blinddiff_{re.escape(name)} (\S+)$", http.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_result_is_that_of_the_pipeline(http, png, tiny_pipeline):
    answer = post(http, png, steps=2, seed=3)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert "photo-x2.png" in answer.headers["content-disposition"]
    photograph = read_restorable(png, 10**6, "photo.png")
    expected = restore_photograph(tiny_pipeline, photograph, RestoreSettings(scale=2, steps=2, seed=3)).pixels
    found = np.asarray(Image.open(io.BytesIO(answer.content)), float).transpose(2, 0, 1)
    assert np.abs(found - 255 * expected).max() <= 0.51  # rounding


def test_details_as_json_and_as_parts(http, png):
    answer = post(http, png, steps=1, answer="json", file_format="webp").json()
    assert (answer["name"], answer["media_type"]) == ("photo-x2.webp", "image/webp")
    assert Image.open(io.BytesIO(b64decode(answer["image"]))).size == (96, 80)
    assert np.array(answer["facts"]["kernel"]).sum() == pytest.approx(1, abs=1e-3)
    parts = post(http, png, steps=1, answer="multipart")
    head = f"content-type: {parts.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + parts.content, policy=email.policy.HTTP)
    facts, image = message.iter_parts()
    assert json.loads(facts.get_content())["width"] == 96
    assert image.get_filename() == "photo-x2.png"
    assert Image.open(io.BytesIO(image.get_payload(decode=True))).size == (96, 80)


def test_the_kernel_is_that_of_the_pipeline(http, png, tiny_pipeline):
    facts = post(http, png, "/kernel").json()
    estimate = tiny_pipeline.estimate(visible_colours(read_restorable(png, 10**6, "photo.png")), 2)
    assert np.array(facts["kernel"]) == pytest.approx(estimate.kernel[0].numpy(), abs=1e-4)
    assert facts["noise_level"] == pytest.approx(float(estimate.noise_level[0]), rel=1e-4)
    part = post(http, png, "/kernel", region="8, 4, 32, 32").json()
    assert part["kernel_from"] == "region 8, 4, 32, 32"
    assert part["kernel"] != facts["kernel"]


def test_a_given_kernel_is_used(http, png):
    files = {"photograph": ("photo.png", png), "kernel_file": ("kernel.txt", b"0 0 0\n0.25 0.5 0.25\n0 0 0")}
    answer = http.post("/restore", files=files, data={"scale": 2, "steps": 1, "answer": "json"}).json()
    assert np.array(answer["facts"]["kernel"])[1] == pytest.approx([0.25, 0.5, 0.25])


def test_a_mask_is_used(http, png):
    def send(size):
        mask = io.BytesIO()
        picture = Image.new("L", size)
        picture.paste(255, (0, 0, 12, 40))
        picture.save(mask, "PNG")
        files = {"photograph": ("photo.png", png), "mask_file": ("mask.png", mask.getvalue())}
        return http.post("/restore", files=files, data={"scale": 2, "steps": 1, "answer": "json"})

    assert send((48, 40)).json()["facts"]["masked"] == 0.25
    wrong = send((40, 48))
    assert wrong.status_code == 422
    assert "mask.png: a mask of 40x48 pixels for an image of 48x40" in wrong.json()["detail"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"scale": "many"}, "Scale 'many': input should be a valid number"),
        ({"scale": 9}, "between 1 and 8"),
        ({"size": 2}, "Size"),
        ({"answer": "video"}, "Answer 'video'"),
        ({"steps": 10**30}, "steps"),
        ({"seed": 10**30}, "is not between 0 and 2^63 - 1"),
        ({"crop": "0, 0, 100, 20"}, "beyond the photograph of 48 x 40 pixels"),
        ({"scale": 4, "samples": 40}, "the limit of this server is 0.3"),
        ({"kernel_numbers": "1", "region": "0, 0, 40, 40"}, "can come from one of them only"),
    ],
)
def test_impossible_requests_get_one_sentence(http, png, values, words):
    answer = post(http, png, **values)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_files_are_refused_by_their_own_name(http):
    answer = post(http, b"no photograph", name="../../etc/no tes.png")
    assert (answer.status_code, answer.json()["detail"][:12]) == (422, "No tes.png: ")
    missing = http.post("/restore", data={"scale": 2})
    assert (missing.status_code, missing.json()["detail"]) == (422, "Photograph: field required.")
    assert post(http, b"", "/kernel").status_code == 422


def test_an_unexpected_error_is_not_described(http, png, monkeypatch):
    def fail(*_):
        raise RuntimeError("a path of the machine")

    with monkeypatch.context() as patch:
        patch.setattr("blinddiff.app.restorer.estimate_kernel", fail)
        answer = post(http, png, "/kernel")
    assert answer.status_code == 500
    assert "path" not in answer.text
    assert answer.json()["detail"].startswith("Internal error")
    assert post(http, png, "/kernel").status_code == 200


def test_no_file_is_left(tiny_pipeline, png, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with served(tiny_pipeline) as address, httpx.Client(base_url=address, timeout=60) as http:
        assert post(http, png, steps=1).status_code == 200
        assert post(http, png, "/kernel").status_code == 200
        assert post(http, b"no photograph").status_code == 422
        [folder] = tmp_path.glob("blinddiff-*")
        assert list(folder.iterdir()) == []


def test_the_token(narrow, with_token, png):
    with httpx.Client(base_url=narrow, timeout=60) as http:
        for headers in ({}, {"authorization": "Bearer other"}, {"authorization": f"Basic {TOKEN}"}):
            http.headers = headers
            for answer in (post(http, png), post(http, png, "/kernel"), http.get("/metrics")):
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
        assert http.get("/healthz").json()["status"] == "ok"
        assert http.get("/readyz").status_code == 200
        assert http.get("/config").status_code == 401
        assert http.post("/gradio_api/upload", files={"files": b"1"}).status_code == 401
    assert post(with_token, png, "/kernel").status_code == 200
    with pytest.raises(ValueError, match="Please login"):
        Client(narrow, verbose=False, analytics_enabled=False)
    client = Client(narrow, auth=("any", TOKEN), verbose=False, analytics_enabled=False)
    assert "/restore" in client.view_api(return_format="dict")["named_endpoints"]
    client.close()


def test_the_size_of_uploads(with_token, narrow):
    assert post(with_token, bytes(200_000)).status_code == 413
    parts = (part for part in [b"1", b"2"])
    assert with_token.post("/restore", content=parts).status_code == 411
    # refused before the body is sent
    host, port = narrow.removeprefix("http://").rstrip("/").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        head = (
            f"POST /restore HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 900000\r\n\r\n"
        )
        raw.sendall(head.encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 413")


def test_other_origins_and_hosts_are_refused(http, png):
    assert post(http, png, "/kernel").status_code == 200
    http.headers = {"origin": "http://hostile.example"}
    assert post(http, png, "/kernel").status_code == 403
    http.headers = {"host": "rebound.example"}
    assert post(http, png, "/kernel").status_code == 400


def test_a_full_queue(with_token, png, gate):
    before = metric(with_token, 'requests_total{route="/kernel",status="429"}')
    with ThreadPoolExecutor(2) as clients:
        waiting = [clients.submit(post, with_token, png, "/kernel") for _ in range(2)]
        wait_for(lambda: metric(with_token, "requests_admitted") == 2)
        assert gate.reached.wait(20)
        assert with_token.get("/readyz").status_code == 503
        refused = post(with_token, png, "/kernel")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "1 requests are waiting" in refused.json()["detail"]
        gate.opened.set()
        assert [each.result().status_code for each in waiting] == [200, 200]
    assert with_token.get("/readyz").status_code == 200
    assert metric(with_token, "requests_admitted") == 0
    assert metric(with_token, 'requests_total{route="/kernel",status="429"}') == before + 1


def test_the_deadline_stops_the_work(with_token, png, gate):
    started = time.monotonic()
    answer = post(with_token, png, deadline=0.5)
    assert answer.status_code == 504
    assert time.monotonic() - started < 20
    assert "0.5 seconds" in answer.json()["detail"]
    gate.opened.set()
    assert post(with_token, png, "/kernel").status_code == 200  # the machine is free
    for wrong in ("0", "-1", "soon", "nan"):
        assert post(with_token, png, "/kernel", deadline=wrong).status_code == 422


@pytest.mark.parametrize("path", ["/restore", "/kernel"])
def test_the_work_stops_when_the_client_leaves(narrow, with_token, png, gate, path):
    name = f'requests_total{{route="{path}",status="499"}}'
    before, stopped = metric(with_token, name), metric(with_token, 'work_seconds_count{outcome="stopped"}')
    leaving = httpx.Client(base_url=narrow, timeout=1, headers=with_token.headers)
    with pytest.raises(httpx.ReadTimeout):
        post(leaving, png, path)
    leaving.close()
    assert gate.reached.is_set()
    assert gate.left.wait(20)
    assert not gate.opened.is_set()  # it was stopped
    wait_for(lambda: metric(with_token, name) == before + 1)
    wait_for(lambda: metric(with_token, 'work_seconds_count{outcome="stopped"}') == stopped + 1)
    assert metric(with_token, "requests_admitted") == 0


def test_metrics_are_counted(with_token, png):
    names = ('requests_total{route="/restore",status="200"}', 'work_seconds_count{outcome="done"}')
    before, pixels = [metric(with_token, name) for name in names], metric(with_token, "result_pixels_total")
    assert post(with_token, png, steps=1).status_code == 200
    assert [metric(with_token, name) for name in names] == [value + 1 for value in before]
    assert metric(with_token, "result_pixels_total") == pixels + 96 * 80
    assert with_token.get("/metrics").headers["content-type"].startswith("text/plain")


def test_answers_have_the_published_form(http, png):
    """The description, read with another library, fits the answers."""
    description = http.get("/openapi.json").json()
    assert {"/restore", "/kernel", "/healthz", "/readyz", "/metrics"} == set(description["paths"])
    for path, values in (("/kernel", {}), ("/restore", {"steps": 1, "answer": "json"})):
        schema = description["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(post(http, png, path, **values).json(), {**schema, "components": description["components"]})
    assert description["paths"]["/restore"]["post"]["security"]
