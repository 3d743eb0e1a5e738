"""What a metric is: a name, a unit and a function of a case and its restoration."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from blinddiff.errors import ImageError
from blinddiff.evaluation.cases import Case, to_8bit
from blinddiff.evaluation.restoration import Restoration


@dataclass(frozen=True)
class Sample:
    """A case with its restoration: what a metric may look at."""

    case: Case
    restoration: Restoration

    def __post_init__(self) -> None:
        height, width = (side * self.case.scale for side in self.case.y.shape[-2:])
        if tuple(self.restoration.image.shape) != (3, height, width):
            got = "x".join(map(str, reversed(self.restoration.image.shape[-2:])))
            raise ImageError(f"{self.case.place}: the result is {got}, not {width}x{height}")

    @cached_property
    def image(self) -> Tensor:
        """The restored image as an 8-bit file would hold it, float64 in [0, 1]: what a user gets is measured."""
        return to_8bit(self.restoration.image.double().cpu())

    @cached_property
    def reference(self) -> Tensor | None:
        """The ground truth, float64 in [0, 1]."""
        return None if self.case.hr is None else self.case.hr.double()


@dataclass(frozen=True)
class Metric:
    """A number for each restoration.

    Attributes:
        name: key in records, lower case.
        label: heading in tables.
        unit: what one step of it means; empty for a pure number.
        higher_is_better: which direction is good, None for a number that only stands beside another one.
        digits: decimals in tables.
        measure: the value, or None where the metric does not apply (no ground truth, no estimated kernel, ...).
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool | None
    digits: int
    measure: Callable[[Sample], float | None]
