"""Costs: multiplications that can be counted by hand, and memory of a process of its own."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blinddiff.evaluation import records
from blinddiff.evaluation.methods import Options
from blinddiff.evaluation.records import Cost, cost_case, measure_cost, measure_costs, peak_memory
from blinddiff.restoring.pool import Died

PROGRAM = """
import json, torch
from dataclasses import asdict
from blinddiff.evaluation import records
from blinddiff.evaluation.data import Restoration
from blinddiff.evaluation.methods import Options

class Made:
    name, parameters = "made", 3
    def restore(self, y, scale, case):
        ballast = torch.ones(200 * 2**18)  # 200 MiB
        torch.nn.functional.conv2d(y[None], torch.ones(5, 3, 3, 3), padding=1)
        return Restoration(y.repeat_interleave(4, 1).repeat_interleave(4, 2), None, None, 0.25, 7)

records.method = lambda name, options: Made()
print(json.dumps(asdict(records.measure_cost("made", Options(), 4))))
"""


def test_memory_and_multiplications_of_a_method_that_is_known() -> None:
    ballast = bytearray(2**29)  # 512 MiB of this process must not count
    answer = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    del ballast
    cost = json.loads(answer.stdout)
    assert cost["gmacs"] == round(64 * 64 * 5 * 3 * 9 / 1e9, 4)
    assert (cost["calls"], cost["parameters"], cost["seconds"]) == (7, 3, 0.25)
    if cost["peak_mib"] is None:
        pytest.skip("this system does not tell a process's memory")
    assert 195 < cost["peak_mib"] - cost["loaded_mib"] < 260


def test_a_network_costs_as_many_multiplications_as_it_is_called(weights: Path) -> None:
    names = ("perceptual@1", "perceptual@2", "perceptual@4")
    one, two, four = (measure_cost(name, Options(weights, "cpu"), 4) for name in names)
    assert (one.calls, two.calls, four.calls) == (1, 2, 4)
    assert one.gmacs is not None
    assert two.gmacs is not None
    assert four.gmacs is not None
    # The estimate from y is made once.
    assert four.gmacs - two.gmacs == pytest.approx(2 * (two.gmacs - one.gmacs), rel=0.05)
    assert two.gmacs > 1.2 * one.gmacs
    assert one.parameters == four.parameters
    guided = measure_cost("perceptual-gradient@2", Options(weights, "cpu"), 4)
    # The backward pass to x_t costs another forward pass of the image network; its weights have no gradients.
    assert 1.5 * two.gmacs < guided.gmacs < 2.2 * two.gmacs
    closed = measure_cost("closed-form", Options(weights, "cpu"), 4)
    assert closed.parameters is not None
    assert one.parameters is not None
    assert 0 < closed.parameters < one.parameters


def test_costs_are_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = measure_costs({"bicubic": "", "external": None}, Options(), 3, tmp_path)
    assert record["result"] == "255x255"
    assert list(record["methods"]) == ["bicubic"]
    assert record["methods"]["bicubic"]["parameters"] == 0
    monkeypatch.setattr(records, "run_tasks", lambda *_, **__: pytest.fail("measured again"))
    assert measure_costs({"bicubic": ""}, Options(), 3, tmp_path)["methods"] == record["methods"]


def test_costs_of_another_device_or_of_other_weights_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_costs({"bicubic": ""}, Options(), 3, tmp_path)
    measured: list[str] = []
    monkeypatch.setattr(records, "run_tasks", in_this_process(measured))
    measure_costs({"bicubic": ""}, Options(device="cuda"), 3, tmp_path)
    assert measured == ["bicubic"]
    measure_costs({"bicubic": ""}, Options(device="cuda"), 3, tmp_path)
    assert measured == ["bicubic"]
    measure_costs({"bicubic": "other weights"}, Options(device="cuda"), 3, tmp_path)
    assert measured == ["bicubic"] * 2


def in_this_process(measured: list[str], outcome: Exception | Died | None = None) -> Callable[..., Iterator[object]]:
    """In place of `run_tasks`: records the names of the methods."""

    def run(tasks: list[str], *_: object, **__: object) -> Iterator[object]:
        for name in tasks:
            measured.append(name)
            if isinstance(outcome, Exception):
                raise outcome
            yield name, outcome or Cost(0.0, 0, 0.0, 0, None, 0.0)

    return run


@pytest.mark.parametrize(
    "outcome",
    [MemoryError(), Died("was ended by SIGKILL"), RuntimeError("CUDA out of memory. Tried to allocate 9 GiB")],
)
def test_lack_of_memory_does_not_lose_the_record(
    outcome: Exception | Died, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "run_tasks", in_this_process([], outcome))
    record = measure_costs({"bicubic": ""}, Options(), 3, tmp_path)
    assert record["methods"] == {}
    assert record["not_measured"] == {"bicubic": "memory has run out"}


def test_the_input_is_the_same_for_all() -> None:
    a, b = cost_case(4), cost_case(4)
    assert a.y.equal(b.y)
    assert a.y.shape == (3, 64, 64)
    assert peak_memory() is None or peak_memory() > 2**26  # type: ignore[operator]
