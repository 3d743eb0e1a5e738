"""What the sampler says of memory."""

import psutil
import torch

from blinddiff.sampling import memory


def test_free_memory_minds_the_limit_of_a_container(tmp_path, monkeypatch):
    available = psutil.virtual_memory().available
    found = memory.free_memory(torch.device("cpu"))
    assert 0 < found <= 0.6 * max(available, psutil.virtual_memory().available)
    monkeypatch.setattr(memory, "CONTAINER", tmp_path)
    (tmp_path / "memory.max").write_text("100000000\n")
    (tmp_path / "memory.current").write_text("40000000\n")
    assert memory.free_memory(torch.device("cpu")) == 30_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_memory(torch.device("cpu")) > 30_000_000
