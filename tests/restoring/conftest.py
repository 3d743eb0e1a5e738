"""Folders of small photographs, and a run over them without processes of its own."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blinddiff.errors import BlindDiffError
from blinddiff.restoring.file import FileRestorer
from blinddiff.restoring.photograph import Done, RestoreSettings
from blinddiff.restoring.plan import Job
from blinddiff.restoring.pool import Failed


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
        jobs: Sequence[Job], settings: RestoreSettings, processes: int, threads: int
    ) -> Iterator[tuple[Job, Done | Failed]]:
        upscaler = FileRestorer(settings)
        for job in jobs:
            worked.append(job.name)
            try:
                yield job, upscaler(job)
            except BlindDiffError as error:
                yield job, Failed(str(error))

    monkeypatch.setattr("blinddiff.restoring.folder.run_jobs", run)
    return worked
