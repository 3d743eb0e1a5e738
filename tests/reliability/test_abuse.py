"""What files, folders, disks and people do to a program: a right result, or one line and the exit code that says so."""

import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from corpus import by_pillow, colours
from PIL import Image

from blinddiff.cli import main as cli

if os.name == "posix":
    import resource

pytestmark = pytest.mark.long  # minutes on a busy machine

posix = pytest.mark.skipif(os.name != "posix", reason="signals, limits and permissions of POSIX")


@pytest.fixture
def run(capsys, tiny_weights):
    """Run `blinddiff upscale` in this process: exit code, standard output, standard error."""

    def run(*arguments):
        if "--weights" not in arguments:
            arguments = (*arguments, "--weights", tiny_weights)
        try:
            code = cli.main(["upscale", *map(str, arguments), "--device", "cpu"])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def refused(run):
    """Run it where it must fail; the one line."""

    def refused(*arguments):
        code, out, err = run(*arguments)
        assert (code, out) == (2, ""), err
        assert err.count("\n") == 1, err
        assert err.startswith("blinddiff upscale: error: ")
        return err

    return refused


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.png"
    Image.fromarray(colours()).save(path)
    return path


def process(*arguments, **settings):
    """The command, which Ctrl-C reaches even where a shell started these tests in its background."""
    settings.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    command = [sys.executable, "-m", "blinddiff", "upscale", *map(str, arguments), "--device", "cpu"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings)


# Decompression bombs


def png_of(width, height, rows):
    """A PNG that unpacks to black rows without end."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(rows * (1 + 3 * width)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def patched(data, mark, offset, form, *values):
    out = bytearray(data)
    struct.pack_into(form, out, data.index(mark) + offset, *values)
    return bytes(out)


def tiff_of_claimed_size(**settings):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((8, 8, 3), np.uint16), photometric="rgb", **settings)
    with tifffile.TiffFile(io.BytesIO(buffer.getvalue())) as file:
        places = [file.pages.first.tags[tag].valueoffset for tag in (256, 257)]
    data = bytearray(buffer.getvalue())
    for place in places:
        struct.pack_into("<I", data, place, 60_000)
    return bytes(data)


def bombs():
    rgb = colours()
    jpeg2000 = imagecodecs.jpeg2k_encode(rgb)
    jpeg2000 = patched(jpeg2000, b"ihdr", 4, ">II", 60_000, 60_000)
    return {
        "PNG": png_of(30_000, 30_000, 500),
        "JPEG": patched(by_pillow(rgb, "JPEG"), b"\xff\xc0", 5, ">HH", 65_500, 65_500),
        "GIF": patched(by_pillow(rgb, "GIF"), b"GIF8", 6, "<HH", 65_535, 65_535),
        "BMP": patched(by_pillow(rgb, "BMP"), b"BM", 18, "<ii", 60_000, 60_000),
        "PPM": b"P6 60000 60000 255\n" + bytes(1000),
        "WebP": patched(by_pillow(colours(4), "WEBP", exif=b"Exif\0\0II"), b"VP8X", 12, "<IH", 0xFD003FFD, 0x003F),
        "JPEG 2000": patched(jpeg2000, b"\xff\x4f\xff\x51", 8, ">II", 60_000, 60_000),
        "AVIF": patched(by_pillow(rgb, "AVIF"), b"ispe", 8, ">II", 16_000, 16_000),
        "TIFF": tiff_of_claimed_size(),
        "TIFF, LZW": tiff_of_claimed_size(compression="lzw"),
    }


@posix
def test_bombs_are_refused_before_they_go_off(refused, tmp_path):
    path = tmp_path / "bomb"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, data in bombs().items():
        path.write_bytes(data)
        line = refused(path, "-o", tmp_path / "out.png")
        assert "more than the 89,478,485 pixels" in line or "damaged" in line, (name, line)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes; see getrusage(2)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 100 * 2**20


def test_the_limit_can_be_set(run, refused, small, tmp_path):
    assert "has 24 x 18 pixels, more than the 400 pixels" in refused(
        small, "-o", tmp_path / "out.png", "--max-megapixels", 0.0004
    )
    assert run(small, "-o", tmp_path / "out.png", "--scale", 1, "--max-megapixels", 0.000432)[0] == 0
    for value in ("0", "-1", "nan", "inf"):
        assert "--max-megapixels" in refused(small, "-o", tmp_path / "out.png", "--max-megapixels", value)


def test_files_too_large_for_any_image(refused, tmp_path):
    path = tmp_path / "endless.png"
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.truncate(80 << 20)  # takes no room on the disk
    line = refused(path, "-o", tmp_path / "out.png", "--max-megapixels", 0.1)
    assert "larger than any image of 100,000 pixels" in line


def test_an_endless_standard_input(refused, tmp_path, monkeypatch):
    class Endless:
        buffer = open("/dev/zero", "rb")  # noqa: SIM115

    monkeypatch.setattr("sys.stdin", Endless)
    assert "standard input: is larger" in refused("-", "-o", tmp_path / "out.png", "--max-megapixels", 0.1)


# Names and places


@pytest.mark.parametrize(
    "name", ["with space.png", "Übung 図 🌷.png", "-dash.png", "new\nline.png", "a" * 200 + ".png"]
)
def test_names(run, small, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    source = Path("in") / name
    source.write_bytes(small.read_bytes())
    code, out, _ = run(source, "-o", f"./{name}", "--scale", 1)
    assert code == 0
    assert out.startswith(name)
    assert Image.open(name).size == (24, 18)


def test_wrong_extensions(run, small, tmp_path):
    """The contents tell what a file is, the name what is written."""
    lying = tmp_path / "lying.jpg"
    lying.write_bytes(small.read_bytes())
    assert run(lying, "-o", tmp_path / "out.tif", "--scale", 1)[0] == 0
    assert tifffile.imread(tmp_path / "out.tif").shape == (18, 24, 3)


def test_links_that_lead_nowhere(refused, small, tmp_path):
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "gone.png").symlink_to("nothing.png")
    assert "symbolic links" in refused(tmp_path / "loop.png", "-o", tmp_path / "out.png")
    assert "no such file" in refused(tmp_path / "gone.png", "-o", tmp_path / "out.png")
    assert "loop.png" in refused(small, "-o", tmp_path / "loop.png")
    # A link in the way of the result is followed; there is no folder at its end.
    (tmp_path / "to.png").symlink_to(tmp_path / "missing" / "to.png")
    assert "no folder" in refused(small, "-o", tmp_path / "to.png")


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root can become somebody else")
def test_without_permission(refused, small, tiny_weights):
    """As somebody who may neither read one file nor write to another's folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "secret.png").write_bytes(small.read_bytes())
        (folder / "secret.png").chmod(0o600)
        (folder / "open.png").write_bytes(small.read_bytes())
        (folder / "in").mkdir()
        (folder / "in" / "open.png").write_bytes(small.read_bytes())
        (folder / "in" / "locked").mkdir(mode=0o700)
        (folder / "results").mkdir()
        (folder / "results").chmod(0o777)
        shutil.copytree(tiny_weights, folder / "weights")
        for path in (folder / "weights", *(folder / "weights").rglob("*")):
            path.chmod(0o755)
        os.seteuid(65534)
        try:
            for reason, arguments in {
                "secret.png': cannot be opened: Permission denied": (folder / "secret.png", "-o", "out.png"),
                "cannot be written: Permission denied": (folder / "open.png", "-o", folder / "out.png"),
                "new: cannot be made: Permission denied": (folder / "in", "-o", folder / "new"),
            }.items():
                assert reason in refused(*arguments, "--weights", folder / "weights")
        finally:
            os.seteuid(0)


@posix
def test_a_disk_without_room(small, tmp_path, tiny_weights):
    """A limit of 4 KB a file stands for the full disk: the write itself fails."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / "in.png")
    limited = process(
        tmp_path / "in.png",
        *("-o", tmp_path / "out.png", "--weights", tiny_weights),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    out, err = limited.communicate()
    assert (limited.returncode, out) == (2, "")
    assert err.splitlines()[-1] == (
        f"blinddiff upscale: error: '{tmp_path / 'out.png'}': cannot be written: File too large"
    )
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["in.png", "small.png"]


@posix
def test_names_that_are_no_text(run, small, tmp_path):
    """Linux allows any bytes in a name; a terminal does not."""
    folder = os.fsencode(tmp_path) + b"/in \xff"
    os.mkdir(folder)
    name = os.fsdecode(folder + b"/a\xfe\xff.png")
    Path(name).write_bytes(small.read_bytes())
    result = os.fsdecode(os.fsencode(tmp_path) + b"/out \xff.png")
    code, out, _ = run(name, "-o", result, "--scale", 1, "--json", tmp_path / "records")
    assert (code, Path(result).exists()) == (0, True)
    assert r"out \udcff.png" in out
    assert json.loads((tmp_path / "records").read_text())["input"] == name


# Shapes


def test_long_and_thin(run, refused, tmp_path):
    for size in ((1, 1), (1, 300), (300, 1), (7, 100), (100, 7), (100_000, 1)):
        Image.new("RGB", size).save(tmp_path / "in.png")
        assert f"{size[0]}x{size[1]} px is too small" in refused(tmp_path / "in.png", "-o", tmp_path / "out.png")
    row = np.arange(20_000) % 251
    Image.fromarray(np.repeat(row[None], 8, 0).astype(np.uint8)).save(tmp_path / "in.png")
    assert run(tmp_path / "in.png", "-o", tmp_path / "out.png", "--scale", 1)[0] == 0
    assert Image.open(tmp_path / "out.png").size == (20_000, 8)
    assert Image.open(tmp_path / "out.png").mode == "L"
    line = refused(tmp_path / "in.png", "-o", tmp_path / "out.jpg", "--scale", 4)
    assert "JPEG cannot hold this image of 80000 x 32 pixels" in line


@pytest.mark.long
def test_an_aspect_of_100_000_to_1(run, tmp_path):
    """The thinnest image that can be restored at all is 8 pixels high."""
    row = np.arange(800_000) % 251
    Image.fromarray(np.repeat(row[None], 8, 0).astype(np.uint8)).save(tmp_path / "in.png")
    assert run(tmp_path / "in.png", "-o", tmp_path / "out.png", "--scale", 1)[0] == 0
    assert Image.open(tmp_path / "out.png").size == (800_000, 8)


# Streams


def test_standard_input_and_output(run, small, tmp_path, monkeypatch):
    class Stream(io.TextIOWrapper):
        def __init__(self, data=b""):
            super().__init__(io.BytesIO(data), encoding="utf-8", write_through=True)

    assert run(small, "-o", tmp_path / "out.png", "--scale", 2)[0] == 0
    for arguments, suffix in ((("--format", "webp"), "WEBP"), (("--format", "same"), "PNG"), ((), "PNG")):
        out = Stream()
        monkeypatch.setattr("sys.stdin", Stream(small.read_bytes()))
        monkeypatch.setattr("sys.stdout", out)
        code, _, err = run("-", "-o", "-", "--scale", 2, *arguments)
        monkeypatch.undo()
        assert code == 0
        written = out.buffer.getvalue()
        assert Image.open(io.BytesIO(written)).format == suffix
        assert "standard output" in err  # the figures, aside
    assert written == (tmp_path / "out.png").read_bytes()


def test_what_does_not_go_together(refused, small, tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.png").write_bytes(small.read_bytes())
    out = tmp_path / "out.png"
    assert "--jobs: applies only to folders" in refused(small, "-o", out, "--jobs", 2)
    assert "--format: applies only to folders" in refused(small, "-o", out, "--format", "png")
    assert "--json -: standard output is already used" in refused(small, "-o", "-", "--json", "-")
    assert "cannot be written to standard output" in refused(folder, "-o", "-")
    line = refused(folder, "-o", tmp_path / "new", "--save-kernel", "k.csv")
    assert "--save-kernel: applies only to a single photograph" in line
    assert "small.png: is a file" in refused(folder, "-o", small)
    for json_file in (small, out, folder / "a.png"):
        assert "choose another name for --json" in refused(small, "-o", out, "--json", json_file)
    assert "choose another name for --json" in refused(folder, "-o", tmp_path / "new", "--json", folder / "a.png")
    new = tmp_path / "new"
    for json_file in (new / "a.png", new / ".blinddiff-ledger.jsonl"):  # a result to come; what is done
        new.mkdir(exist_ok=True)
        assert "choose another name for --json" in refused(folder, "-o", new, "--json", json_file)
    new.rmdir()
    kernel = tmp_path / "k.csv"
    kernel.write_text("0,1,0\n1,4,1\n0,1,0\n")
    both = tmp_path / "k.png"
    for first, second in (
        (("--kernel", kernel), ("--save-kernel", kernel)),
        (("--kernel", kernel), ("--json", kernel)),
        (("--save-kernel", both), ("--kernel-map", both)),
        (("--save-kernel", kernel), ("--json", kernel)),
    ):
        assert "choose another name for" in refused(small, "-o", out, *first, *second)
    assert not out.exists()
    assert kernel.read_text().startswith("0,1,0")
    assert "is the input folder" in refused(folder, "-o", folder)
    (tmp_path / "empty").mkdir()
    assert "is a folder without photographs" in refused(tmp_path / "empty", "-o", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert "is a terminal" in refused(small, "-o", "-")


# Interruption


def wait_for(condition, running, seconds=400):
    ends = time.monotonic() + seconds
    while not condition():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < ends
        time.sleep(0.02)


def group_ends(group, seconds=20):
    """Whether soon no process of a group is left."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@posix
def test_ctrl_c_while_one_is_restored(small, tmp_path, tiny_weights):
    running = process(small, "-o", tmp_path / "out.png", "--steps", 1000, "--weights", tiny_weights)
    running.stderr.read(40)  # the bar: it is at work
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "blinddiff upscale: interrupted"
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.png"]


@posix
def test_ctrl_c_before_anything_is_done(tmp_path, tiny_weights, small):
    """The records asked for are there, and tell of nothing."""
    folder = tmp_path / "in"
    folder.mkdir()
    small.rename(folder / "a.png")
    records = tmp_path / "records"
    records.write_text("those of an earlier run")
    arguments = (folder, "-o", tmp_path / "out", "--weights", tiny_weights, "--json", records)
    running = process(*arguments, start_new_session=True)
    wait_for(lambda: (tmp_path / "out" / ".blinddiff-ledger.jsonl").exists(), running)
    time.sleep(0.5)
    os.killpg(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert (running.returncode, err.splitlines()[-1]) == (130, "blinddiff upscale: interrupted")
    assert "Traceback" not in err
    assert records.read_text() == ""
    assert not (tmp_path / "out" / "a.png").exists()


@posix
def test_ctrl_c_in_a_folder_and_on(tmp_path, tiny_weights):
    """As a terminal sends it: to every process of the group. What was done stays done."""
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    count = 40
    for number in range(count):
        Image.fromarray(np.roll(colours(), number, 1)).save(source / f"{number:02}.png")
    options = ("--weights", tiny_weights, "--jobs", 2, "--scale", 2, "--json", tmp_path / "records")
    command = (source, "-o", output, *options)
    running = process(*command, start_new_session=True)
    ledger = output / ".blinddiff-ledger.jsonl"
    wait_for(lambda: ledger.exists() and len(ledger.read_text().splitlines()) >= 2, running)
    os.killpg(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert err.splitlines()[-1] == "blinddiff upscale: interrupted"
    assert "Traceback" not in err
    assert group_ends(running.pid)
    done = {path.name: path.read_bytes() for path in output.glob("*.png")}
    assert 2 <= len(done) < count
    assert all(Image.open(output / name).size == (48, 36) for name in done)
    assert list(output.glob(".*.tmp")) == []
    entered = ledger.read_text().splitlines()
    assert len(done) - 2 <= len(entered) <= len(done)
    assert len((tmp_path / "records").read_text().splitlines()) == len(entered)

    again = process(*command)
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert f"{count - len(entered)} restored, {len(entered)} already done" in out
    assert all((output / name).read_bytes() == data for name, data in done.items())
    assert len((tmp_path / "records").read_text().splitlines()) == count


@posix
@pytest.mark.parametrize("closing", [">/dev/full", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_words_that_nobody_hears(small, tmp_path, tiny_weights, closing):
    """The photograph is written whatever becomes of the words."""
    out = tmp_path / "out.png"
    done = shell(f"upscale {small} -o {out} --scale 1 --weights {tiny_weights} {closing}")
    full = "blinddiff upscale: error: standard output: cannot be written: No space left on device"
    assert done.returncode == (2 if "full" in closing else 0)
    assert "full" not in closing or done.stderr.splitlines()[-1] == full
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert Image.open(out).size == (24, 18)


@posix
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("- -o {out} <&-", "standard input: is empty (0 bytes)"),
        ("{small} -o - >&-", "standard output: is closed"),
        ("{small} -o - >/dev/full", "standard output: cannot be written: No space left on device"),
        ("{small} -o - | true", "standard output: cannot be written: Broken pipe"),
        ("{small} -o {out} --json - >&-", "--json -: standard output is closed"),
    ],
)
def test_photographs_and_records_that_nobody_takes(small, tmp_path, tiny_weights, arguments, line):
    out = tmp_path / "out.png"
    arguments = f"--scale 1 --weights {tiny_weights} {arguments}".format(small=small, out=out)
    done = shell(f"upscale {arguments}")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(f"blinddiff upscale: error: {line}")
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert not out.exists()


def shell(command):
    """A command line of `blinddiff`, run by the shell; its exit code, not that of what it is piped to."""
    line = f"set -o pipefail; {sys.executable} -m blinddiff {command}"
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}  # what is kept back fails last
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, env=environment)
