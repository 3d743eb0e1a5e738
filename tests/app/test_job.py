"""Work in a thread: its events, its errors, and its end when nobody listens."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import pytest
import torch

from blinddiff.app.job import events_of
from blinddiff.app.stopping import Stopped, check_stop, stoppable, watch


def collected(work, tick=10):
    async def collect():
        with ThreadPoolExecutor(1) as worker:
            return [event async for event in events_of(worker, work, tick)]

    return asyncio.run(collect())


def test_events_in_order():
    assert collected(lambda tell: [tell(number) for number in range(3)]) == [0, 1, 2]


def test_signs_of_life():
    assert None in collected(lambda tell: time.sleep(0.2), tick=0.05)


def test_errors_are_raised_where_events_are_awaited():
    def work(tell):
        raise KeyError("so")

    with pytest.raises(KeyError, match="so"):
        collected(work)


def test_closing_stops_the_work():
    ended = threading.Event()

    def work(tell):
        tell("begun")
        try:
            while True:
                check_stop()
                time.sleep(0.01)
        except Stopped:
            ended.set()
            raise

    async def leave():
        with ThreadPoolExecutor(1) as worker:
            async with aclosing(events_of(worker, work, 10)) as events:
                assert await anext(events) == "begun"
            assert await asyncio.to_thread(ended.wait, 5)

    asyncio.run(leave())


@pytest.mark.parametrize("turns", range(6))
def test_giving_up_as_news_comes(turns):
    """However many turns of the event loop lie between the two."""
    told, ended = [], threading.Event()

    def work(tell):
        told.append(tell)
        ended.wait(10)

    async def give_up():
        async def listen():
            async with aclosing(events_of(worker, work, 10)) as events:
                async for _ in events:
                    pass

        with ThreadPoolExecutor(1) as worker:
            listener = asyncio.ensure_future(listen())
            while not told:
                await asyncio.sleep(0.01)
            told[0]("news")
            for _ in range(turns):
                await asyncio.sleep(0)
            listener.cancel()
            done, _ = await asyncio.wait({listener}, timeout=0.5)
            ended.set()
            assert done
            assert listener.cancelled()

    asyncio.run(give_up())


def test_every_layer_looks_whether_to_stop():
    network = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Identity())
    watch(network)
    stop = threading.Event()
    network(torch.zeros(1))  # outside, nothing is looked at
    with stoppable(stop):
        network(torch.zeros(1))
        stop.set()
        with pytest.raises(Stopped):
            network[1](torch.zeros(1))
    network(torch.zeros(1))
