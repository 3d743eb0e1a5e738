"""The HTTP interface, called by Gradio's client, and by hand for requests that this client would not send."""

import json
import re
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from blinddiff.app import Limits
from blinddiff.app.server import served
from blinddiff.imaging import read_image

ARGUMENTS = {
    "scale": 2,
    "mode": "fidelity",
    "samples": 1,
    "seed": 0,
    "file_format": "png",
    "noise_level": None,
    "steps": 1,
    "kernel_file": None,
    "kernel_numbers": "",
    "region": "",
}


def arguments(photograph, **changed):
    """As docs/guides/http.md has it."""
    return {"photograph": handle_file(photograph), **ARGUMENTS, **changed, "api_name": "/restore"}


def write_photograph(path, width=48, height=40, **extra):
    array = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(array).save(path, **extra)
    return path


@pytest.fixture
def photograph(tmp_path):
    """With EXIF."""
    exif = Image.Exif()
    exif[315] = "Ada"
    return write_photograph(tmp_path / "photo.png", exif=exif)


def test_a_photograph_is_restored(client, photograph):
    job = client.submit(**arguments(photograph, samples=2, steps=2, mode="perceptual"))
    status, slider, figures, kernel, residual, uncertainty, result, estimate, facts = job.result(timeout=60)
    assert "Done in" in status
    restored = read_image(result)
    assert restored.pixels.shape == (3, 80, 96)
    assert b"Ada" in restored.exif
    assert json.loads(Path(estimate).read_text()) == facts
    assert (facts["scale"], facts["samples"], facts["seed"], facts["width"]) == (2, 2, 0, 96)
    assert facts["photograph"] == "photo.png"
    assert np.array(facts["kernel"]).sum() == pytest.approx(1, abs=1e-3)
    assert facts["uncertainty"] > 0
    for picture in (*slider, kernel, residual, uncertainty):
        assert Image.open(picture).size > (8, 8)
    assert "Kernel widths" in figures
    # step by step
    statuses = [answer[0] for answer in job.outputs()]
    assert any("Step 1 of 2" in words for words in statuses)
    assert any("Step 2 of 2" in words for words in statuses)


def test_the_final_status_stays_while_memory_is_released(client, photograph, monkeypatch):
    monkeypatch.setattr("blinddiff.app.jobs.gc.collect", lambda: time.sleep(1.5))  # longer than a heartbeat
    assert "Done in" in client.predict(**arguments(photograph))[0]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"scale": 4, "samples": 16}, "0.5 megapixels; the limit of this page is 0.3"),
        ({"kernel_numbers": "1 2\n3"}, "Kernel numbers: needs rows of equal length"),
        ({"kernel_numbers": "1", "region": "0, 0, 40, 40"}, "can come from one of them only"),
        ({"region": "1, 2"}, "four whole numbers are needed"),
        ({"region": "--5, 0, 40, 40"}, "four whole numbers are needed"),
        ({"scale": None}, "Scale: is empty"),
        ({"mode": None}, "Mode: is empty"),
        ({"region": "20, 0, 40, 40"}, "beyond the photograph of 48 x 40 pixels"),
        ({"mode": "magic"}, "magic"),
        ({"noise_level": 300}, "255"),
    ],
)
def test_impossible_requests_get_a_message(client, photograph, changed, words):
    with pytest.raises(AppError, match=re.escape(words)):
        client.predict(**arguments(photograph, **changed))


def test_an_empty_seed_is_zero(client, photograph):
    facts = client.predict(**arguments(photograph, seed=None))[-1]
    assert facts["seed"] == 0


def test_bad_files_are_refused_by_name(client, tmp_path):
    (tmp_path / "notes.png").write_text("no photograph")
    with pytest.raises(AppError, match=r"notes.png: is not an image of a known format\."):
        client.predict(**arguments(tmp_path / "notes.png"))
    Image.new("L", (800, 400)).save(tmp_path / "large.png")
    with pytest.raises(AppError, match=r"large.png: .*800 x 400 pixels"):
        client.predict(**arguments(tmp_path / "large.png"))
    write_photograph(tmp_path / "kernel.png", 9, 9)
    with pytest.raises(AppError, match=r"kernel.png: picture is in colour"):
        client.predict(
            **arguments(write_photograph(tmp_path / "photo.png"), kernel_file=handle_file(tmp_path / "kernel.png"))
        )


def test_a_given_kernel_and_a_region_are_used(client, photograph):
    given = client.predict(**arguments(photograph, kernel_numbers="0 0 0\n0.25 0.5 0.25\n0 0 0"))[-1]
    assert given["kernel_from"] == "given"
    assert np.array(given["kernel"]) == pytest.approx(np.array([[0, 0, 0], [0.25, 0.5, 0.25], [0, 0, 0]]))
    whole = client.predict(**arguments(photograph))[-1]
    part = client.predict(**arguments(photograph, region="8, 4, 32, 32"))[-1]
    assert part["kernel_from"] == "region 8, 4, 32, 32"
    assert part["kernel"] != whole["kernel"]


def test_no_path_of_the_machine_in_any_answer(address, photograph):
    """Checks every text of a visit."""
    texts = []
    with httpx.Client(base_url=address, timeout=60) as http:
        for path in ("/", "/config", "/gradio_api/info", "/theme.css"):
            texts.append(http.get(path).text)
        upload = http.post("/gradio_api/upload", files={"files": ("photo.png", photograph.read_bytes())})
        texts.append(upload.text)
        [path] = upload.json()
        data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, *ARGUMENTS.values()]
        event = http.post("/gradio_api/call/restore", json={"data": data})
        answer = http.get(f"/gradio_api/call/restore/{event.json()['event_id']}")
        texts += [event.text, answer.text]
        assert "event: complete" in answer.text
        missing = http.post("/gradio_api/call/restore", json={"data": [None, *ARGUMENTS.values()]})
        texts.append(http.get(f"/gradio_api/call/restore/{missing.json()['event_id']}").text)
        assert "choose one first" in texts[-1]
    for text in texts:
        assert not re.search(r"(/tmp|/home|/work|/usr|/root|site-packages|/var)/[\w.-]+", text)


def test_other_files_cannot_be_reached(address, photograph):
    with httpx.Client(base_url=address, timeout=30) as http:
        for path in (
            "/etc/passwd",
            "files/../../etc/passwd",
            "files//etc/passwd",
            "pyproject.toml",
            "https://example.org/",
            str(photograph),
        ):
            assert http.get(f"/gradio_api/file={path}").status_code == 404
            data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, *ARGUMENTS.values()]
            assert http.post("/gradio_api/call/restore", json={"data": data}).status_code == 400
        assert http.get("/gradio_api/proxy=https://example.org/").status_code == 404
        assert http.get("/monitoring").status_code in (403, 404, 405)
        assert http.get("/", headers={"host": "rebound.example"}).status_code == 400
        assert http.post("/gradio_api/call/restore", content=b"{" * 100).status_code == 400
        for depth in (600, 200_000):
            nested = b'{"data": ' + b"[" * depth + b"]" * depth + b"}"
            assert http.post("/gradio_api/call/restore", content=nested).status_code == 400
        assert http.post("/gradio_api/call/restore", content=b" " * (5 << 20)).status_code == 413
        # past the queue
        assert http.post("/gradio_api/run/restore", json={"data": [None, *ARGUMENTS.values()]}).status_code == 404
        hostile = {"origin": "http://hostile.example"}
        for path in ("upload", "call/restore"):
            assert http.post(f"/gradio_api/{path}", headers=hostile, files={"files": b"1"}).status_code == 403
        large = http.post("/gradio_api/upload", files={"files": ("large.png", bytes(600_000))})
        assert large.status_code == 413


def test_uploads_do_not_fill_the_disk(tiny_pipeline):
    with (
        served(tiny_pipeline, limits=Limits(upload_megabytes=0.1)) as address,
        httpx.Client(base_url=address, timeout=30) as http,
    ):
        answers = [
            http.post("/gradio_api/upload", files={"files": (f"{n}.png", bytes([n]) * 99_000)}).status_code
            for n in range(34)
        ]
        assert answers == [200] * 33 + [503]


def test_one_upload_cannot_hold_more_than_the_largest_file(tiny_pipeline):
    """Gradio limits each file alone."""
    with (
        served(tiny_pipeline, limits=Limits(upload_megabytes=0.1)) as address,
        httpx.Client(base_url=address, timeout=30) as http,
    ):
        many = [("files", (f"{n}.png", bytes([n]) * 45_000)) for n in range(40)]
        assert http.post("/gradio_api/upload", files=many).status_code == 413
        assert http.post("/gradio_api/upload", files=many[:2]).status_code == 200
        without_length = http.post("/gradio_api/upload", content=(part for part in [b"1", b"2"]))
        assert without_length.status_code == 411


def test_cancelling_frees_the_machine(address, client, photograph):
    """A thousand steps are cancelled: the next visitor is answered at once."""
    job = client.submit(**arguments(photograph, mode="perceptual", steps=1000))
    while not any("Step" in answer[0] for answer in job.outputs()):
        time.sleep(0.05)
    job.cancel()
    second = Client(address, verbose=False, analytics_enabled=False, download_files=False)
    started = time.perf_counter()
    assert "Done" in second.predict(**arguments(photograph))[0]
    assert time.perf_counter() - started < 20
    second.close()
