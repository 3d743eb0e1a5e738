"""Pictures and texts show the values that they stand for."""

import io
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from blinddiff.app import Limits
from blinddiff.app.request import Region, VisitorFiles
from blinddiff.app.views import (
    LONGEST_SIDE,
    Preview,
    display_jpeg,
    draw_kernel,
    draw_preview,
    draw_uncertainty,
    kernel_error_text,
)
from blinddiff.cli.photographs import describe_kernel
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.imaging import read_image
from blinddiff.sampling.output import UNRELIABLE_KERNEL_ERROR


def read(array, **extra):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", **extra)
    return read_image(buffer.getvalue())


def gaussian(size, sigma_x, sigma_y):
    offset = torch.arange(size) - size // 2
    kernel = torch.exp(-(offset**2) / 2 / sigma_x**2)[None] * torch.exp(-(offset**2) / 2 / sigma_y**2)[:, None]
    return kernel / kernel.sum()


def drawn_points(picture):
    """Where the lines are: nothing else is light blue."""
    red, _, blue = np.moveaxis(np.asarray(picture).astype(int)[: picture.height - 32], -1, 0)
    return np.argwhere((blue > 200) & (red < 170))


def test_the_preview_mentions_what_reading_changed(tmp_path):
    Image.new("CMYK", (40, 40), (9, 80, 30, 20)).save(tmp_path / "inks.jpg")
    outputs = Preview(Limits(), VisitorFiles(tmp_path)).upload(
        str(tmp_path / "inks.jpg"), SimpleNamespace(session_hash="ann")
    )
    assert "inks.jpg: 40 x 40 pixels; CMYK was converted to sRGB" in outputs[3]


def test_the_ellipse_has_the_kernels_widths():
    for sigma_x, sigma_y in ((3, 1), (1, 3), (2, 2)):
        kernel = gaussian(31, sigma_x, sigma_y)
        picture = draw_kernel(kernel)
        core = next(n for n in range(9, 32, 2) if picture.width == 372 // n * n)  # entries shown
        block = picture.width / core
        points = drawn_points(picture)
        reach_y, reach_x = (points.max(0) - points.min(0)) / block / 2
        assert abs(reach_x - sigma_x) < 0.2
        assert abs(reach_y - sigma_y) < 0.2
        assert abs(points.mean() - picture.width / 2) < block  # about the middle entry


def test_a_small_kernel_is_drawn_large_and_a_large_one_whole():
    assert draw_kernel(gaussian(31, 0.5, 0.5)).width == 372 // 9 * 9
    assert draw_kernel(torch.full((31, 31), 1 / 961)).width == 372 // 31 * 31
    assert draw_kernel(torch.ones(1, 1)).width == 372
    assert draw_kernel(torch.full((2, 5), 0.1)).width == 370


def test_uncertainty_is_lightest_where_samples_disagree_most():
    std = torch.zeros(3, 60, 80)
    std[:, 20:40, 30:50] = 20 / 255
    picture, extent = draw_uncertainty(std)
    assert abs(extent - 20) < 0.1
    light = np.asarray(picture).sum(-1)
    assert light[30, 40] > 600
    assert light[5, 5] < 60


def test_pictures_on_the_page_are_small_and_keep_only_the_colour_profile():
    exif = Image.Exif()
    exif[315] = "Ada"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photograph = read(np.zeros((10, 2000, 3), np.uint8), exif=exif, icc_profile=profile)
    data = display_jpeg(photograph.pixels, photograph)
    picture = Image.open(io.BytesIO(data))
    assert picture.size == (LONGEST_SIDE, 8)
    assert picture.info["icc_profile"] == profile
    assert b"Ada" not in data


def test_the_region_is_marked_where_it_is():
    photograph = read(np.zeros((100, 200, 3), np.uint8))
    marked = np.asarray(draw_preview(photograph, Region(50, 20, 60, 40))).sum(-1) > 200
    rows, columns = np.argwhere(marked).T
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (50, 20, 109, 59)
    assert not marked[30:50, 60:100].any()
    assert not np.asarray(draw_preview(photograph, None)).any()


@pytest.mark.parametrize("kind", ["rgb", "gray"])
def test_the_preview_has_the_tone_of_the_photograph(tmp_path, kind):
    """The preview of a photograph with a linear profile, after colour management."""
    white = [0.3127, 0.3290, 1]
    primaries = {"primaries": [0.680, 0.320, 1, 0.265, 0.690, 1, 0.150, 0.060, 1]} if kind == "rgb" else {}
    profile = imagecodecs.cms_profile(kind, whitepoint=white, gamma=1.0, **primaries)
    array = np.full((40, 50, 3) if kind == "rgb" else (40, 50), 55, np.uint8)
    Image.fromarray(array).save(tmp_path / "photo.png", icc_profile=profile)
    preview = Preview(Limits(), VisitorFiles(tmp_path))
    _, file, _, _ = preview.upload(str(tmp_path / "photo.png"), SimpleNamespace(session_hash="ann"))
    with Image.open(file) as picture:
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


def test_an_undetermined_kernel_is_reported_as_such():
    kernel, words = isotropic_gaussian(2.0, 31), "the kernel cannot be determined from this image"
    assert words in describe_kernel(kernel, 1.0, UNRELIABLE_KERNEL_ERROR)
    assert words not in describe_kernel(kernel, 1.0, UNRELIABLE_KERNEL_ERROR - 0.01)
    assert (
        describe_kernel(kernel, 1.0)
        == describe_kernel(kernel, 1.0, 0.1)
        == "kernel 2.00 x 2.00 px, noise 1.0 grey levels"
    )
    assert "cannot be determined" in kernel_error_text(UNRELIABLE_KERNEL_ERROR)
    assert kernel_error_text(0.123) == "0.12 of 2 (expected)"
