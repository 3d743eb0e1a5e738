"""Writing the exact inputs of a protocol, so that other programs can be run on them."""

import shlex
import sys
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from blinddiff.degradation.kernels.files import write_kernel
from blinddiff.errors import BlindDiffError, OutputError
from blinddiff.evaluation.cases import Case, bytes_of
from blinddiff.evaluation.data import data_root
from blinddiff.evaluation.protocols import protocol
from blinddiff.evaluation.records import write_text
from blinddiff.evaluation.settings import Settings
from blinddiff.imaging import write_picture

README = """# Inputs of protocol {name}, x{scale}, seed {seed}

{degradation}.

- `LR/SET/IMAGE_INDEX.png`: what a method is given.
- `HR/SET/IMAGE.png`: ground truth, cropped to a multiple of the scale.
- `kernel/SET/IMAGE_INDEX_kernel.npy`: true blur kernel, for true convolution, index centre = LR pixel centre.

Put results in one folder as `SET/IMAGE_INDEX.png` (and kernels as `SET/IMAGE_INDEX_kernel.npy`), then
`blinddiff evaluate --protocol {name} --scale {scale} --seed {seed} {cases} --methods external --external FOLDER`,
with `--data` as for this export.
"""


def export(settings: Settings, folder: Path) -> tuple[int, list[str]]:
    """Write LR and HR images as PNG, kernels as .npy and a README; the methods of `settings` do not count.

    Returns the number of cases, and a line for each that could not be made. Raises ParameterError for missing data,
    OutputError if the folder cannot be written.
    """
    plan = protocol(settings.protocol, settings.scale)
    root = data_root(settings.data)
    references = [case for name in settings.sets for case in plan.references(root, name, settings.limit)]
    failures = []
    try:
        for place in (folder / part / name for part in ("LR", "HR", "kernel") for name in settings.sets):
            place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error})") from error
    for reference in tqdm(references, unit="case", disable=not sys.stderr.isatty()):
        try:
            case = plan.make(reference, settings.seed)
        except BlindDiffError as error:
            failures.append(f"{reference.place}: {error}")
        else:
            _write(case, folder)
    cases = f"--sets {shlex.join(settings.sets)}" + ("" if settings.limit is None else f" --limit {settings.limit}")
    readme = README.format(
        name=plan.name, scale=plan.scale, seed=settings.seed, degradation=plan.degradation, cases=cases
    )
    write_text(folder / "README.md", readme)
    return len(references) - len(failures), failures


def _write(case: Case, folder: Path) -> None:
    set_name, stem = case.place.set, case.place.stem
    write_picture(folder / "LR" / set_name / f"{stem}.png", Image.fromarray(bytes_of(case.y)))
    if case.hr is not None:
        write_picture(folder / "HR" / set_name / f"{case.place.name}.png", Image.fromarray(bytes_of(case.hr)))
    if case.kernel_at_pixel_centre is not None:
        write_kernel(folder / "kernel" / set_name / f"{stem}_kernel.npy", case.kernel_at_pixel_centre)
