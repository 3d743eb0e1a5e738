"""Real photographs: nothing is known, so that only LR-consistency, the estimates and the eye can judge."""

from collections.abc import Sequence
from pathlib import Path

from blinddiff.evaluation.cases import Case, CaseReference, Place, case_seed
from blinddiff.evaluation.data import images_of, read_pixels
from blinddiff.evaluation.protocols.protocol import Protocol

NOT_REAL = {"RealSRSet": ("butterfly", "ppt3")}  # clean copies of Set5 and Set14 images


class Real(Protocol):
    """Images as they are; in RealSRSet two that are clean copies of other sets' images are left out."""

    name = "real"
    source = "K. Zhang et al., Designing a practical degradation model (BSRGAN), ICCV 2021, for RealSRSet"
    degradation = "none: photographs as found, no ground truth"
    scales = (1, 2, 3, 4)
    sets = ("RealSRSet",)
    truth = False

    @property
    def labels(self) -> Sequence[str]:
        """See `Protocol.labels`."""
        return ["as found"]

    def references(self, root: Path, set_name: str, limit: int | None = None) -> list[CaseReference]:
        """See `Protocol.references`."""
        left_out = NOT_REAL.get(set_name, ())
        files = [path for path in images_of(root, set_name) if path.stem not in left_out]
        return [CaseReference(Place(set_name, path.stem, 0), path) for path in files[:limit]]

    def make(self, reference: CaseReference, seed: int) -> Case:
        """See `Protocol.make`."""
        return Case(
            place=reference.place,
            scale=self.scale,
            hr=None,
            y=read_pixels(reference.source),
            kernel=None,
            noise_level=None,
            seed=case_seed(self.name, self.scale, reference.place, seed, "method"),
        )
