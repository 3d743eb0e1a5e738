"""What the sampler says of memory."""

import argparse

import psutil
import pytest
import torch

from blinddiff.cli.options import memory_size
from blinddiff.sampling import memory


def test_free_memory_minds_the_limit_of_a_container(tmp_path, monkeypatch):
    available = psutil.virtual_memory().available
    found = memory.default_memory(torch.device("cpu"))
    assert 0 < found <= 0.6 * max(available, psutil.virtual_memory().available)
    monkeypatch.setattr(memory, "CONTAINER", tmp_path)
    (tmp_path / "memory.max").write_text("100000000\n")
    (tmp_path / "memory.current").write_text("40000000\n")
    assert memory.default_memory(torch.device("cpu")) == 30_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.default_memory(torch.device("cpu")) > 30_000_000


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("500M", 500 * 2**20), ("2g", 2**31), ("1.5GiB", 3 * 2**29), ("64kB", 2**16)]
)
def test_sizes_on_the_command_line(text, size):
    assert memory_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "2X", "G", "nan", "1e9", "99999999T"])
def test_sizes_that_are_none(text):
    with pytest.raises(argparse.ArgumentTypeError, match="not a valid size"):
        memory_size(text)
