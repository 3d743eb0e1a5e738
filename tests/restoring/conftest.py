"""Folders of small photographs, and a run over them without processes of its own."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blinddiff.restoring.folder import Failed, FileRestorer
from blinddiff.restoring.journal import Done, Job
from blinddiff.restoring.photograph import RestoreSettings


@pytest.fixture
def photograph() -> Callable[[Path], None]:
    """Write a small photograph, another one for each path."""

    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(list(path.name.encode()))
        noise = random.integers(0, 40, (12, 16, 3))
        row, column = np.mgrid[0:12, 0:16]
        Image.fromarray((noise + (row * 9 + column * 4)[..., None]).clip(0, 255).astype(np.uint8)).save(path)

    return write


@pytest.fixture
def settings(tiny_weights: Path) -> RestoreSettings:
    return RestoreSettings(weights=str(tiny_weights), device="cpu", scale=2)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files are done in this process, one after the other; their names, as they are done."""
    worked = []

    def run(
        jobs: Sequence[Job], make_worker: Callable[[], FileRestorer], processes: int, threads: int
    ) -> Iterator[tuple[Job, Done | Failed]]:
        restorer = make_worker()
        for job in jobs:
            worked.append(job.name)
            yield job, restorer(job)

    monkeypatch.setattr("blinddiff.restoring.folder.run_tasks", run)
    return worked
