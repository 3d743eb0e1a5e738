"""Images as users hold them: every way of giving one is the same image, and every way of getting one is too."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from blinddiff.errors import BlindDiffError, ImageError, ParameterError
from blinddiff.sampling.output import from_batch, to_batch


@pytest.fixture
def tensor(photograph):
    return torch.from_numpy(photograph / np.float32(255)).permute(2, 0, 1)


def test_every_input_gives_the_same_result(tiny_pipeline, photograph, tensor):
    def result(image):
        return tiny_pipeline(image, scale=2, generator=torch.Generator().manual_seed(1), output_type="pt").images

    expected = result(tensor)
    assert expected.shape == (1, 3, 48, 40)
    for image in (
        Image.fromarray(photograph),
        photograph,
        photograph / 255,
        photograph.astype(np.float32) / 255,
        photograph[None],
        tensor[None],
        tensor.double(),
        [Image.fromarray(photograph)],
        [photograph],
        (tensor,),
    ):
        assert torch.allclose(result(image), expected, atol=1e-6)


@pytest.mark.parametrize("levels", [(0, 1), (0, 200)])
def test_the_type_of_the_pixels_says_what_is_white(photograph, levels):
    """Not their values: a dark picture of few levels stays dark."""
    few = np.where(photograph > 128, levels[1], levels[0])
    for kind, white in ((np.uint8, 255), (np.uint16, 65535)):
        expected = (few / white).transpose(2, 0, 1)
        for array in (few.astype(kind), few.astype(np.dtype(kind).newbyteorder(">"))):
            assert np.allclose(to_batch(array)[0], expected, rtol=1e-6, atol=0)
        tensor = torch.from_numpy(few.astype(kind)).permute(2, 0, 1)
        assert np.allclose(to_batch(tensor)[0], expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", [">f8", ">f4", "<f8", "f2", "longdouble"])
def test_floats_of_every_size_and_byte_order(photograph, kind):
    expected = to_batch(photograph)
    assert torch.allclose(to_batch((photograph / 255).astype(kind)), expected, atol=1e-3 if kind == "f2" else 1e-6)


def test_lists_and_batches_are_batches(photograph, tensor):
    other = photograph[::-1, ::-1]
    expected = torch.stack([tensor, tensor.flip(1, 2)])
    for image in (
        [Image.fromarray(photograph), other],
        [tensor, Image.fromarray(other.copy())],
        np.stack([photograph, other]),
        expected,
        [expected],
    ):
        assert torch.allclose(to_batch(image), expected, atol=1e-6)
    assert to_batch([expected, tensor]).shape == (3, 3, 24, 20)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_pil_modes_are_read_as_rgb(photograph, mode):
    picture = Image.fromarray(photograph).convert(mode)
    expected = np.asarray(picture.convert("RGB")) / 255
    assert np.allclose(to_batch(picture)[0].permute(1, 2, 0), expected, atol=1e-6)


def test_16_bit_grey_is_neither_clipped_nor_cut():
    levels = np.linspace(0, 65535, 300).reshape(15, 20).astype(np.uint16)
    read = to_batch(Image.fromarray(levels))
    assert read.shape == (1, 3, 15, 20)
    assert np.allclose(read[0], levels / 65535, atol=1e-6)
    assert len(read.unique()) == 300


@pytest.mark.parametrize("mode", ["CMYK", "F", "I", "LAB"])
def test_pil_modes_that_cannot_be_taken_for_rgb(mode):
    with pytest.raises(ImageError, match=f"kind {mode}"):
        to_batch(Image.new(mode, (12, 12)))


def test_grey_arrays(photograph):
    grey = photograph[..., 0]
    assert torch.equal(to_batch(grey), to_batch(np.stack([grey] * 3, -1)))


def test_the_users_array_is_left_alone(photograph):
    frozen = photograph.copy()
    frozen.flags.writeable = False
    image = frozen / 255
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_batch(frozen)
        to_batch(frozen[::-1])
    batch = to_batch(image)
    batch.zero_()
    assert image.any()


def test_outputs_say_the_same(tiny_pipeline, tensor):
    def images(output_type):
        generator = torch.Generator().manual_seed(0)
        return tiny_pipeline(tensor.expand(2, -1, -1, -1), 2, generator=generator, output_type=output_type).images

    pt, array, pil = images("pt"), images("np"), images("pil")
    assert isinstance(pt, torch.Tensor)
    assert pt.shape == (2, 3, 48, 40)
    assert pt.dtype == torch.float32
    assert pt.min() >= 0
    assert pt.max() <= 1
    assert array.dtype == np.float32
    assert np.array_equal(array, pt.permute(0, 2, 3, 1).numpy())
    assert [(picture.mode, picture.size) for picture in pil] == [("RGB", (40, 48))] * 2
    assert np.array_equal(np.stack(pil), np.round(array * 255))


def test_values_beyond_are_clipped_and_rounded():
    levels = torch.tensor([-1.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 2.0]).expand(1, 3, 8, 5)
    assert np.asarray(from_batch(levels, "pil")[0])[0, :, 0].tolist() == [0, 0, 1, 255, 255]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (None, "NoneType is not an image"),
        ("photo.png", "str is not an image"),
        ([], "no image"),
        (np.zeros((0, 12, 12, 3)), "no image"),
        (np.zeros((12, 12, 4)), r"shape \(12, 12, 4\)"),
        (np.zeros((12, 12, 2), np.uint8), r"shape \(12, 12, 2\)"),
        (torch.zeros(12, 12, 3), r"shape \(12, 12, 3\)"),
        (torch.zeros(12, 12), r"shape \(12, 12\)"),
        (torch.zeros(1, 1, 3, 12, 12), "shape"),
        (np.zeros((1, 1, 3)), "1x1 px is too small"),
        (Image.new("RGB", (1, 1)), "1x1 px is too small"),
        (torch.zeros(3, 7, 40), "40x7 px is too small"),
        (torch.full((3, 12, 12), float("nan")), "not finite"),
        (np.full((12, 12, 3), np.inf), "not finite"),
        (torch.full((3, 12, 12), 2.0), r"must lie in \[0, 1\], not 2 to 2"),
        (np.full((12, 12, 3), -0.5), r"must lie in \[0, 1\], not -0.5 to -0.5"),
        (torch.full((3, 12, 12), 255), r"must lie in \[0, 1\]"),
        (np.full((12, 12, 3), 1, np.int64), r"type int64 are not accepted: use uint8, uint16, or floats"),
        (np.full((12, 12, 3), True), "type bool are not accepted"),
        (np.full((12, 12, 3), 0.5 + 1j), "type complex128 are not accepted"),
        (np.full((12, 12, 3), "0.5"), "type str.* are not accepted"),
        (np.full((12, 12, 3), None), "type object are not accepted"),
        (torch.full((3, 12, 12), 1), "type int64 are not accepted"),
        (torch.full((3, 12, 12), True), "type bool are not accepted"),
        (torch.full((3, 12, 12), 0.5 + 1j), "type complex64 are not accepted"),
        (torch.full((3, 12, 12), 0.5, device="meta"), "without values"),
        (torch.full((3, 12, 12), 0.5).to_sparse(), "sparse"),
        ([torch.zeros(3, 12, 12), torch.zeros(3, 12, 13)], "one size, not 12x12, 13x12"),
    ],
)
def test_refused(tiny_pipeline, image, reason):
    for call in (tiny_pipeline, tiny_pipeline.estimate, tiny_pipeline.closed_form):
        with pytest.raises(ImageError, match=reason) as caught:
            call(image)
        assert "\n" not in str(caught.value)


def test_unknown_output_type(tiny_pipeline, photograph):
    with pytest.raises(ParameterError, match=r"output_type 'jpg' is not one of pil, np, pt"):
        tiny_pipeline(photograph, output_type="jpg")


def test_errors_are_one_family():
    assert issubclass(ImageError, BlindDiffError)
    assert issubclass(ParameterError, BlindDiffError)
