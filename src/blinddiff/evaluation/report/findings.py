"""All that a report is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blinddiff.evaluation.cases import Protocol
from blinddiff.evaluation.records import ImageResult
from blinddiff.evaluation.report.showcase import Showcase
from blinddiff.evaluation.statistics import SetSummary


@dataclass(frozen=True)
class Findings:
    """What an evaluation came to.

    Attributes:
        summaries: one a test set.
        results: all single results, those with an error too.
        image_counts: images of each set that at least one method has a result for.
        costs: as `costs.measure_costs` gives them, or empty.
        showcase: pictures of chosen cases.
        record: what `record.json` holds beside the results: versions, seeds, checksums.
    """

    protocol: Protocol
    methods: Sequence[str]
    summaries: Sequence[SetSummary]
    results: Sequence[ImageResult]
    image_counts: Mapping[str, int]
    costs: Mapping[str, Any]
    showcase: Showcase
    record: Mapping[str, Any]

    @property
    def failures(self) -> list[ImageResult]:
        """What could not be evaluated."""
        return [result for result in self.results if result.error is not None]
