"""What an evaluation is asked for."""

from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from blinddiff.errors import BlindDiffError, ParameterError
from blinddiff.evaluation.methods import Options
from blinddiff.sampling.memory import is_lack_of_memory


@dataclass(frozen=True)
class Settings:
    """One evaluation.

    Attributes:
        protocol, scale: see `blinddiff.evaluation.protocols`.
        sets: test sets, folders of `data`.
        methods: see `blinddiff.evaluation.methods`; the first is what the others are compared with first.
        data: folder of test sets, None for the environment's.
        out: folder for the log, the record and the report.
        seed: of the degradations and of the methods.
        limit: evaluate the first images of each set only.
        workers: processes; 1 for this one alone.
        costs: measure memory, multiplications and parameters of each method, in a process for each.
        pictures: show chosen cases in `report.html`.
        command: how the user called it, for the record.

    Raises:
        ParameterError: fewer than one worker or one image.
    """

    protocol: str
    scale: int
    sets: tuple[str, ...]
    methods: tuple[str, ...]
    data: Path | None
    out: Path
    options: Options = field(default_factory=Options)
    seed: int = 0
    limit: int | None = None
    workers: int = 1
    costs: bool = True
    pictures: bool = True
    command: str = ""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ParameterError(f"workers {self.workers}: at least 1 is accepted")
        if self.limit is not None and self.limit < 1:
            raise ParameterError(f"limit {self.limit}: at least 1 image is accepted")


NO_MEMORY = "memory has run out"


def excuse(error: Exception) -> str | None:
    """One line for bad input, for want of memory, and for a process that was ended for it; None for a bug."""
    if isinstance(error, BlindDiffError):
        return str(error)
    return NO_MEMORY if isinstance(error, BrokenProcessPool) or is_lack_of_memory(error) else None
