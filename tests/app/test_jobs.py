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
from blinddiff.app.jobs import Stopped, check_stop, check_stop_in_layers, restore, run_in_thread, stop_requested
from blinddiff.app.request import Request
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
    assert {path.name for path in written[2]} == {"before.jpg", "step-1.jpg", "step-2.jpg", "step-3.jpg"}
    for earlier, later in itertools.pairwise(written):
        assert earlier.items() <= later.items()
    assert answers[-1].slider[0] == str(folder / "before.jpg")
