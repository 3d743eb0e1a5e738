"""What a protocol is: which images, which degradations, and from which paper."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from blinddiff.errors import ParameterError
from blinddiff.evaluation.cases import Case, CaseReference


class Protocol(ABC):
    """A declared way of making test images, at one scale. The same seed gives the same cases, whatever is left out.

    Attributes:
        name: as the command line calls it.
        source: where it comes from.
        degradation: one sentence that says it all.
        scales: the scales it is defined for.
        sets: the test sets it is usually run on.
        truth: whether the true image and kernel are known.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    degradation: ClassVar[str]
    scales: ClassVar[tuple[int, ...]]
    sets: ClassVar[tuple[str, ...]]
    truth: ClassVar[bool] = True

    def __init__(self, scale: int) -> None:
        if scale not in self.scales:
            accepted = ", ".join(map(str, self.scales))
            raise ParameterError(f"scale {scale}: protocol {self.name} is defined for {accepted}")
        self.scale = scale

    @property
    @abstractmethod
    def labels(self) -> Sequence[str]:
        """What each parameter index stands for, as in ``sigma 1.8``."""

    @abstractmethod
    def references(self, root: Path, set_name: str, limit: int | None = None) -> list[CaseReference]:
        """All cases of a set, or those of its first `limit` images. Raises ParameterError if the set is not there."""

    def files(self, reference: CaseReference) -> list[Path]:
        """The files that a case is made from."""
        return [reference.source]

    @abstractmethod
    def make(self, reference: CaseReference, seed: int) -> Case:
        """The case itself. Raises ImageError if its image cannot be read."""

    def describe(self) -> dict[str, str | int | list[str]]:
        """For records: all that the numbers depend on."""
        return {
            "name": self.name,
            "scale": self.scale,
            "degradation": self.degradation,
            "source": self.source,
            "parameters": list(self.labels),
        }
