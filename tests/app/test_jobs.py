"""Work in a thread: its events, its errors, stopping it; and the files of a restoration."""

import asyncio
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from contextvars import Context

import numpy as np
import pytest
import torch
from PIL import Image

from blinddiff.app import Limits
from blinddiff.app.jobs import restore
from blinddiff.app.request import Request
from blinddiff.app.threads import Stopped, check_stop, check_stop_in_layers, run_in_thread, stop_requested
from blinddiff.errors import ParameterError
from blinddiff.restoring.photograph import RestoreSettings


def collect_events(work, heartbeat=10):
    async def collect():
        with ThreadPoolExecutor(1) as executor:
            return [event async for event in run_in_thread(executor, work, heartbeat)]

    return asyncio.run(collect())


def test_events_in_order():
    assert collect_events(lambda send: [send(number) for number in range(3)]) == [0, 1, 2]


def test_heartbeat():
    assert None in collect_events(lambda send: time.sleep(0.2), heartbeat=0.05)


def test_errors_are_raised_where_events_are_awaited():
    def work(send):
        raise KeyError("so")

    with pytest.raises(KeyError, match="so"):
        collect_events(work)


def test_closing_stops_the_work():
    ended = threading.Event()

    def work(send):
        send("begun")
        try:
            while True:
                check_stop()
                time.sleep(0.01)
        except Stopped:
            ended.set()
            raise

    async def stop():
        with ThreadPoolExecutor(1) as executor:
            async with aclosing(run_in_thread(executor, work, 10)) as events:
                assert await anext(events) == "begun"
            assert await asyncio.to_thread(ended.wait, 5)

    asyncio.run(stop())


@pytest.mark.parametrize("turns", range(6))
def test_cancelling_while_an_event_arrives(turns):
    """However many turns of the event loop lie between the two."""
    senders, ended = [], threading.Event()

    def work(send):
        senders.append(send)
        ended.wait(10)

    async def cancel():
        async def listen():
            async with aclosing(run_in_thread(executor, work, 10)) as events:
                async for _ in events:
                    pass

        with ThreadPoolExecutor(1) as executor:
            listener = asyncio.ensure_future(listen())
            while not senders:
                await asyncio.sleep(0.01)
            senders[0]("news")
            for _ in range(turns):
                await asyncio.sleep(0)
            listener.cancel()
            done, _ = await asyncio.wait({listener}, timeout=0.5)
            ended.set()
            assert done
            assert listener.cancelled()

    asyncio.run(cancel())


def test_every_layer_checks_for_stop():
    network = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Identity())
    check_stop_in_layers(network)
    stop, context = threading.Event(), Context()
    context.run(stop_requested.set, stop)
    context.run(network, torch.zeros(1))
    stop.set()
    with pytest.raises(Stopped):
        context.run(network[1], torch.zeros(1))
    network(torch.zeros(1))  # nothing is checked outside the context


def test_a_file_that_was_sent_is_not_written_again(tiny_pipeline, tmp_path):
    """A browser may be reading it: a file truncated meanwhile would arrive incomplete."""
    array = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    Image.fromarray(array).save(tmp_path / "photo.png")
    folder = tmp_path / "result"
    folder.mkdir()
    answers, written = [], []

    def send(answer):
        answers.append(answer)
        written.append({path: path.stat().st_mtime_ns for path in folder.iterdir()})

    request = Request(tmp_path / "photo.png", RestoreSettings(scale=2, steps=3))
    send(restore(tiny_pipeline, request, Limits(), folder, send))
    assert {path.name for path in written[-2]} == {"before.jpg", "step-1.jpg", "step-2.jpg", "step-3.jpg"}
    for earlier, later in itertools.pairwise(written):
        assert earlier.items() <= later.items()
    assert answers[-1].pictures["before"] == folder / "before.jpg"


def run(pipeline, folder, array, limits=None, **changed):
    """Restore a photograph of these values; the result and all reports."""
    Image.fromarray(array).save(folder / "photo.png")
    output = folder / "result"
    output.mkdir(exist_ok=True)
    reports = []
    request = Request.checked(photograph=folder / "photo.png", **changed)
    return restore(pipeline, request, limits or Limits(), output, reports.append), reports


def test_progress_moves_with_tiles(tiny_pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr("blinddiff.app.jobs._REPORT_SECONDS", 0)
    array = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    # Without memory, each sample is a tile.
    _, reports = run(tiny_pipeline, tmp_path, array, settings={"steps": 2, "samples": 3, "max_memory": 1})
    shares = [report.share for report in reports]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert sorted(set(shares)) == pytest.approx([number / 6 for number in range(7)])
    assert reports[1].text == "Step 1 of 2"
    assert reports[-1].text == "Step 2 of 2"
    assert sum(report.pictures is not None for report in reports) == 2


@pytest.mark.parametrize(
    ("size", "expected", "name"),
    [
        ({"scale": 1.5}, (72, 60), "photo-x1.5.png"),
        ({"scale": 8}, (384, 320), "photo-x8.png"),
        ({"longest": 100}, (100, 83), "photo-100x83.png"),
    ],
)
def test_results_of_any_size(tiny_pipeline, tmp_path, size, expected, name):
    array = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    result, _ = run(tiny_pipeline, tmp_path, array, settings={"steps": 1, **size})
    assert result.result.name == name
    for file in (result.result, result.pictures["full_before"], result.pictures["full_after"]):
        assert Image.open(file).size == expected
    assert result.facts["scale"] == pytest.approx(size.get("scale", 100 / 48))


def test_large_results_are_shown_at_full_size_too(tiny_pipeline, tmp_path):
    array = np.zeros((8, 820, 3), np.uint8)
    result, _ = run(tiny_pipeline, tmp_path, array, settings={"scale": 2, "steps": 1})
    assert Image.open(result.pictures["after"]).size == (1600, 16)
    for name in ("full_before", "full_after"):
        assert Image.open(result.pictures[name]).size == (1640, 16)


def test_only_the_cropped_part_is_restored(tiny_pipeline, tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (80, 96, 3), np.uint8)
    settings = {"scale": 2, "steps": 1}
    part, _ = run(tiny_pipeline, tmp_path, array, settings=settings, crop="16, 24, 48, 40")
    whole, _ = run(tiny_pipeline, tmp_path, array[24:64, 16:64].copy(), settings=settings)
    assert np.array_equal(np.asarray(Image.open(part.result)), np.asarray(Image.open(whole.result)))
    assert part.facts["crop"] == [16, 24, 48, 40]
    mask = np.zeros((80, 96), np.uint8)
    mask[30:40, :40] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    masked, _ = run(
        tiny_pipeline, tmp_path, array, settings=settings, crop="16, 24, 48, 40", mask_file=tmp_path / "mask.png"
    )
    assert masked.facts["masked"] == 0.125  # 10 of 40 rows, 24 of 48 columns
    # a part of a photograph that is too large as a whole
    limits = Limits(megapixels=0.02)
    run(tiny_pipeline, tmp_path, array, limits, settings=settings, crop="16, 24, 48, 40")
    with pytest.raises(ParameterError, match="crop the photograph to a part such as 70 x 70 pixels"):
        run(tiny_pipeline, tmp_path, array, limits, settings=settings)


def test_a_page_of_a_file_is_restored(tiny_pipeline, tmp_path):
    pages = [Image.new("RGB", (32, 32), (200 * number, 0, 0)) for number in range(2)]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    (tmp_path / "result").mkdir()
    request = Request(tmp_path / "scan.tif", RestoreSettings(scale=1, steps=1), page=2)
    result = restore(tiny_pipeline, request, Limits(), tmp_path / "result", lambda _: None)
    assert result.facts["page"] == 2
    assert np.asarray(Image.open(result.result))[..., 0].mean() > 100
