"""Protocols with stored images or kernels: DIV2KRK, pairs of photographs, photographs without truth, camera shake."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from blinddiff.degradation.resize import Decimate
from blinddiff.errors import ImageError, ParameterError
from blinddiff.evaluation.data import (
    Array,
    Case,
    CaseReference,
    as_convolution,
    crop_to_multiple,
    degrade_as_div2krk,
    images_in,
    images_named,
    images_of,
    read_pixels,
    read_stored_kernel,
    shifted_kernel,
)
from blinddiff.evaluation.protocol import ComputedProtocol, Parameter, Protocol


class LevinProtocol(ComputedProtocol):
    """Eight stored kernels of real camera shake, without and with noise. They are convolved as they are stored."""

    noise_levels = (0.0, 2.55)  # 1 % of the range, as in deblurring papers

    @property
    def labels(self) -> Sequence[str]:
        return [f"noise {noise:g}, k{number}" for noise in self.noise_levels for number in range(1, 9)]

    def parameter(self, reference: CaseReference) -> Parameter:
        noise, kernel = divmod(reference.id.parameter, 8)
        stored = read_stored_kernel(self._kernel_file(reference), f"k{kernel + 1}")
        kernel_as_stored = torch.from_numpy(stored).float()
        return Parameter(self.labels[reference.id.parameter], kernel_as_stored, self.noise_levels[noise])

    def files(self, reference: CaseReference) -> list[Path]:
        """The image and the file of the kernels."""
        return [reference.source, self._kernel_file(reference)]

    def _kernel_file(self, reference: CaseReference) -> Path:
        return reference.source.parents[1] / "kernels" / "levin09.npz"


class RealProtocol(Protocol):
    """Photographs as they are, without ground truth."""

    labels = ("as found",)
    left_out: ClassVar = {"RealSRSet": ("butterfly", "ppt3")}  # clean copies of images of Set5 and Set14

    def images(self, root: Path, set_name: str) -> list[Path]:
        return [path for path in images_of(root, set_name) if path.stem not in self.left_out.get(set_name, ())]

    def make(self, reference: CaseReference, seed: int) -> Case:
        method_seed = self.random_seed(reference, seed, "method")
        return Case(reference.id, self.scale, None, read_pixels(reference.source), None, None, method_seed)


class RealPairsProtocol(Protocol):
    """Pairs of photographs with a long and a short focal length, registered: ``HR/NAME`` and ``LR/NAME``."""

    labels = ("as found",)
    crop = 0

    def images(self, root: Path, set_name: str) -> list[Path]:
        images_of(root, set_name, "LR")  # raises if there are none
        return images_of(root, set_name, "HR")

    def files(self, reference: CaseReference) -> list[Path]:
        """HR image, and LR image if it is not missing."""
        return [reference.source, *images_named(reference.id.name, reference.source.parents[1] / "LR")]

    def make(self, reference: CaseReference, seed: int) -> Case:
        hr, y = _read_pair(reference.source, reference.source.parents[1] / "LR", self.scale)
        method_seed = self.random_seed(reference, seed, "method")
        return Case(reference.id, self.scale, hr, y, None, None, method_seed, crop=self.crop)


class Div2krkProtocol(Protocol):
    """The stored LR images and kernels of DIV2KRK."""

    labels = ("stored kernel",)

    def images(self, root: Path, set_name: str) -> list[Path]:
        files = images_of(root, set_name, "gt")
        images_of(root, set_name, f"lr_x{self.scale}")  # raises if there are none
        return files

    def files(self, reference: CaseReference) -> list[Path]:
        """HR image, LR image (left out if it is missing) and kernel."""
        home, name = reference.source.parents[1], reference.id.name
        kernel_file = home / f"gt_k_x{self.scale}" / f"kernel_{name.rpartition('_')[2]}.mat"
        return [reference.source, *images_named(name, home / f"lr_x{self.scale}"), kernel_file]

    def make(self, reference: CaseReference, seed: int) -> Case:
        """Read a case. Raises ImageError or KernelError if a file is missing or damaged."""
        stored = read_stored_kernel(self.files(reference)[-1])
        hr, y = _read_pair(reference.source, reference.source.parents[1] / f"lr_x{self.scale}", self.scale)
        return self._case(reference, seed, hr, y, stored)

    def _case(self, reference: CaseReference, seed: int, hr: Tensor | None, y: Tensor, stored: Array) -> Case:
        method_seed = self.random_seed(reference, seed, "method")
        kernel, centred = as_convolution(shifted_kernel(stored, self.scale)), as_convolution(stored)
        return Case(reference.id, self.scale, hr, y, kernel, 0.0, method_seed, Decimate(0), centred)


class Div2krkKernelsProtocol(Div2krkProtocol):
    """Every stored kernel of DIV2KRK, also those whose image is not in the folder; only kernels are measured.

    A kernel degrades its own image, or one of the images that are there, in turn.
    """

    def images(self, root: Path, set_name: str) -> list[Path]:
        """The files of the kernels. Raises ParameterError if there are none."""
        images_of(root, set_name, "gt")  # raises if there are none
        folder = root / set_name / f"gt_k_x{self.scale}"
        files = sorted(folder.glob("kernel_*.mat"), key=lambda path: int(path.stem.rpartition("_")[2]))
        if not files:
            raise ParameterError(f"{folder}: no kernels; it should hold kernel_N.mat")
        return files

    def files(self, reference: CaseReference) -> list[Path]:
        """HR image and kernel."""
        home, number = reference.source.parents[1], reference.id.name.rpartition("_")[2]
        own, others = images_named(f"im_{number}", home / "gt"), images_in(home / "gt")
        return [own[0] if own else others[int(number) % len(others)], reference.source]

    def make(self, reference: CaseReference, seed: int) -> Case:
        hr_file, kernel_file = self.files(reference)
        stored, hr = read_stored_kernel(kernel_file), crop_to_multiple(read_pixels(hr_file), self.scale)
        return self._case(reference, seed, None, degrade_as_div2krk(hr, stored, self.scale), stored)


def _read_pair(hr_file: Path, lr_folder: Path, scale: int) -> tuple[Tensor, Tensor]:
    """HR image and the LR image of the same name. Raises ImageError if it is missing or has not 1/scale of the size."""
    lr_files = images_named(hr_file.stem, lr_folder)
    if not lr_files:
        raise ImageError(f"{lr_folder / hr_file.stem}: the LR image is missing")
    hr, y = read_pixels(hr_file), read_pixels(lr_files[0])
    if tuple(hr.shape[-2:]) != tuple(side * scale for side in y.shape[-2:]):
        raise ImageError(f"{lr_files[0]}: {y.shape[-1]}x{y.shape[-2]} is not 1/{scale} of {hr_file.name}")
    return hr, y
