"""Pictures show the values that they stand for."""

import io

import numpy as np
import torch
from PIL import Image, ImageCms

from blinddiff.app.pictures import (
    CROP_COLOUR,
    LONGEST_SIDE,
    REGION_COLOUR,
    display_jpeg,
    draw_kernel,
    draw_preview,
    draw_uncertainty,
)
from blinddiff.app.request import Region
from blinddiff.imaging import read_image


def read(array, **extra):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", **extra)
    return read_image(buffer.getvalue())


def gaussian(size, sigma_x, sigma_y):
    offset = torch.arange(size) - size // 2
    kernel = torch.exp(-(offset**2) / 2 / sigma_x**2)[None] * torch.exp(-(offset**2) / 2 / sigma_y**2)[:, None]
    return (kernel / kernel.sum()).numpy()


def drawn_points(picture):
    """Where the lines are: nothing else is light blue."""
    red, _, blue = np.moveaxis(np.asarray(picture).astype(int)[: picture.height - 32], -1, 0)
    return np.argwhere((blue > 200) & (red < 170))


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
    assert draw_kernel(np.full((31, 31), 1 / 961)).width == 372 // 31 * 31
    assert draw_kernel(np.ones((1, 1))).width == 372
    assert draw_kernel(np.full((2, 5), 0.1)).width == 370


def test_uncertainty_is_lightest_where_samples_disagree_most():
    std = np.zeros((3, 60, 80), np.float32)
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
    marked = np.asarray(draw_preview(photograph, {REGION_COLOUR: Region(50, 20, 60, 40)})).sum(-1) > 200
    rows, columns = np.argwhere(marked).T
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (50, 20, 109, 59)
    assert not marked[30:50, 60:100].any()
    assert not np.asarray(draw_preview(photograph, {})).any()
    both = {CROP_COLOUR: Region(0, 0, 60, 40), REGION_COLOUR: Region(100, 50, 50, 40)}
    picture = np.asarray(draw_preview(photograph, both))
    assert picture[0, 5].tolist() == [0xFF, 0x4F, 0xD8]
    assert picture[50, 120].tolist() == [0xFF, 0xB0, 0x00]
