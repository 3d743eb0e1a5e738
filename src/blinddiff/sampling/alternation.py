"""Kernel step `alternate`: the kernel of a camera shake, from its spectrum, its phase and the sparsity of edges.

The spectrum of y gives |K(f)|, and phase retrieval kernels with this |K|, see `KernelSpectrum` and `retrieve_kernels`.
All of them and their mirror images explain y equally well, but restored with the wrong one, every edge has an echo. So
the kernel with the sparsest edges is taken, if they are clearly sparser than with its own mirror image, and not less
sparse than with the estimator's kernel. With a symmetric kernel they are not, and there the estimator's is better.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from blinddiff.degradation import Degradation, Observation
from blinddiff.degradation.observation import HALF_TURN, dihedral
from blinddiff.models.picture_kind import PICTURE_KINDS, PictureKind
from blinddiff.sampling.decision import SHAKEN, Decision
from blinddiff.sampling.kernel_steps import fixed
from blinddiff.sampling.output import BlindDiffOutput
from blinddiff.sampling.restoration import Restoration
from blinddiff.sampling.safety import merged

COMPARED = 8
"""Retrieved kernels of each picture that are compared, those with the smallest misfits, each with its mirror image."""
FAINT_EDGE = 2e-3
"""Added to the differences of neighbouring pixels, in [0, 1], inside the logarithm."""
MIN_GAP = 0.005
"""Least difference of `edge_sparsity` from the mirror image for which a retrieved kernel is taken: with Gaussian, disk
and straight kernels it was at most 0.006, with shaken ones up to 0.05."""
MAX_LOSS = 0.02
"""By how much the edges may be less sparse than with the estimator's kernel: with a sharp picture it is 0.3."""

Usual = Callable[[Observation, Sequence[int]], BlindDiffOutput]
"""Restores observations without this step. The numbers are those of the images in the batch."""


@dataclass(frozen=True)
class Shake:
    """The best retrieved kernels.

    Attributes:
        kernel: in HR pixels, (B, n, n).
        gap: by how much the edges are sparser than with the mirror image, (B,).
        gain: the same for the kernel of the estimator, (B,).
    """

    kernel: Tensor
    gap: Tensor
    gain: Tensor

    @property
    def is_clear(self) -> Tensor:
        """Whether each is to be preferred to the estimate, (B,)."""
        return (self.gap > MIN_GAP) & (self.gain > -MAX_LOSS)


def find_shake(network: Any, observation: Observation, estimate: Degradation) -> Shake | None:
    """The retrieved kernel with the sparsest edges; None if the network retrieves none.

    estimate: that of the network from y.
    """
    retrieved = network.shaken_kernels(observation, estimate.noise_level)
    if retrieved is None:
        return None
    some = retrieved[:, :COMPARED]
    candidates = torch.cat([some, dihedral(some, HALF_TURN)], 1).unbind(1)
    images = (replace(estimate, kernel=kernel).closed_form(observation) for kernel in candidates)
    sparsity = torch.stack([edge_sparsity(image) for image in images], 1)
    best = sparsity.argmin(1)
    mirrored = (best + COMPARED) % (2 * COMPARED)
    rows = torch.arange(len(best), device=best.device)
    least = sparsity[rows, best]
    gain = edge_sparsity(estimate.closed_form(observation)) - least
    return Shake(torch.stack(candidates, 1)[rows, best], sparsity[rows, mirrored] - least, gain)


def edge_sparsity(images: Tensor) -> Tensor:
    """The mean log of the absolute differences of neighbouring pixels of luma, (B, C, H, W) -> (B,): low is sparse."""
    luma = images.mean(1)
    steps = torch.cat([luma.diff(dim=axis).flatten(1) for axis in (-2, -1)], 1).abs()
    return (steps + FAINT_EDGE).log().mean(1)


def restore_shaken(
    run: Restoration, usual: Usual, observation: Observation, estimate: Degradation, kind: PictureKind | None
) -> BlindDiffOutput:
    """Restore each picture with its retrieved kernel, which is kept, or as usual where that is not clear.

    estimate: of the observation. kind: of the pictures; None if no decisions are wanted.
    """
    shake = find_shake(run.network, observation, estimate)
    if shake is None or not bool(shake.is_clear.any()):
        return usual(observation, range(len(observation)))
    keeping = replace(run, update_kernel=fixed)
    outs = []
    for index, is_clear in enumerate(shake.is_clear.tolist()):
        one, its_estimate = observation[[index]], estimate[[index]]
        if is_clear:
            kernel = its_estimate.with_estimate(shake.kernel[[index]], its_estimate.noise_level)
            decided = None if kind is None else [_as_shaken(kind, index)]
            outs.append(replace(keeping(one, kernel, [index]), decisions=decided))
        else:
            outs.append(usual(one, [index]))
    return merged(outs)


def _as_shaken(kind: PictureKind, index: int) -> Decision:
    probability, place = kind.probabilities[index].max(0)
    return Decision(PICTURE_KINDS[int(place)], float(probability), 1.0, SHAKEN)
