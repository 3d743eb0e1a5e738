"""Results of another program, read from a folder: image files, and kernels if there are any."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from blinddiff.degradation.kernels import KERNEL_ENDINGS, read_kernel
from blinddiff.errors import ImageError
from blinddiff.evaluation.cases import Case
from blinddiff.evaluation.data import SUFFIXES, read_pixels
from blinddiff.evaluation.restoration import Restoration

# A picture beside a result may be one for people.
KERNEL_SUFFIXES = tuple(ending for ending in KERNEL_ENDINGS if ending != ".png")


@dataclass(frozen=True)
class ExternalMethod:
    """Reads ``FOLDER/Set14/comic_3.png`` for case Set14/comic/3, and ``comic_3_kernel.npy`` beside it if it is there.

    These are the names that ``--export`` gives to the LR images.
    """

    folder: Path

    @property
    def name(self) -> str:
        """As the folder is called."""
        return f"external:{self.folder.name}"

    @property
    def parameters(self) -> None:
        """See `Method.parameters`."""
        return

    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        """See `Method.restore`. Raises ImageError naming the file if it is missing, corrupt or of another size."""
        stem = case.place.stem
        place = self.folder / case.place.set
        found = [place / (stem + suffix) for suffix in SUFFIXES if (place / (stem + suffix)).is_file()]
        if not found:
            raise ImageError(f"{place / (stem + '.png')}: no such image")
        image = read_pixels(found[0])
        height, width = y.shape[-2] * scale, y.shape[-1] * scale
        if tuple(image.shape[-2:]) != (height, width):
            raise ImageError(f"{found[0]}: is {image.shape[-1]}x{image.shape[-2]}, not {width}x{height}")
        kernels = [place / f"{stem}_kernel{suffix}" for suffix in KERNEL_SUFFIXES]
        kernel = next((read_kernel(path) for path in kernels if path.is_file()), None)
        return Restoration(image, kernel, None, float("nan"), 0)
