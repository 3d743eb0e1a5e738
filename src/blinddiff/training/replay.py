"""Examples that the estimator sees again: making one costs a hundred times what learning from it does."""

from typing import Any

import torch
from torch import Tensor

KEPT = 8192
"""Examples kept at most: few enough to be forgotten before they are known by heart."""


class Replay:
    """The last `KEPT` examples, each a row of the same few tensors."""

    def __init__(self) -> None:
        self.rows: list[Tensor] = []
        self.added = 0

    def add(self, *new: Tensor) -> None:
        """Rows (B, ...) of each tensor, in place of the oldest; the same tensors in every call."""
        if not self.rows:
            self.rows = [part.new_empty((KEPT, *part.shape[1:])) for part in new]
        # Accelerate loads checkpoints onto the CPU.
        self.rows = [rows.to(part.device) for rows, part in zip(self.rows, new, strict=True)]
        places = (self.added + torch.arange(len(new[0]))) % KEPT
        for rows, part in zip(self.rows, new, strict=True):
            rows[places.to(rows.device)] = part.detach()
        self.added += len(new[0])

    def draw(self, count: int, generator: torch.Generator) -> list[Tensor]:
        """Random rows of what was added, (count, ...) of each tensor."""
        places = torch.randint(min(self.added, KEPT), (count,), generator=generator)
        return [rows[places.to(rows.device)] for rows in self.rows]

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"rows": self.rows, "added": self.added}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.rows, self.added = state["rows"], state["added"]
