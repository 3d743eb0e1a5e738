"""Write docs/reliability.md from the measurements of the long tests: `python scripts/reliability_page.py`."""

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

The table lists the guarantees of the package. For each guarantee, it gives the tests that check it, and the latest measurement from
`results/reliability/`. `python scripts/reliability_page.py` writes this page, and a test checks that it is up to date. Do not edit it.
`make test` runs the short tests; `make test-long` runs the others and renews the measurements. "None" means that the tests only pass or
fail.

| guarantee | tests (in `tests/`) | measurement |
|---|---|---|
| A file is written completely or not at all. It gets its name only when its content is on the disk | `reliability/test_kill.py` | {kills} |
| An interrupted folder run can be resumed. Finished files (identified by content) are skipped, and the result equals that of an uninterrupted run | `reliability/test_kill.py`, `restoring/test_folder.py` | {resumed} |
| After Ctrl-C, once or twice, the command prints one line and exits with code 130. It leaves no partial files and no running processes | `reliability/test_abuse.py`, `restoring/test_folder.py`, `restoring/test_pool.py` | none |
| If a standard stream is closed, full or broken, the command either writes the photograph, or prints one line and exits with code 2 | `reliability/test_abuse.py` | none |
| The memory of a restoration does not grow with the result | `reliability/test_tiles.py` | {memory} |
| The result in tiles equals the result of the whole image, up to a small difference | `reliability/test_tiles.py`, `sampling/test_tiles.py` | {tiles} |
| Tiles leave no visible seams | `reliability/test_tiles.py`, `sampling/test_tiles.py` | {seam} |
| If memory runs out, the side of the tiles is halved and the run continues | `sampling/test_tiles.py` | none |
| A damaged file is either refused with a one-line error, or its readable part is read | `reliability/test_fuzz.py` | {fuzz} |
| For decompression bombs, impossible sizes, full disks, missing permissions, link loops and undecodable file names, the command prints one line and exits with code 2 | `reliability/test_abuse.py` | none |
| For any image shape and any setting, the result is an image of the right size or a one-line error | `reliability/test_properties.py` | none |
| Loading weights runs no code. Only safetensors files, or `.pth` files with `weights_only=True`, are loaded. Names and shapes are compared with config.json before memory is allocated. Values must be finite | `published/test_checkpoints.py`, `sampling/test_loading.py` | none |
| Bits, alpha, colour profile, EXIF, XMP, IPTC, texts and dots per inch are kept if the format supports them; a message names the others | `reliability/test_formats_page.py`, `imaging/test_words.py` | [formats](formats.md) |

## Memory

`--max-memory 2G` (`max_memory` of the pipeline, in bytes) limits the memory that the restoration needs in addition to the program
and its weights. The default is half of the free memory of the device or container.

- An image that fits into this memory is restored as a whole. A larger image is restored in tiles. The side of a tile is at least
  {side} pixels of the result.
- All tiles use the same kernel and noise level, and parts of the same noise. The x0_hat of neighbouring tiles are blended with cosine
  ramps at every step.
- If the limit is too small for the image buffers and one tile of {side} pixels, the buffers go to files without a name in `TMPDIR`, or
  else in `/var/tmp`. The operations and the results are the same, and the files vanish with the result or the process. On a
  GPU, the buffers stay in its memory. The image steps `gradient` and `published` transform whole images, in memory.
- If the limit is too small even for one tile, the restoration exceeds it.
- Only the restoration is bounded. A file of the result is made in memory, with 3 to 12 bytes per pixel, depending on format and bits.
- If torch reports that memory ran out, the side of the tiles is halved and the step is repeated. Linux may kill the process before
  torch can report this. In this case, set `--max-memory` to a smaller value.
- Files that are restored in parallel share the limit.

The image buffers need {images} times the memory of the result in 32-bit floats. `sampling/memory.py` contains the measured memory of a
tile per pixel. The image steps `gradient` and `published` differentiate through the whole image. Their network calls are repeated tile by
tile for the gradient, so only the image buffers grow with the image.

The result in tiles differs slightly from that of the whole image, because the network's channel attention depends on its whole input.
The table gives the difference for the included weights. The difference is larger for smaller tiles. It is also larger for given kernels
that are wide and have sharp edges, such as a disk of 61 pixels: the inverse of such a kernel rings further than the tiles overlap.

The kernel and the noise level are estimated once for all tiles. For images of up to 1024 x 1024 input pixels, the estimate uses the whole
image. For larger images, it uses the same number of pixels, from the windows with the highest gradient energy. Each tile proposes a
correction of the kernel; the corrections are averaged with the gradient energy of the tiles as weights.

## Parallel files

`--jobs` sets how many files are restored in parallel. By default, a CPU restores one file per two threads, at most four. An accelerator
restores two files, so that one is read and written while the other is computed. This default was not tuned by measurement.
"""


def make_page() -> str:
    """The text of the page."""
    from blinddiff.sampling.memory import IMAGES
    from blinddiff.sampling.wrappers import MIN_PLANNED_SIDE

    figures = {
        name: NONE if (found := noted(name)) is None else say(found)
        for name, say in (("kills", _kills), ("memory", _memory), ("tiles", _tiles), ("seam", _seam))
    }
    resumed = NONE if figures["kills"] == NONE else "the same runs"
    return TEXT.format(**figures, resumed=resumed, fuzz=_fuzz(), images=IMAGES, side=MIN_PLANNED_SIDE)


def _kills(found: dict[str, Any]) -> str:
    return (
        f"a run over {found['files']} files was killed {found['kills']} times by SIGKILL at random moments, and resumed "
        "each time: no error"
    )


def _memory(found: dict[str, Any]) -> str:
    small, large = (found[side]["peak"] for side in ("2048", "4096"))
    return (
        f"at most {large / MIB:.0f} MiB for 4096 x 4096, {small / MIB:.0f} MiB for 2048 x 2048 "
        f"(tiny network, smallest tile): ratio {large / small:.2f} (limit 1.3)"
    )


def _tiles(found: dict[str, Any]) -> str:
    height, width = found["result"]
    return f"difference of {found['rms']:.2f} grey levels RMS for {width} x {height} in tiles of {found['side']} (limit 0.5)"


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
