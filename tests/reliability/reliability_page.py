"""Makes docs/reliability.md from the figures that the long tests left: `python reliability_page.py`."""

# ruff: noqa: E501 - rows of a Markdown table cannot be broken

from pathlib import Path
from typing import Any

from figures import noted

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
NONE = "not recorded yet"
MIB = 2**20

TEXT = """# Reliability

What is guaranteed, the test that checks it, and the figure that it last left in `results/reliability/`. Made from those
by `python tests/reliability/reliability_page.py`; a test compares. Do not edit. `make test` runs the short tests,
`make test-long` the others, which renew the figures.

| guaranteed | test (below `tests/`) | figure |
|---|---|---|
| A file appears whole or not at all, and under its own name only when it is on the disk | `reliability/test_kill.py` | {kills} |
| A folder that was broken off goes on: what is done, by content, is not done again, and ends as an unbroken run does | `reliability/test_kill.py`, `upscaling/test_folder.py` | {resumed} |
| Ctrl-C, also twice, ends in one line and exit code 130; no half file, no process is left | `reliability/test_abuse.py`, `upscaling/test_folder.py`, `upscaling/test_workers.py` | pass or fail |
| Standard streams that are closed, full or broken: the photograph is written, or one line and exit code 2 | `reliability/test_abuse.py` | pass or fail |
| Memory does not grow with the image beyond the images themselves | `reliability/test_tiles.py` | {memory} |
| Tiles give what the whole gives | `reliability/test_tiles.py`, `sampling/test_tiles.py` | {tiles} |
| Tiles show no seam | `reliability/test_tiles.py`, `sampling/test_tiles.py` | {seam} |
| Running out of memory halves the tiles, and goes on | `sampling/test_tiles.py` | pass or fail |
| A damaged file is refused in one line, or read as the image that it still is | `reliability/test_fuzz.py` | {fuzz} |
| Bombs, impossible sizes, full disks, missing permission, loops, names that are no text: one line, exit code 2 | `reliability/test_abuse.py` | pass or fail |
| Any shape and any setting end in an image of the right size or one line | `reliability/test_properties.py` | pass or fail |
| Weights are data: safetensors, or `weights_only=True`; code in a checkpoint is not run; names and shapes are compared with config.json before anything of its size is made; values must be finite | `models/test_published.py`, `sampling/test_loading.py` | pass or fail |
| What a format can hold is kept: bits, alpha, profile, EXIF, XMP | `reliability/test_formats_page.py` | [formats](formats.md) |

## Memory

`--max-memory 2G` (`max_memory` of the pipeline, in bytes) bounds what the restoration takes beside the program and its
weights; where nothing is said it is half of what is free, on the device or in the container. An image that fits goes
through whole. A larger one goes through in tiles of at least {side} pixels of the result: they share the noise, the kernel
and the noise level, and x0_hat is blended with cosine ramps at every step, not when all is done. A limit too small for the
images themselves and one such tile is exceeded by as much as they need. Where torch says that there is no memory left, the
tiles are halved and the step begins anew; on Linux, where the system ends a process instead of saying so, `--max-memory`
is what helps. Several files side by side share the limit.

The images themselves are {images} of the result's size in 32-bit floats. What a tile costs for each pixel is in
`sampling/memory.py`, as measured. The `gradient` and `published` image steps reach through the whole image: their network
calls are done again tile by tile for the gradient, and only the images grow.

Tiles are not quite the whole: the network's attention weighs channels by all that it sees, and a tile shows it less.
With the weights of the package the difference is the figure above; it grows as tiles shrink. It is larger, too, with a given
kernel of wide and sharp edges, such as a disk of 61 pixels: undoing it ripples further than tiles overlap.

The kernel and the noise level are estimated once, from the whole image up to 1024 x 1024 pixels of the input, beyond that
from as many pixels in the windows with most gradient energy. At each step, a tile's say in the shared kernel is its
gradient energy.

How many files are done side by side is `--jobs`: one for every two threads of the processor, four at most, and two where
there is an accelerator, so that one reads and writes while the other computes. That is a choice, not a measurement.
"""


def make_page() -> str:
    """The page's text."""
    from blinddiff.sampling.memory import IMAGES
    from blinddiff.sampling.wrappers import SMALLEST

    figures = {
        name: NONE if (found := noted(name)) is None else say(found)
        for name, say in (("kills", _kills), ("memory", _memory), ("tiles", _tiles), ("seam", _seam))
    }
    resumed = NONE if figures["kills"] == NONE else "as above"
    return TEXT.format(**figures, resumed=resumed, fuzz=_fuzz(), images=IMAGES, side=SMALLEST)


def _kills(found: dict[str, Any]) -> str:
    return f"{found['kills']} times SIGKILL at random moments over {found['files']} files, then resumed: all right"


def _memory(found: dict[str, Any]) -> str:
    small, large = (found[side]["beyond"] for side in ("2048", "4096"))
    return (
        f"beyond the images, {large / MIB:.0f} MiB for 4096 x 4096 and {small / MIB:.0f} MiB for 2048 x 2048 "
        f"(tiny network, smallest tile): {large / small:.2f} times (at most 1.3)"
    )


def _tiles(found: dict[str, Any]) -> str:
    height, width = found["result"]
    return f"{found['rms']:.2f} grey levels RMS, {width} x {height} in tiles of {found['side']} (at most 0.5)"


def _seam(found: dict[str, Any]) -> str:
    return (
        f"neighbours differ by {found['levels']:.2f} grey levels more or less on the lattice than off it, of "
        f"{found['steps']:.1f} (at most 1)"
    )


def _fuzz() -> str:
    runs = [found for seed in range(6) if (found := noted(f"fuzz-{seed}")) is not None]
    if not runs:
        return NONE
    read, refused = (sum(run[name] for run in runs) for name in ("read", "refused"))
    grown, slowest = (max(run[name] for run in runs) for name in ("grown_mib", "slowest"))
    return (
        f"{read + refused:,} mutations of {runs[0]['files']} files: {read:,} read, {refused:,} refused, nothing else; "
        f"memory grew by {grown:.0f} MiB, the slowest took {slowest:.2f} s"
    )


if __name__ == "__main__":
    PAGE.write_text(make_page(), encoding="utf-8")
