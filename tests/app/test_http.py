"""The HTTP interface, called by Gradio's client, and by hand for requests that this client would not send."""

import json
import re
import time

import httpx
import jsonschema
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from blinddiff.app import Limits
from blinddiff.app.server import served
from blinddiff.imaging import read_image
from blinddiff.sampling.pipeline import MODES

V2 = "/gradio_api/call/v2/restore"


def arguments(photograph, **changed):
    """As docs/guides/http.md has it."""
    return {"photograph": handle_file(photograph), "scale": 2, "steps": 1, **changed, "api_name": "/restore"}


def call(http, path, **values):
    """The last event of a call by name, for an uploaded file: its name, its data, and the text of all events."""
    photograph = {"path": path, "meta": {"_type": "gradio.FileData"}}
    event = http.post(V2, json={"photograph": photograph, "scale": 2, "steps": 1, **values})
    text = http.get(f"/gradio_api/call/restore/{event.json()['event_id']}").text
    name, data = re.search(r"event: (\w+)\ndata: (.*)\s*$", text[text.rindex("event: ") :]).groups()
    return name, json.loads(data), text


def upload(http, photograph):
    return http.post("/gradio_api/upload", files={"files": (photograph.name, photograph.read_bytes())}).json()[0]


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
    answer = job.result(timeout=60)
    facts = answer["facts"]
    assert "Done in" in answer["status"]
    assert answer["progress"] == 1
    restored = read_image(answer["result"])
    assert restored.pixels.shape == (3, 80, 96)
    assert b"Ada" in restored.exif
    assert (facts["scale"], facts["samples"], facts["seed"], facts["width"]) == (2, 2, 0, 96)
    assert facts["photograph"] == "photo.png"
    assert np.array(facts["kernel"]).sum() == pytest.approx(1, abs=1e-3)
    assert facts["uncertainty"] > 0
    for name in ("before", "after", "kernel", "noise", "residual", "uncertainty"):
        assert Image.open(answer[name]).size > (8, 8)
    # step by step
    statuses = [each["status"] for each in job.outputs()]
    assert any("Step 1 of 2" in words for words in statuses)
    assert any("Step 2 of 2" in words for words in statuses)


def test_the_final_status_stays_while_memory_is_released(client, photograph, monkeypatch):
    monkeypatch.setattr("blinddiff.app.threads.gc.collect", lambda: time.sleep(1.5))  # longer than a heartbeat
    assert "Done in" in client.predict(**arguments(photograph))["status"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"scale": 4, "samples": 16}, "0.5 megapixels; the limit of this server is 0.3"),
        ({"kernel_numbers": "1 2\n3"}, "Kernel numbers: needs rows of equal length"),
        ({"kernel_numbers": "1", "region": "0, 0, 40, 40"}, "can come from one of them only"),
        ({"region": "1, 2"}, "four whole numbers are needed"),
        ({"region": "--5, 0, 40, 40"}, "four whole numbers are needed"),
        ({"scale": None}, "Scale None: input should be a valid number"),
        ({"scale": "large"}, "Scale 'large': input should be a valid number"),
        ({"scale": 9}, "between 1 and 8"),
        ({"seed": None}, "Seed None: input should be a valid integer"),
        ({"mode": None}, "Mode None: input should be a valid string"),
        ({"mode": "paper"}, "needs the weights of a published network"),
        ({"kernel_file": "/etc/passwd"}, "must be an uploaded file"),
        ({"mask_file": "/etc/passwd"}, "must be an uploaded file"),
        ({"crop": "0, 0, 100, 20"}, "beyond the photograph of 48 x 40 pixels"),
        ({"page": 2}, "has no page 2"),
        ({"width": 100, "longest": 100}, "exclude one another"),
        ({"region": "20, 0, 40, 40"}, "beyond the photograph of 48 x 40 pixels"),
        ({"mode": "magic"}, "magic"),
        ({"noise_level": 300}, "255"),
    ],
)
def test_impossible_requests_get_a_message(client, photograph, changed, words):
    with pytest.raises(AppError, match=re.escape(words)):
        client.predict(**arguments(photograph, **changed))


def test_everything_but_the_photograph_may_be_left_out(client, photograph):
    defaults = client.predict(photograph=handle_file(photograph), api_name="/restore")
    assert read_image(defaults["result"]).pixels.shape == (3, 160, 192)
    assert defaults["uncertainty"] is None
    assert defaults["facts"]["steps"] == MODES["fidelity"].num_inference_steps


def test_types_and_defaults_are_published(address):
    """The schema of every argument, checked with another library, accepts its default and the documented values."""
    endpoint = httpx.get(f"{address}gradio_api/info").json()["named_endpoints"]["/restore"]
    parameters = {each["parameter_name"]: each for each in endpoint["parameters"]}
    assert [name for name, each in parameters.items() if not each["parameter_has_default"]] == ["photograph"]
    for each in parameters.values():
        if each["parameter_has_default"]:
            jsonschema.validate(each["parameter_default"], each["type"])
    examples = {"scale": [1, 2.5], "samples": [16], "noise_level": [0, 2.5, None], "steps": [8, None], "page": [2]}
    examples |= {
        "mode": ["fast"],
        "file_format": ["jxl"],
        "longest": [2000],
        "megapixels": [1.5],
        "region": ["0 0 9 9"],
    }
    for name, values in examples.items():
        for value in values:
            jsonschema.validate(value, parameters[name]["type"])
    for name, value in (("scale", "4"), ("mode", "paper"), ("file_format", "exe"), ("samples", 1.5)):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(value, parameters[name]["type"])
    [answer] = endpoint["returns"]
    assert {"status", "progress", "result", "kernel", "facts"} <= answer["type"]["properties"].keys()


def test_calls_by_name(address, photograph, caplog, capfd):
    with httpx.Client(base_url=address, timeout=60) as http:
        path = upload(http, photograph)
        name, [answer], _ = call(http, path, longest=60)
        assert name == "complete"
        assert answer["facts"]["width"] == 60
        assert http.get(f"/gradio_api/file={answer['result']['path']}").content[:4] == b"\x89PNG"
        name, message, _ = call(http, path, scale="many")
        assert name == "error"
        assert "many" in json.dumps(message)
        # names that the function does not have
        missing = http.post(V2, json={"scale": 2})
        assert (missing.status_code, missing.text) == (400, "No value provided for required argument: photograph.")
        unknown = http.post(V2, json={"photograph": None, "size": 2})
        assert unknown.status_code == 400
        assert "`size`" in unknown.text
        assert http.post("/gradio_api/call/v2/enlarge", json={}).status_code == 404
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())


def test_files_of_the_server_cannot_be_named(address, photograph):
    """Only an object with a path is replaced by an upload; any other value must not be read as a path."""
    with httpx.Client(base_url=address, timeout=60) as http:
        for value in (str(photograph), [str(photograph)], {"meta": {}, "path": None}, None, 7):
            event = http.post(V2, json={"photograph": value}).json()["event_id"]
            text = http.get(f"/gradio_api/call/restore/{event}").text
            assert "event: error" in text
            assert "uploaded file" in text or "choose one first" in text


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
    given = client.predict(**arguments(photograph, kernel_numbers="0 0 0\n0.25 0.5 0.25\n0 0 0"))["facts"]
    assert given["kernel_from"] == "given"
    assert np.array(given["kernel"]) == pytest.approx(np.array([[0, 0, 0], [0.25, 0.5, 0.25], [0, 0, 0]]))
    whole = client.predict(**arguments(photograph))["facts"]
    part = client.predict(**arguments(photograph, region="8, 4, 32, 32"))["facts"]
    assert part["kernel_from"] == "region 8, 4, 32, 32"
    assert part["kernel"] != whole["kernel"]


def test_no_path_of_the_machine_in_any_answer(address, photograph):
    """Checks every text of a visit."""
    texts = []
    with httpx.Client(base_url=address, timeout=60) as http:
        for path in ("/", "/config", "/gradio_api/info", "/theme.css"):
            texts.append(http.get(path).text)
        path = upload(http, photograph)
        name, _, text = call(http, path)
        assert name == "complete"
        texts += [path, text]
        name, _, text = call(http, path, photograph=None)
        assert "choose one first" in text
        texts.append(text)
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
            file = {"path": path, "meta": {"_type": "gradio.FileData"}}
            assert http.post("/gradio_api/call/restore", json={"data": [file]}).status_code == 400
            assert http.post(V2, json={"photograph": file}).status_code == 400
        assert http.get("/gradio_api/proxy=https://example.org/").status_code == 400
        assert http.get(f"/gradio_api/file/{photograph}").status_code == 403
        assert http.get("/gradio_api/stream/visitor/1/1/playlist.m3u8").status_code == 404
        for path in ("process_recording", "vibe-edit", "stream/1"):
            assert 400 <= http.post(f"/gradio_api/{path}", files={"files": b"1"}).status_code < 500
        assert http.get("/monitoring").status_code in (403, 404, 405)
        assert http.get("/", headers={"host": "rebound.example"}).status_code == 400
        assert http.post("/gradio_api/call/restore", content=b"{" * 100).status_code == 400
        for depth in (600, 200_000):
            nested = b'{"data": ' + b"[" * depth + b"]" * depth + b"}"
            assert http.post("/gradio_api/call/restore", content=nested).status_code == 400
        assert http.post("/gradio_api/call/restore", content=b" " * (5 << 20)).status_code == 413
        # past the queue
        assert http.post("/gradio_api/run/restore", json={"data": [None] * 17}).status_code == 404
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
    while not any("Step" in answer["status"] for answer in job.outputs()):
        time.sleep(0.05)
    job.cancel()
    second = Client(address, verbose=False, analytics_enabled=False, download_files=False)
    started = time.perf_counter()
    assert "Done" in second.predict(**arguments(photograph))["status"]
    assert time.perf_counter() - started < 20
    second.close()
