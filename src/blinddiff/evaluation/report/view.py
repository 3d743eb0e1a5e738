"""What a report shows of one restoration: little enough to be kept, or sent by another process."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff.evaluation.cases import Case, Restoration, bytes_of

CROP = 96  # HR pixels


@dataclass(frozen=True)
class View:
    """A part of a restored image.

    Arrays, not tensors: between processes, torch would hand over memory that ends with the process it came from.

    Attributes:
        crop: `crop_of` the image.
        kernel: estimated kernel (kh, kw) in HR pixels, float32, or None.
    """

    crop: npt.NDArray[np.uint8]
    kernel: npt.NDArray[Any] | None


def view_of(case: Case, restoration: Restoration) -> View:
    """What is shown of a case's restoration."""
    kernel = restoration.kernel
    return View(crop_of(case, restoration.image), None if kernel is None else kernel.cpu().float().numpy())


def crop_of(case: Case, image: Tensor) -> npt.NDArray[np.uint8]:
    """(3, H, W) in [0, 1] of the case's HR size -> at most `CROP` pixels each way, (h, w, 3).

    Where the true image has most structure; the input, where there is no true image.
    """
    side = CROP // case.scale * case.scale
    if case.hr is not None:
        top, left = busiest_window(case.hr, side, case.scale)
    else:
        top, left = (place * case.scale for place in busiest_window(case.y, side // case.scale, 1))
    return bytes_of(image.cpu()[:, top : top + side, left : left + side])


def busiest_window(image: Tensor, side: int, step: int) -> tuple[int, int]:
    """Top and left, multiples of `step`, of the window of `side` with most gradient energy in (3, H, W)."""
    grey = image.mean(0)
    energy = torch.zeros_like(grey)
    energy[:, 1:] += grey.diff(dim=1).square()
    energy[1:] += grey.diff(dim=0).square()
    height, width = (min(side, length) for length in grey.shape)
    sums = F.avg_pool2d(energy[None, None], (height, width), stride=step)[0, 0]
    place = int(sums.argmax())
    return place // sums.shape[1] * step, place % sums.shape[1] * step
