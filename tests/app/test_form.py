"""The form: its empty fields, the plan, and restorations of one and of several photographs."""

import asyncio
import json
import re
import threading
import zipfile
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from blinddiff.app import Limits
from blinddiff.app.form import Form
from blinddiff.app.restorer import Restorer
from blinddiff.app.visitor_files import VisitorFiles
from blinddiff.restoring.photograph import RestoreSettings, read_restorable, restore_photograph

ANN = SimpleNamespace(session_hash="ann")
UNTOUCHED = {
    "page": 1,
    "crop": "",
    "scale": 2,
    "size": "",
    "mode": "fidelity",
    "samples": 1,
    "seed": 0,
    "file_format": "png",
    "noise_level": "",
    "steps": "",
    "kernel_map": False,
    "mask_file": None,
    "kernel_file": None,
    "kernel_numbers": "",
    "region": "",
}


@pytest.fixture
def form(tiny_pipeline, tmp_path):
    (tmp_path / "files").mkdir()
    return Form(Restorer(tiny_pipeline, Limits(megapixels=0.5, files=5), VisitorFiles(tmp_path / "files")))


def write(path, width=48, height=40):
    path.parent.mkdir(exist_ok=True)
    array = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(array).save(path)
    return path


def restore(form, *paths, **changed):
    async def collect():
        photographs = [str(path) for path in paths] or None
        return [answer async for answer in form.restore(photographs, **{**UNTOUCHED, **changed}, request=ANN)]

    return asyncio.run(collect())


def downloads(answer, folder):
    """The files that the links of an answer name."""
    addresses = re.findall(r"download href='gradio_api/file=files/([^']*)'", answer.figures)
    return [folder / "files" / unquote(address) for address in addresses]


def events_of_plan(form, *sizes, crop="", scale=4, size="", mode="fidelity", samples=1, steps=""):
    names = [(f"{number}.png", *each) for number, each in enumerate(sizes)]
    return form.plan(names, crop, scale, size, mode, samples, steps)


def plan(form, *sizes, **changed):
    async def last():
        return [event async for event in events_of_plan(form, *sizes, **changed)][-1]

    return asyncio.run(last())


def test_untouched_fields_change_nothing(form, tiny_pipeline, tmp_path):
    """The result is that of the pipeline without any of the settings."""
    path = write(tmp_path / "a photo's & name.png")
    first, *_, last = restore(form, path)
    assert first.results["visible"] is False
    assert last.results["visible"] is True
    result, estimate = downloads(last, tmp_path)
    expected = restore_photograph(tiny_pipeline, read_restorable(path), RestoreSettings(scale=2)).pixels
    got = np.asarray(Image.open(result)).transpose(2, 0, 1)
    assert np.abs(got - 255 * expected).max() <= 0.5001
    assert json.loads(estimate.read_text()) == last.facts
    assert "Done in" in last.status


def test_captions_and_pictures_at_full_size(form, tmp_path):
    last = restore(form, write(tmp_path / "photo.png"), samples=2, steps="1")[-1]
    captions = {"kernel": "ellipse", "noise": "spectrum", "residual": "mid-grey", "uncertainty": "less certain"}
    for name, caption in captions.items():
        assert re.search(rf"<figure id='{name}'>.*?<figcaption>[^<]*{caption}", last.figures)
    addresses = re.findall(r"<img src='([^']*)'", last.figures)
    assert len(addresses) == 6
    for address in addresses:
        assert (tmp_path / "files" / address.removeprefix("gradio_api/file=files/")).is_file()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"steps": "0"}, "Steps &#x27;0&#x27;: must be a whole number from 1 to 1000, or empty."),
        ({"noise_level": "loud"}, "Noise level &#x27;loud&#x27;: must be a number from 0 to 255, or empty."),
        ({"size": "huge"}, "Other size &#x27;huge&#x27;: write it as"),
        ({"crop": "1, 2"}, "Crop &#x27;1, 2&#x27;: four whole numbers"),
        ({"size": "9x"}, "between 1 and 8"),
    ],
)
def test_wrong_fields_are_named(form, tmp_path, changed, words):
    last = restore(form, write(tmp_path / "photo.png"), **changed)[-1]
    assert "role='alert'" in last.status
    assert words in last.status


def test_without_a_photograph(form):
    assert "choose one first" in restore(form)[-1].status


def test_several_photographs_become_one_archive(form, tmp_path):
    """Those that cannot be restored are named; photographs of one name from several folders are all there."""
    (tmp_path / "notes.png").write_text("no photograph")
    paths = [write(tmp_path / "photo.png"), tmp_path / "notes.png", write(tmp_path / "other" / "photo.png", 32, 56)]
    answers = restore(form, *paths, steps="1", seed=3)
    last = answers[-1]
    assert "2 of 3 restored; 1 failed" in last.status
    assert any("3 of 3, photo.png: Step 1 of 1" in str(answer.status) for answer in answers)
    archive, first_file, second_file = downloads(last, tmp_path)
    assert (first_file.name, second_file.name) == ("photo-x2.png", "photo-x2.png")
    with zipfile.ZipFile(archive) as stored:
        assert stored.namelist() == ["photo-x2.png", "photo-x2-2.png", "estimates.json"]
        sizes = [Image.open(stored.open(name)).size for name in stored.namelist()[:2]]
        records = json.loads(stored.read("estimates.json"))
    assert sizes == [(96, 80), (64, 112)]
    assert [record["photograph"] for record in records] == ["photo.png", "notes.png", "photo.png"]
    assert records[1]["error"] == "notes.png: is not an image of a known format."
    assert records[2]["result"] == "photo-x2-2.png"
    assert records[2]["seed"] == 3
    assert "is not an image of a known format" in last.figures


def test_what_several_photographs_cannot_have(form, tmp_path):
    paths = [write(tmp_path / "a.png"), write(tmp_path / "b.png")]
    assert "single photograph only" in restore(form, *paths, crop="0, 0, 20, 20")[-1].status
    assert "single photograph only" in restore(form, *paths, mask_file=str(paths[0]))[-1].status
    assert "6 photographs: at most 5" in restore(form, *paths * 3)[-1].status


def test_the_plan_has_size_and_time(form):
    assert re.search(r"Result: 192 x 160 pixels; 1 tile; .* of memory; about \d+ s", plan(form, (40, 48)))
    assert "Result: 72 x 60 pixels" in plan(form, (40, 48), size="1.5x")
    assert "Result: 100 x 83 pixels" in plan(form, (40, 48), size="100")
    assert "Result: 80 x 64 pixels" in plan(form, (40, 48), crop="0, 0, 20, 16")
    assert "2 results of 0.1 megapixels; about" in plan(form, (40, 48), (40, 48))
    assert "Result" not in plan(form)


def test_the_plan_says_what_is_too_large_and_what_fits(form):
    line = plan(form, (400, 300))
    assert "role='alert'" in line
    assert "0.png: 300 x 400 pixels at scale 4 need 1.9 megapixels; the limit of this server is 0.5" in line
    side = int(re.search(r"a part such as (\d+) x", line)[1])
    assert "Result:" in plan(form, (400, 300), crop=f"0, 0, {side}, {side}")
    assert "need" in plan(form, (400, 300), crop=f"0, 0, {side + 2}, {side}")
    assert "opposite corner" in plan(form, (400, 300), crop="5, 6")
    assert "beyond the photograph" in plan(form, (40, 48), crop="40, 0, 20, 20")
    assert "Steps &#x27;none&#x27;" in plan(form, (40, 48), steps="none")


def test_the_size_is_known_while_the_machine_is_busy(form):
    async def while_busy():
        busy = threading.Event()
        form._restorer._executor.submit(busy.wait, 10)
        events = events_of_plan(form, (40, 48))
        first = await anext(events)
        busy.set()
        return first, await anext(events)

    first, last = asyncio.run(while_busy())
    assert "Result: 192 x 160 pixels; estimating the time" in first
    assert re.search(r"about \d+ s", last)


def test_the_plan_says_what_takes_too_long(tiny_pipeline, tmp_path):
    form = Form(Restorer(tiny_pipeline, Limits(seconds=1e-6), VisitorFiles(tmp_path)))
    line = plan(form, (40, 48))
    assert "role='alert'" in line
    assert "is stopped after 1 s" in line
