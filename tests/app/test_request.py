"""Kernels, regions and limits: parsed, or refused with a message."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blinddiff.app import Limits
from blinddiff.app.request import (
    FORMATS,
    Region,
    Request,
    add_corner,
    cropped,
    number_of_pages,
    parse_crop,
    parse_number,
    parse_region,
    parse_size,
)
from blinddiff.degradation.kernel_files import write_kernel
from blinddiff.errors import KernelError, ParameterError
from blinddiff.imaging import OUTPUT_FORMATS, read_image
from blinddiff.restoring.photograph import RestoreSettings

request = partial(Request, Path("photo.png"), RestoreSettings())


def test_kernel_numbers_in_every_form():
    rows = torch.tensor([[0.25, 0.5], [0.25, 0]])
    for text in (
        "0.25 0.5\n0.25 0",
        "0.25, 0.5\n\n0.25, 0",
        "[[0.25, 0.5], [0.25, 0]]",
        '{"kernel": [[0.25,0.5],[0.25,0]]}',
    ):
        assert np.array_equal(request(kernel_numbers=text).read_kernel(), rows)
    assert request(kernel_numbers="  \n").read_kernel() is None
    assert request().read_kernel() is None


def test_kernel_files(tmp_path):
    Image.fromarray(np.array([[0, 1, 0], [1, 2, 1], [0, 1, 0]], np.uint8)).save(tmp_path / "k.png")
    kernel = request(kernel_file=tmp_path / "k.png").read_kernel()
    assert kernel[1].tolist() == pytest.approx([1 / 6, 1 / 3, 1 / 6])


def bad_kernels(folder):
    (folder / "sum.csv").write_text("1,1")
    (folder / "large.csv").write_bytes(b"0 " * (1 << 20))
    (folder / "k.mat").write_bytes(b"")
    Image.new("L", (5000, 5000)).save(folder / "bomb.png")
    (folder / "broken.png").write_bytes(b"\x89PNG")
    (folder / "pickled.npy").write_bytes(np.array([{}]).dumps())
    return [*folder.iterdir(), folder / "gone.csv"]


def test_bad_kernels_are_refused_by_the_visitors_name(tmp_path):
    for path in bad_kernels(tmp_path):
        with pytest.raises(KernelError) as caught:
            request(kernel_file=path).read_kernel()
        assert str(caught.value).startswith(f"{path.name}: ")
        assert str(tmp_path) not in str(caught.value)
    with pytest.raises(KernelError, match=r"^kernel numbers: ") as caught:
        request(kernel_numbers="[[").read_kernel()
    assert "/" not in str(caught.value)


def test_matlab_kernel_files_are_refused(tmp_path):
    write_kernel(tmp_path / "k.mat", torch.ones(1, 1))
    with pytest.raises(KernelError, match=r"^k.mat: this page accepts kernel files that end in .*\.npy"):
        request(kernel_file=tmp_path / "k.mat").read_kernel()


def test_every_output_format_is_offered_once():
    names = [OUTPUT_FORMATS[f".{ending}"].name for ending in FORMATS]
    assert len(names) == len(set(names))
    assert set(names) == {kind.name for kind in OUTPUT_FORMATS.values()}


def test_region():
    assert parse_region("", 100, 100) is None
    assert parse_region(" 1, 2, 40 , 50", 100, 100) == Region(1, 2, 40, 50) == parse_region("1 2 40 50", 41, 52)
    for text in (
        "1, 2",
        "1, 2, 40, x",
        "-1, 2, 40, 40",
        "0, 0, 31, 40",
        "61, 0, 40, 40",
        "0 0 40 1e9",
        "--5, 0, 64, 64",
        "-",
    ):
        with pytest.raises(ParameterError, match=r"^region "):
            parse_region(text, 100, 100)
    # more digits than Python converts
    with pytest.raises(ParameterError, match=r"^region .* four whole numbers are needed"):
        parse_region("0, 0, 64, " + "6" * 5000, 100, 100)


def test_two_clicks_in_any_order_make_a_region():
    for first, second in (((10, 20), (60, 80)), ((60, 80), (10, 20)), ((10, 80), (60, 20))):
        corner, text = add_corner("", *first)
        assert corner == first
        corner, text = add_corner(text, *second)
        assert corner is None
        assert parse_region(text, 100, 100) == Region(10, 20, 50, 60)
    # a third click starts again
    assert add_corner(text, 5, 6) == ((5, 6), "5, 6")


def test_limits():
    limits = Limits(megapixels=1)
    limits.check("photo.png", 250, 250, 4, 1)
    with pytest.raises(ParameterError, match=r"photo.png: 250 x 251 pixels at scale 4 need 1.0 megapixels"):
        limits.check("photo.png", 250, 251, 4, 1)
    with pytest.raises(ParameterError, match=r"scale 4 with 2 samples need 2.0 megapixels.*fewer samples"):
        limits.check("photo.png", 250, 250, 4, 2)


def test_contradictions():
    for changed in ({"region": "0 0 40 40", "kernel_numbers": "1"}, {"file_format": "exe"}):
        with pytest.raises(ParameterError):
            request(**changed)


def test_wrong_types_are_reported_by_name():
    for name, value in (("scale", "large"), ("samples", 1.5), ("seed", None), ("steps", [1]), ("mode", 3)):
        with pytest.raises(ParameterError, match=f"^{name} ") as caught:
            Request.checked(photograph=Path("photo.png"), settings={name: value})
        assert "\n" not in str(caught.value)
    for name, value in (("region", 5), ("file_format", None), ("page", "first")):
        with pytest.raises(ParameterError, match=f"^{name} "):
            Request.checked(photograph=Path("photo.png"), settings={}, **{name: value})
    # those that the classes themselves refuse
    with pytest.raises(ParameterError, match=r"^scale 9\.0 is not between 1 and 8$"):
        Request.checked(photograph=Path("photo.png"), settings={"scale": 9})
    with pytest.raises(ParameterError, match="exclude one another"):
        Request.checked(photograph=Path("photo.png"), settings={"longest": 100, "megapixels": 1})
    given = Request.checked(photograph=Path("photo.png"), settings={"scale": 2.5, "noise_level": 3})
    assert (given.settings.scale, given.settings.noise_level, given.settings.steps) == (2.5, 3, None)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("  ", {}),
        ("1.5x", {"scale": 1.5}),
        ("8", {"scale": 8}),
        ("3 X", {"scale": 3}),
        ("2000", {"longest": 2000}),
        ("2000 px", {"longest": 2000}),
        ("1600x1200", {"width": 1600, "height": 1200}),
        ("1600 \u00d7 1200 px", {"width": 1600, "height": 1200}),
        ("6 MP", {"megapixels": 6}),
        ("0.5mp", {"megapixels": 0.5}),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size
    RestoreSettings(**size)


def test_other_sizes_are_refused():
    for text in ("large", "-2", "1e3", "12.5", "1x2x3", "1" * 5000, "0x", "x"):
        with pytest.raises(ParameterError):
            RestoreSettings(**parse_size(text))


def test_numbers_in_fields_that_may_be_empty():
    assert parse_number("steps", "", 1, 1000, whole=True) is None
    assert parse_number("steps", " 12 ", 1, 1000, whole=True) == 12
    assert parse_number("noise level", "2.5", 0, 255) == 2.5
    assert parse_number("noise level", "0", 0, 255) == 0
    for text in ("0", "1001", "2.5", "many", "9" * 5000):
        with pytest.raises(ParameterError, match=r"^steps '.*whole number from 1 to 1000"):
            parse_number("steps", text, 1, 1000, whole=True)
    for text in ("nan", "-1", "256", "inf"):
        with pytest.raises(ParameterError, match=r"^noise level '.*from 0 to 255"):
            parse_number("noise level", text, 0, 255)


def test_a_part_has_its_own_pixels_and_transparency(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (40, 60, 4), np.uint8)
    Image.fromarray(array).save(tmp_path / "photo.png")
    part = cropped(read_image(tmp_path / "photo.png"), parse_crop("10, 20, 30, 16", 60, 40))
    both = (np.concatenate([part.pixels, part.alpha]) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    assert np.array_equal(both, array[20:36, 10:40])
    assert parse_crop("", 60, 40) is None
    with pytest.raises(ParameterError, match=r"^crop .* at least 8 pixels"):
        parse_crop("0, 0, 7, 20", 60, 40)


def test_pages_are_counted(tmp_path):
    pages = [Image.new("L", (8, 8))] * 3
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "photo.png")
    (tmp_path / "broken.tif").write_bytes(b"II*\0")
    assert [number_of_pages(tmp_path / name) for name in ("scan.tif", "photo.png", "broken.tif", "no")] == [3, 1, 1, 1]
