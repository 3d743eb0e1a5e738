"""The chosen photograph: its picture, size and pages, and the presses that select a part of it."""

import io
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
from gradio.exceptions import Error
from PIL import Image, ImageCms

from blinddiff.app import Limits
from blinddiff.app.preview import Preview
from blinddiff.app.visitor_files import VisitorFiles

ANN = SimpleNamespace(session_hash="ann")


def show(preview, *paths, page=1):
    names = ("picture", "page", "sizes", "crop", "region", "about", "status")
    return dict(zip(names, preview.show([str(path) for path in paths] or None, page, ANN), strict=True))


@pytest.fixture
def preview(tmp_path):
    (tmp_path / "files").mkdir()
    return Preview(Limits(), VisitorFiles(tmp_path / "files"))


def write(path, width=64, height=48):
    Image.new("RGB", (width, height), (90, 120, 40)).save(path)
    return path


def test_the_preview_mentions_what_reading_changed(tmp_path):
    Image.new("CMYK", (40, 40), (9, 80, 30, 20)).save(tmp_path / "inks.jpg")
    shown = show(Preview(Limits(), VisitorFiles(tmp_path)), tmp_path / "inks.jpg")
    assert "inks.jpg: 40 x 40 pixels; CMYK was converted to sRGB" in shown["about"]


@pytest.mark.parametrize("kind", ["rgb", "gray"])
def test_the_preview_has_the_tone_of_the_photograph(tmp_path, kind):
    """The preview of a photograph with a linear profile, after colour management."""
    white = [0.3127, 0.3290, 1]
    primaries = {"primaries": [0.680, 0.320, 1, 0.265, 0.690, 1, 0.150, 0.060, 1]} if kind == "rgb" else {}
    profile = imagecodecs.cms_profile(kind, whitepoint=white, gamma=1.0, **primaries)
    array = np.full((40, 50, 3) if kind == "rgb" else (40, 50), 55, np.uint8)
    Image.fromarray(array).save(tmp_path / "photo.png", icc_profile=profile)
    preview = Preview(Limits(), VisitorFiles(tmp_path))
    with Image.open(show(preview, tmp_path / "photo.png")["picture"]["value"]) as picture:
        displayed = picture.convert("RGB")
        found = picture.info.get("icc_profile")
    if kind == "rgb":
        assert found == profile
        displayed = ImageCms.profileToProfile(
            displayed, ImageCms.getOpenProfile(io.BytesIO(found)), ImageCms.createProfile("sRGB")
        )
    else:
        assert found is None
    # linear 55 of 255 is 128 in sRGB
    assert np.abs(np.asarray(displayed).astype(int) - 128).max() <= 4


def test_nothing_is_shown_without_a_photograph(preview):
    shown = show(preview)
    assert shown["picture"]["visible"] is False
    assert shown["sizes"] == []


def test_several_photographs_have_sizes_and_no_picture(preview, tmp_path):
    (tmp_path / "notes.png").write_text("no photograph")
    paths = [write(tmp_path / "a.png"), tmp_path / "notes.png", write(tmp_path / "b.jpg", 80, 40)]
    shown = show(preview, *paths)
    assert shown["sizes"] == [("a.png", 48, 64), ("b.jpg", 40, 80)]
    assert shown["picture"]["visible"] is False
    assert "3 photographs" in shown["about"]


def test_a_page_is_chosen_in_a_file_of_several(preview, tmp_path):
    pages = [Image.new("RGB", (40 + 10 * number, 40), (80 * number,) * 3) for number in range(3)]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    first = show(preview, tmp_path / "scan.tif")
    assert (first["page"]["visible"], first["page"]["value"]) == (True, 1)
    assert "scan.tif: 40 x 40 pixels; page 1 of 3" in first["about"]
    third = show(preview, tmp_path / "scan.tif", page=3)
    assert third["sizes"] == [("scan.tif", 40, 60)]
    with Image.open(third["picture"]["value"]) as picture:
        assert picture.getpixel((5, 5)) == pytest.approx((160, 160, 160), abs=3)
    assert "has no page 4: it has 3 pages" in show(preview, tmp_path / "scan.tif", page=4)["about"]
    # the next photograph has one page again
    assert show(preview, write(tmp_path / "photo.png"))["page"]["visible"] is False


def test_a_bad_file_is_reported_in_the_status(preview, tmp_path):
    (tmp_path / "notes.png").write_text("no photograph")
    shown = show(preview, tmp_path / "notes.png")
    assert "role='alert'" in shown["about"]
    assert "notes.png: is not an image of a known format." in shown["about"]
    assert shown["sizes"] == []


def press(preview, path, x, y, crop="", region="", for_region=False):
    return preview.click([str(path)], 1, crop, region, for_region, SimpleNamespace(index=(x, y)), ANN)


def test_two_presses_select_the_part_to_restore(preview, tmp_path):
    """On a picture that is displayed at half its size."""
    path = write(tmp_path / "large.png", 3200, 400)
    _, crop, region = press(preview, path, 50, 150)
    assert (crop, region) == ("100, 300", "")
    file, crop, region = press(preview, path, 20, 30, crop)
    assert (crop, region) == ("40, 60, 60, 240", "")
    with Image.open(file) as picture:
        assert picture.width == 1600
        red, green, _ = picture.convert("RGB").getpixel((35, 30))  # the upper border
        assert red > 200
        assert green < 130
    # the region is selected on its own
    _, crop, region = press(preview, path, 0, 0, crop, for_region=True)
    assert (crop, region) == ("40, 60, 60, 240", "0, 0")
    assert press(preview, path, 30, 40, crop, region, for_region=True)[1:] == (crop, "0, 0, 60, 80")


def test_presses_that_select_too_little_are_refused(preview, tmp_path):
    path = write(tmp_path / "photo.png")
    with pytest.raises(Error, match="at least 8 pixels"):
        press(preview, path, 12, 12, crop="10, 10")
    with pytest.raises(Error, match="at least 32 pixels"):
        press(preview, path, 30, 30, region="10, 10", for_region=True)
