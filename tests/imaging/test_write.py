"""Files by `write_image`, read back by Pillow, and that they are written whole or not at all."""

import io
import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms

from blinddiff.errors import ImageError, OutputError, ParameterError
from blinddiff.imaging import check_output, read_image, to_picture, write_image, write_picture


def as_tensor(array):
    return np.ascontiguousarray(np.atleast_3d(array).transpose(2, 0, 1)).astype(np.float32) / np.float32(255)


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_png_round_trip_is_exact(data, tmp_path):
    h, w = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    channels, transparent = data.draw(st.sampled_from([1, 3])), data.draw(st.booleans())
    values = np.random.default_rng(h * 41 + w).integers(0, 256, (h, w, channels + transparent), dtype=np.uint8)
    pixels, alpha = as_tensor(values[..., :channels]), as_tensor(values[..., channels:]) if transparent else None
    write_image(tmp_path / "a.png", pixels, alpha=alpha)
    assert Image.open(tmp_path / "a.png").mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[values.shape[-1]]
    back = read_image(tmp_path / "a.png")
    assert np.array_equal(back.pixels, np.broadcast_to(pixels, back.pixels.shape))
    assert (back.alpha is None) == (alpha is None)
    assert alpha is None or np.array_equal(back.alpha, alpha)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.webp"])
def test_lossy_formats_are_close(name, tmp_path):
    row, column = np.mgrid[0:48, 0:64]
    smooth = np.stack([row * 5, column * 4, (row + column) * 2], axis=-1).astype(np.uint8)
    write_image(tmp_path / name, as_tensor(smooth))
    difference = np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(float) - smooth
    assert np.sqrt((difference**2).mean()) < 3


def test_values_are_rounded_and_clipped():
    levels = torch.tensor([-3.0, 0.0, 0.49 / 255, 0.51 / 255, 254.6 / 255, 1.0, 7.0]).reshape(1, 1, -1)
    assert np.asarray(to_picture(levels)).tolist() == [[0, 0, 0, 1, 255, 255, 255]]


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.webp"])
def test_profile_and_exif_are_kept(name, colours, encode, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Artist] = "a person"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageWidth] = 22
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageHeight] = 13
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.LensModel] = "a lens"
    photograph = read_image(encode(Image.fromarray(colours), "JPEG", exif=exif, icc_profile=profile))
    enlarged = photograph.pixels.repeat(2, 1).repeat(2, 2)

    write_image(tmp_path / name, enlarged, like=photograph)

    written = Image.open(tmp_path / name)
    assert written.size == (26, 44)
    assert written.info["icc_profile"] == profile
    kept = written.getexif()
    assert kept[ExifTags.Base.Orientation] == 1
    assert kept[ExifTags.Base.Artist] == "a person"
    assert kept.get_ifd(ExifTags.IFD.Exif) == {
        ExifTags.Base.ExifImageWidth: 26,
        ExifTags.Base.ExifImageHeight: 44,
        ExifTags.Base.LensModel: "a lens",
    }


def test_exif_of_a_tiff_brings_no_storage_tags(colours, encode, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Copyright] = "someone"
    write_image(
        tmp_path / "a.png", torch.rand(3, 4, 4), read_image(encode(Image.fromarray(colours), "TIFF", exif=exif))
    )
    assert dict(Image.open(tmp_path / "a.png").getexif()) == {ExifTags.Base.Copyright: "someone"}


def test_grey_stays_grey(colours, encode, tmp_path):
    photograph = read_image(encode(Image.fromarray(colours[..., 0])))
    write_image(tmp_path / "a.png", photograph.pixels, like=photograph)
    written = Image.open(tmp_path / "a.png")
    assert written.mode == "L"
    np.testing.assert_array_equal(np.asarray(written), colours[..., 0])


def test_transparency_is_not_lost_in_silence(colours, encode, tmp_path):
    photograph = read_image(encode(Image.fromarray(np.dstack([colours, colours[..., 0]]))))
    with pytest.raises(ParameterError, match="alpha"):
        write_image(tmp_path / "a.png", photograph.pixels, like=photograph)
    with pytest.raises(OutputError, match="transparency"):
        write_image(tmp_path / "a.jpg", photograph.pixels, like=photograph, alpha=photograph.alpha)
    with pytest.raises(OutputError, match="transparency"):
        check_output(tmp_path / "a.jpg", photograph)
    assert os.listdir(tmp_path) == []
    write_image(tmp_path / "a.jpg", photograph.pixels, alpha=torch.ones(1, 13, 22))
    assert Image.open(tmp_path / "a.jpg").mode == "RGB"


def test_input_is_never_overwritten(colours, encode, tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encode(Image.fromarray(colours)))
    before = path.read_bytes()
    photograph = read_image(path)
    (tmp_path / "link.png").symlink_to(path)
    os.link(path, tmp_path / "same.png")
    (tmp_path / "sub").mkdir()
    for name in ("photo.png", "link.png", "same.png", "sub/../photo.png"):
        for attempt in (
            lambda name=name: write_image(tmp_path / name, photograph.pixels, like=photograph),
            lambda name=name: check_output(tmp_path / name, photograph),
        ):
            with pytest.raises(OutputError, match="is the input itself"):
                attempt()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.xyz", "unknown extension '.xyz'"),
        ("a", "unknown extension ''"),
        ("missing/a.png", "there is no folder"),
        ("folder.png", "is a folder"),
        ("pipe.png", "is not a regular file"),
        ("file/a.png", "there is no folder"),
        ("null\0.png", "cannot be written"),
        ("n" * 300 + ".png", "cannot be written"),
    ],
)
def test_unwritable_places_in_one_line(name, reason, tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe.png")
    before = sorted(os.listdir(tmp_path))
    for attempt in (
        lambda: write_image(tmp_path / name, torch.rand(3, 4, 4)),
        lambda: check_output(tmp_path / name),
    ):
        with pytest.raises(OutputError) as caught:
            attempt()
        assert reason in str(caught.value)
        assert name.partition("\0")[0] in str(caught.value)
        assert "\n" not in str(caught.value)
        assert sorted(os.listdir(tmp_path)) == before


def test_what_a_format_cannot_hold(tmp_path):
    with pytest.raises(OutputError, match="WebP cannot hold this 1x16400 image"):
        write_image(tmp_path / "a.webp", torch.rand(3, 16_400, 1))
    assert os.listdir(tmp_path) == []


def test_pixels_that_are_no_image(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(ImageError, match="not finite"):
        write_image(path, torch.full((3, 4, 4), float("nan")))
    for shape in [(4, 4), (2, 4, 4), (1, 3, 4, 4), (3, 0, 4)]:
        with pytest.raises(ParameterError, match="shape"):
            write_image(path, torch.zeros(shape))
    with pytest.raises(ParameterError, match="alpha"):
        write_image(path, torch.zeros(3, 4, 4), alpha=torch.ones(1, 4, 5))
    assert not path.exists()


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failure_leaves_the_old_file_and_nothing_else(call, error, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt):
        write_image(path, torch.rand(3, 8, 8))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.png"]


def test_longest_name_and_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "n" * 251 + ".png"
    write_image(name, torch.rand(3, 4, 4))
    check_output("other.png")
    assert os.listdir() == [name]


def test_write_picture(colours, tmp_path):
    write_picture(tmp_path / "a.png", Image.fromarray(colours))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), colours)
    with pytest.raises(OutputError, match="unknown extension"):
        write_picture(tmp_path / "a.bmp", Image.fromarray(colours))


def test_same_pixels_same_bytes(tmp_path):
    pixels = torch.rand(3, 30, 20, generator=torch.Generator().manual_seed(0))
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, pixels)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert io.BytesIO((tmp_path / "a.png").read_bytes()).read(8) == b"\x89PNG\r\n\x1a\n"
