"""Examples kept to be learned from again."""

import pytest
import torch

from blinddiff.training import data as replay
from blinddiff.training.data import Replay


def draw(kept: Replay, count: int = 200) -> list[torch.Tensor]:
    return kept.draw(count, torch.Generator().manual_seed(0))


def test_rows_stay_together_and_all_are_drawn() -> None:
    kept = Replay()
    numbers = torch.arange(7.0)
    kept.add(numbers, torch.stack([numbers, -numbers], 1))
    single, double = draw(kept)
    assert double.shape == (200, 2)
    assert torch.equal(double, torch.stack([single, -single], 1))
    assert set(single.tolist()) == set(range(7))


def test_the_oldest_rows_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "REPLAY_SIZE", 5)
    kept = Replay()
    for first in range(0, 12, 3):
        kept.add(torch.arange(first, first + 3))
    assert set(draw(kept)[0].tolist()) == set(range(7, 12))


def test_a_checkpoint_holds_everything() -> None:
    kept, other = Replay(), Replay()
    kept.add(torch.rand(4, 3))
    other.load_state_dict(kept.state_dict())
    assert torch.equal(draw(kept)[0], draw(other)[0])


def test_rows_from_a_checkpoint_follow_the_new_ones_to_their_device() -> None:
    """Accelerate loads them onto the CPU."""
    kept = Replay()
    kept.load_state_dict({"rows": [torch.zeros(replay.REPLAY_SIZE, 2)], "added": 3})
    kept.add(torch.empty(1, 2, device="meta"))
    assert kept.rows[0].device.type == "meta"
