"""Finding test sets, and error messages for missing ones."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blinddiff.errors import ImageError, ParameterError
from blinddiff.evaluation.data import crop_to_multiple, data_root, images_of, read_pixels
from blinddiff.files import files_hash


def test_the_folder_is_given_or_in_the_environment(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLINDDIFF_DATA", str(data))
    assert data_root(None) == data
    assert data_root(data / "Set5") == data / "Set5"


def test_no_folder_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BLINDDIFF_DATA", raising=False)
    with pytest.raises(ParameterError, match="give --data or set BLINDDIFF_DATA; it holds one folder per set"):
        data_root(None)
    for name in ("nowhere", "n" * 300):
        with pytest.raises(ParameterError, match=f"{name}: no such folder of test sets"):
            data_root(tmp_path / name)


def test_a_missing_set_is_named_with_what_it_should_hold(data: Path) -> None:
    with pytest.raises(ParameterError, match=r"Set14: no images; it should hold the 14 HR images .* has: Set5"):
        images_of(data, "Set14")


def test_images_come_in_natural_order(data: Path) -> None:
    (data / "Set5" / "notes.txt").write_text("not an image")
    assert [path.stem for path in images_of(data, "Set5")] == ["image_0", "image_1", "image_10"]


def test_pixels_are_as_stored(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    alpha = np.dstack([pixels, np.zeros((4, 5), np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "rgba.png")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal((read_pixels(tmp_path / "rgba.png") * 255).permute(1, 2, 0).round(), pixels)
    grey = read_pixels(tmp_path / "grey.png")
    assert torch.equal(grey[0], grey[1])
    np.testing.assert_array_equal((grey[2] * 255).round(), pixels[..., 0])


def broken_chunk() -> bytes:
    """A PNG with a chunk of an impossible name, which Pillow calls a SyntaxError."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, "PNG")
    return file.getvalue().replace(b"IDAT", b"\xa57\xba\x84")


@pytest.mark.parametrize("content", [b"", b"plain text", b"\x89PNG\r\n\x1a\n broken", broken_chunk()])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"image\.png: cannot be read as an image"):
        read_pixels(path)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_grey_of_more_than_8_bits_is_refused(tmp_path: Path, kind: type) -> None:
    """Pillow's conversion to RGB would clip it to white."""
    Image.fromarray(np.full((8, 8), 30000).astype(kind)).save(tmp_path / "deep.tif")
    with pytest.raises(ImageError, match=r"deep\.tif: .*more than 8 bits"):
        read_pixels(tmp_path / "deep.tif")


def test_crops_are_at_the_top_left() -> None:
    image = torch.arange(3 * 7 * 9.0).reshape(3, 7, 9)
    assert torch.equal(crop_to_multiple(image, 4), image[:, :4, :8])


def test_a_changed_file_changes_the_checksum(data: Path) -> None:
    files = images_of(data, "Set5")
    before = files_hash(files)
    assert files_hash(files[::-1]) == before
    files[0].write_bytes(files[0].read_bytes() + b" ")
    assert files_hash(files) != before


def test_two_files_of_one_name_are_refused(data: Path) -> None:
    (data / "Set5" / "image_1.jpg").write_bytes((data / "Set5" / "image_1.png").read_bytes())
    with pytest.raises(ParameterError, match=r"Set5: holds image_1\.jpg and image_1\.png; keep one of them"):
        images_of(data, "Set5")


def test_a_file_that_cannot_be_read_has_a_checksum_of_its_own(data: Path) -> None:
    files = images_of(data, "Set5")
    whole = files_hash(files)
    (data / "Set5" / "folder.png").mkdir()
    assert images_of(data, "Set5") == files  # no file at all
    assert len({whole, files_hash([*files, data / "Set5" / "gone.png"]), files_hash(files[1:])}) == 3
