"""Writing the exact inputs of a protocol, so that other programs can be run on them."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from blinddiff.degradation.kernels.files import write_kernel
from blinddiff.errors import OutputError
from blinddiff.evaluation.cases import Case, bytes_of

README = """# Inputs of protocol {name}, x{scale}, seed {seed}

{degradation}.

- `LR/SET/IMAGE_INDEX.png`: what a method is given.
- `HR/SET/IMAGE.png`: ground truth, cropped to a multiple of the scale.
- `kernel/SET/IMAGE_INDEX_kernel.npy`: true blur kernel, for true convolution, index centre = LR pixel centre.

Put results in one folder as `SET/IMAGE_INDEX.png` (and kernels as `SET/IMAGE_INDEX_kernel.npy`), then
`blinddiff evaluate --protocol {name} --scale {scale} --seed {seed} --methods external --external FOLDER`.
"""


def export_cases(cases: Iterable[Case], folder: Path) -> int:
    """Write LR and HR images as PNG and kernels as .npy; returns the number of cases. Raises OutputError."""
    count = 0
    for case in cases:
        stem = f"{case.name}_{case.index}"
        try:
            for part in ("LR", "HR", "kernel"):
                (folder / part / case.set).mkdir(parents=True, exist_ok=True)
            Image.fromarray(bytes_of(case.y)).save(folder / "LR" / case.set / f"{stem}.png")
            if case.hr is not None:
                Image.fromarray(bytes_of(case.hr)).save(folder / "HR" / case.set / f"{case.name}.png")
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written ({error.strerror or error})") from error
        if case.kernel_at_pixel_centre is not None:
            write_kernel(folder / "kernel" / case.set / f"{stem}_kernel.npy", case.kernel_at_pixel_centre)
        count += 1
    return count
