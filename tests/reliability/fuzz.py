"""Damages real files in many ways, reads them, and writes what could be read: `python fuzz.py MUTATIONS SEED`.

Run as a process of its own, because a decoder may crash or take too much memory. Prints a JSON object.
"""

import json
import math
import resource
import sys
import time
from collections import Counter

import numpy as np
from corpus import corpus

from blinddiff.errors import ImageError
from blinddiff.imaging import Photograph, encode_image, read_image

MAX_PIXELS = 250_000
_EXTREMES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\1\0\0\0", b"\x80\0\0\0")


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """The file with one to four kinds of damage."""
    out = bytearray(data)
    for _ in range(random.integers(1, 5)):
        # Half of the damage hits the beginning, where most of the sizes and offsets are.
        end = len(out) if random.random() < 0.5 else min(len(out), 200)
        place = int(random.integers(max(1, end)))
        length = int(random.integers(1, 33))
        match random.integers(8):
            case 0:
                out[place : place + 1] = random.bytes(1)
            case 1:
                out[place : place + 1] = bytes([out[place] ^ (1 << int(random.integers(8)))]) if out else b""
            case 2:
                out[place : place + 4] = _EXTREMES[int(random.integers(len(_EXTREMES)))]
            case 3:
                del out[place : place + length]
            case 4:
                out[place:place] = random.bytes(length)
            case 5:
                other = int(random.integers(max(1, len(out))))
                out[place : place + length] = out[other : other + length]
            case 6:
                out[place : place + length] = bytes(length)
            case 7 if random.random() < 0.3:
                del out[place:]
    return bytes(out)


def outcome(data: bytes) -> str:
    """ "read" or "refused"; raises for everything else."""
    try:
        photograph = read_image(data, MAX_PIXELS, name="a file")
    except ImageError as error:
        line = str(error)
        assert line.startswith("a file: "), line
        assert "\n" not in line, line
        return "refused"
    check(photograph)
    return "read"


def check(photograph: Photograph) -> None:
    """A photograph that could be read has valid pixels, and can be written with its metadata."""
    _, height, width = photograph.pixels.shape
    assert photograph.pixels.shape[0] == 3
    assert 0 < height * width <= MAX_PIXELS
    for values in (photograph.pixels, photograph.alpha):
        assert values is None or (float(values.min()) >= 0 and float(values.max()) <= 1)
        assert values is None or math.isfinite(float(values.sum()))
    for name in ("a.png", "a.tif", "a.webp"):
        written = encode_image(name, photograph.pixels, photograph, photograph.alpha)
        back = read_image(written, MAX_PIXELS)
        assert back.pixels.shape == photograph.pixels.shape
        without_profile = name == "a.webp" and photograph.grey
        assert back.icc_profile == (None if without_profile else photograph.icc_profile)
        if name != "a.webp":
            assert (back.grey, back.alpha is None) == (photograph.grey, photograph.alpha is None)
            step = 1 / (255 if photograph.bit_depth == 8 else 65535)
            assert float(abs(back.pixels - photograph.pixels).max()) <= 0.51 * step + 1e-3 * (
                photograph.icc_profile is not None
            )


def main(mutations: int, seed: int) -> None:
    """Damage the files of the corpus in turn, and print the outcomes."""
    files = list(corpus().items())
    for name, data in files:
        assert outcome(data) == "read", name
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    counts: Counter[str] = Counter()
    slowest = 0.0
    for number in range(mutations):
        name, data = files[number % len(files)]
        data = mutated(data, np.random.default_rng([seed, number]))
        began = time.process_time()
        try:
            counts[outcome(data)] += 1
        except BaseException:
            with open("/tmp/fuzz-failure.bin", "wb") as file:
                file.write(data)
            print(f"{name}, mutation {number} of seed {seed}", file=sys.stderr)
            raise
        slowest = max(slowest, time.process_time() - began)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes; see getrusage(2)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit / 2**20
    seconds = time.process_time() - started
    print(json.dumps({**counts, "files": len(files), "seconds": seconds, "slowest": slowest, "grown_mib": grown}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
