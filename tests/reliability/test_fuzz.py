"""Damaged files: every outcome is an image or one line."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from corpus import corpus, refused
from figures import note

from blinddiff.cli import main as cli
from blinddiff.errors import ImageError
from blinddiff.imaging import read_image

HERE = Path(__file__).parent
FILES = corpus()
measures_memory = pytest.mark.skipif(os.name != "posix", reason="the peak of memory is read by getrusage")


def program(name, *arguments):
    """What one of the programs beside this file prints. Nothing may be said on standard error."""
    command = [sys.executable, str(HERE / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=None)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr == ""
    return json.loads(done.stdout)


@measures_memory
def test_mutations_are_read_or_refused():
    """A process of its own: it may neither crash, nor grow, nor hang, nor write to the terminal."""
    found = program("fuzz.py", 3000, 0)
    assert found["read"] + found["refused"] == 3000
    assert min(found["read"], found["refused"]) > 300
    assert found["grown_mib"] < 64  # images of 250,000 pixels at 48 bytes are 12 MiB
    assert found["slowest"] < 2


@measures_memory
@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 6))
def test_many_mutations(seed):
    found = program("fuzz.py", 40_000, seed)
    note(f"fuzz-{seed}", found)
    assert found["read"] + found["refused"] == 40_000
    assert found["grown_mib"] < 64
    assert found["slowest"] < 5


def test_a_part_of_a_tiff_that_claims_to_be_large():
    """Its decoder would take 12 GB."""
    data = FILES["TIFF, RGB, JPEG inside.tif"]
    place = data.index(b"\xff\xc0\x00\x11\x08") + 5  # height and width in the JPEG's frame header
    large = data[:place] + b"\xff\xff\xff\xff" + data[place + 4 :]
    with pytest.raises(ImageError, match="24 x 18 pixels claims 65535 x 65535"):
        read_image(large)


def test_a_tiff_compressed_in_a_way_that_is_not_read():
    data = bytearray(FILES["TIFF, RGB.tif"])
    entry = data.index((259).to_bytes(2, "little") + (3).to_bytes(2, "little"))
    data[entry + 8 : entry + 10] = (34887).to_bytes(2, "little")  # LERC
    with pytest.raises(ImageError, match="compression LERC is not supported"):
        read_image(bytes(data))


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_is_never_taken_for_another_image(name):
    """Every length: refused, or the very same pixels (what was cut off held none)."""
    data = FILES[name]
    whole = read_image(data).pixels
    for length in range(1, len(data)):
        with contextlib.suppress(ImageError):
            assert np.array_equal(read_image(data[:length]).pixels, whole), length


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_memory_of_reading():
    for name, figures in program("memory.py").items():
        assert 0 < figures["bytes_a_pixel"] < 48, name


class _Stream(io.TextIOWrapper):
    def __init__(self, data=b""):
        super().__init__(io.BytesIO(data), encoding="utf-8", write_through=True)

    def written(self):
        return self.buffer.getvalue()


def test_the_command_line_says_one_line(tiny_weights, monkeypatch, tmp_path):
    """What cannot be read ends with exit code 2 and one line; from standard input, as from a file."""
    bad = {
        **refused(),
        **{name: data[: len(data) // 2] for name, data in FILES.items()},
        "empty": b"",
        "text": b"words",
    }
    for name, data in bad.items():
        (tmp_path / "file").write_bytes(data)
        for source in ("-", str(tmp_path / "file")):
            out, err = _Stream(), io.StringIO()
            monkeypatch.setattr("sys.stdin", _Stream(data))
            monkeypatch.setattr("sys.stdout", out)
            monkeypatch.setattr("sys.stderr", err)
            code = cli.main(["upscale", source, "-o", str(tmp_path / "out.png"), "--weights", str(tiny_weights)])
            assert code == 2, (name, source)
            assert out.written() == b""
            assert err.getvalue().count("\n") == 1, (name, err.getvalue())
            assert err.getvalue().startswith("blinddiff upscale: error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
