"""Make docs/reliability.md from the measurements of the long tests: `python scripts/reliability_page.py`."""

# ruff: noqa: E501 - rows of a Markdown table cannot be broken

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "reliability"))
from figures import noted  # noqa: E402 - of the tests

PAGE = ROOT / "docs" / "reliability.md"
NONE = "not recorded yet"
MIB = 2**20

TEXT = """# Reliability

Each guarantee, the test that checks it, and the latest measurement in `results/reliability/`. `python scripts/reliability_page.py`
makes this page from these files, and a test checks that it is up to date. Do not edit it. `make test` runs the short tests;
`make test-long` runs the others and renews the measurements.

| guarantee | test (below `tests/`) | measurement |
|---|---|---|
| A file is written completely or not at all; it gets its name only when it is on the disk | `reliability/test_kill.py` | {kills} |
| An interrupted folder run resumes: finished files (identified by content) are skipped, and the result equals that of an uninterrupted run | `reliability/test_kill.py`, `restoring/test_folder.py` | {resumed} |
| Ctrl-C, once or twice, ends in one line and exit code 130, without partial files or running processes | `reliability/test_abuse.py`, `restoring/test_folder.py`, `restoring/test_pool.py` | pass or fail |
| Closed, full or broken standard streams: the photograph is written, or one line and exit code 2 | `reliability/test_abuse.py` | pass or fail |
| Memory beyond the image buffers does not grow with the image | `reliability/test_tiles.py` | {memory} |
| Tiles give the same result as the whole image | `reliability/test_tiles.py`, `sampling/test_tiles.py` | {tiles} |
| Tiles leave no seams | `reliability/test_tiles.py`, `sampling/test_tiles.py` | {seam} |
| If memory runs out, the tiles are halved and the run continues | `sampling/test_tiles.py` | pass or fail |
| A damaged file is refused in one line, or read as far as it is an image | `reliability/test_fuzz.py` | {fuzz} |
| Decompression bombs, impossible sizes, full disks, missing permissions, link loops, undecodable file names: one line, exit code 2 | `reliability/test_abuse.py` | pass or fail |
| Any shape and any setting give an image of the right size, or one line | `reliability/test_properties.py` | pass or fail |
| Weights are data. Only safetensors or `weights_only=True` are loaded, and no code in a checkpoint runs. Names and shapes are compared with config.json before memory is allocated. Values must be finite | `published/test_checkpoints.py`, `sampling/test_loading.py` | pass or fail |
| Bits, alpha, colour profile, EXIF and XMP are kept if the format supports them | `reliability/test_formats_page.py` | [formats](formats.md) |

## Memory

`--max-memory 2G` (`max_memory` of the pipeline, in bytes) limits the memory that the restoration needs in addition to the program
and its weights. The default is half of the free memory of the device or container.

- An image that fits is restored whole. A larger one is restored in tiles of at least {side} pixels of the result.
- Tiles share the noise, the kernel and the noise level. x0_hat is blended with cosine ramps at every step, not only at the end.
- If the limit is too small for the image buffers and one such tile, it is exceeded.
- If torch reports that memory ran out, the tiles are halved and the step starts again. Linux may end the process instead
  of reporting; then set `--max-memory`.
- Files that are restored in parallel share the limit.

The image buffers are {images} times the result in 32-bit floats. `sampling/memory.py` contains the measured cost of a tile per
pixel. The `gradient` and `published` image steps differentiate through the whole image: their network calls are repeated tile by
tile for the gradient, so only the image buffers grow.

Tiles differ slightly from the whole image, because the network's channel attention depends on everything it sees. The table has
the difference for the shipped weights. It grows for smaller tiles. It is also larger for a given kernel that is wide and
sharp-edged, such as a disk of 61 pixels: its inverse rings further than the tiles overlap.

Kernel and noise level are estimated once. Up to 1024 x 1024 input pixels, the whole image is used; beyond that, as many pixels
from the windows with the highest gradient energy. When the tiles correct the shared kernel, each is weighted by its gradient energy.

## Parallel files

`--jobs` sets how many files are restored in parallel. The default is one per two CPU threads, at most four; with an
accelerator two, so that one file is read and written while another is computed. This default was not tuned by measurement.
"""


def make_page() -> str:
    """The text of the page."""
    from blinddiff.sampling.memory import IMAGES
    from blinddiff.sampling.wrappers import MIN_PLANNED_SIDE

    figures = {
        name: NONE if (found := noted(name)) is None else say(found)
        for name, say in (("kills", _kills), ("memory", _memory), ("tiles", _tiles), ("seam", _seam))
    }
    resumed = NONE if figures["kills"] == NONE else "as above"
    return TEXT.format(**figures, resumed=resumed, fuzz=_fuzz(), images=IMAGES, side=MIN_PLANNED_SIDE)


def _kills(found: dict[str, Any]) -> str:
    return f"{found['kills']} SIGKILLs at random moments over {found['files']} files, then resumed: no error"


def _memory(found: dict[str, Any]) -> str:
    small, large = (found[side]["beyond"] for side in ("2048", "4096"))
    return (
        f"{large / MIB:.0f} MiB beyond the buffers for 4096 x 4096, {small / MIB:.0f} MiB for 2048 x 2048 "
        f"(tiny network, smallest tile): ratio {large / small:.2f} (limit 1.3)"
    )


def _tiles(found: dict[str, Any]) -> str:
    height, width = found["result"]
    return f"{found['rms']:.2f} grey levels RMS, {width} x {height} in tiles of {found['side']} (limit 0.5)"


def _seam(found: dict[str, Any]) -> str:
    return (
        f"the mean step between neighbouring pixels, {found['steps']:.1f} grey levels, differs by {found['levels']:.2f} at "
        "tile borders (limit 1)"
    )


def _fuzz() -> str:
    runs = [found for seed in range(6) if (found := noted(f"fuzz-{seed}")) is not None]
    if not runs:
        return NONE
    read, refused = (sum(run[name] for run in runs) for name in ("read", "refused"))
    grown, slowest = (max(run[name] for run in runs) for name in ("grown_mib", "slowest"))
    return (
        f"{read + refused:,} mutations of {runs[0]['files']} files: {read:,} read, {refused:,} refused, no crash; "
        f"memory grew by {grown:.0f} MiB, the slowest took {slowest:.2f} s"
    )


if __name__ == "__main__":
    PAGE.write_text(make_page(), encoding="utf-8")
