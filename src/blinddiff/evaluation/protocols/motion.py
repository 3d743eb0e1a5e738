"""Motion blur and defocus: kernels that no Gaussian describes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from blinddiff.degradation.kernels.disk import Disk
from blinddiff.degradation.kernels.family import KernelFamily
from blinddiff.degradation.kernels.motion import CameraShake, LineMotion
from blinddiff.evaluation.protocols.synthetic import SyntheticProtocol

KERNEL_SIZE = 31
FAMILIES: tuple[tuple[str, KernelFamily], ...] = (
    ("camera shake", CameraShake()),
    ("camera shake, another", CameraShake()),
    ("straight motion", LineMotion(min_length=4.0)),
    ("disk", Disk()),
)


class Motion(SyntheticProtocol):
    """Four random kernels an image: two camera shakes, a straight motion, a disk."""

    name = "motion"
    source = "this package (random kernels of its own families, fixed seeds)"
    degradation = "camera shake, straight motion and disk blur within 31x31, antialiased bicubic downsampling, 8 bit"
    scales = (2, 3, 4)
    sets = ("Set5", "Set14")

    @property
    def labels(self) -> Sequence[str]:
        """See `Protocol.labels`."""
        return [label for label, _ in FAMILIES]

    def kernel(self, index: int, generator: torch.Generator) -> Tensor:
        """See `SyntheticProtocol.kernel`."""
        return FAMILIES[index][1].sample(1, self.scale, KERNEL_SIZE, generator)[0]
