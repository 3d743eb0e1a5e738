"""Whatever the shape, the kind of pixel and the settings: a right file, or one line and exit code 2."""

import io
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from blinddiff.cli import main as cli
from blinddiff.imaging import encode_image, read_image
from blinddiff.imaging.write import written_bit_depth
from blinddiff.restoring.photograph import RestoreSettings, restore_photograph

pytestmark = pytest.mark.long  # minutes on a busy machine

QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
MODES = (
    "1",
    "L",
    "LA",
    "P",
    "P with transparency",
    "RGB",
    "RGBA",
    "I;16",
    "LA;16",
    "RGB;16",
    "RGBA;16",
    "F",
    "RGB;32F",
)


def image_file(mode: str, size: tuple[int, int], seed: int) -> bytes:
    """A file of noise, with a flat part: PNG, TIFF for floats."""
    random = np.random.default_rng(seed)
    width, height = size
    kind, _, depth = mode.partition(";")
    channels = {"I": 1, "L": 1, "LA": 2, "RGB": 3, "RGBA": 4}.get(kind, 3 if kind.startswith("P") else 1)
    values = random.random((height, width, channels))
    values[: height // 2] = values[0, 0]
    if mode in ("F", "RGB;32F"):
        buffer = io.BytesIO()
        photometric = "rgb" if channels == 3 else "minisblack"
        tifffile.imwrite(
            buffer,
            values.squeeze(-1).astype(np.float32) if channels == 1 else values.astype(np.float32),
            photometric=photometric,
        )
        return buffer.getvalue()
    if depth == "16":
        array = (values * 65535).astype(np.uint16)
        return imagecodecs.png_encode(array[..., 0] if channels == 1 else array)
    array = (values * 255).astype(np.uint8)
    picture = Image.fromarray(array[..., 0] if channels == 1 else array)
    if mode == "1":
        picture = picture.point(lambda value: 255 * (value > 127), "1")
    if kind.startswith("P"):
        picture = picture.quantize(9)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **({"transparency": 1} if mode.endswith("transparency") else {}))
    return buffer.getvalue()


@QUIET
@given(
    mode=st.sampled_from(MODES),
    width=st.integers(8, 40),
    height=st.integers(8, 40),
    scale=st.integers(1, 4),
    seed=st.integers(0, 99),
    suffix=st.sampled_from([".png", ".tif", ".webp", ".avif"]),
)
def test_pixels_in_pixels_out(tiny_pipeline, mode, width, height, scale, seed, suffix):
    photograph = read_image(image_file(mode, (width, height), seed))
    assert photograph.pixels.shape == (3, height, width)
    upscaled = restore_photograph(tiny_pipeline, photograph, RestoreSettings(scale=scale, seed=seed))
    written = read_image(encode_image(f"a{suffix}", upscaled.pixels, photograph, upscaled.alpha))
    assert written.pixels.shape == (3, height * scale, width * scale)
    # An encoder may leave out a transparency that is everywhere opaque.
    assert (written.alpha is None) == (photograph.alpha is None) or bool((photograph.alpha == 1).all())
    assert written.bit_depth == written_bit_depth(Path(f"a{suffix}"), photograph)
    if suffix in (".png", ".tif"):
        assert (written.grey, written.bit_depth) == (
            photograph.grey,
            photograph.bit_depth if suffix == ".tif" else min(16, photograph.bit_depth),
        )
        step = 0 if written.bit_depth == 32 else 0.51 / (2**written.bit_depth - 1)
        result = upscaled.pixels.mean(0, keepdims=True) if photograph.grey else upscaled.pixels
        assert float(abs(written.pixels - result).max()) <= step + 1e-6
        assert upscaled.alpha is None or float(abs(written.alpha - upscaled.alpha).max()) <= step + 1e-6


@settings(QUIET, max_examples=150)
@given(
    mode=st.sampled_from(MODES),
    width=st.integers(6, 20),
    height=st.integers(6, 20),
    options=st.fixed_dictionaries(
        {},
        optional={
            "--scale": st.sampled_from([1, 1, 2, 3, 4, 0, 5, "two"]),
            "--steps": st.integers(0, 5),
            "--seed": st.integers(-1, 2**63),
            "--noise-level": st.one_of(st.floats(0, 255), st.floats()),
            "--max-megapixels": st.floats(0, 1e-2),
        },
    ),
    suffix=st.sampled_from([".png", ".png", ".tif", ".jpg", ".webp", ".bmp"]),
)
def test_every_outcome_of_the_command_line(tiny_weights, tmp_path, capsys, mode, width, height, options, suffix):
    source, output = tmp_path / "in", tmp_path / f"out{suffix}"
    for left in tmp_path.iterdir():  # by the example before
        left.unlink()
    source.write_bytes(image_file(mode, (width, height), 0))
    arguments = [f"{name}={value}" for name, value in options.items()]
    try:
        code = cli.main(["upscale", str(source), "-o", str(output), "--weights", str(tiny_weights), *arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    said = capsys.readouterr()
    if code == 0:
        scale = options.get("--scale", 4)
        assert read_image(output).pixels.shape == (3, height * scale, width * scale)
        assert said.out.count("\n") == 1
    else:
        assert code == 2
        assert not output.exists()
        assert said.out == ""
        assert said.err.count("\n") == 1, said.err
        assert said.err.startswith("blinddiff upscale: error: ")
    assert sorted(path.name for path in tmp_path.iterdir() if path not in (source, output)) == []
