"""DIV2KRK: the recipe reproduces the stored LR images, and our operator agrees with it."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from scipy.io import savemat

from blinddiff.errors import ImageError, KernelError, ParameterError
from blinddiff.evaluation.data import Case, read_stored_kernel, shifted_kernel
from blinddiff.evaluation.protocols import protocol

Degrade: TypeAlias = Callable[[np.ndarray, np.ndarray, int], np.ndarray]

# The top left part is degraded; what its cut sides touch is left out.
PART, MARGIN = (256, 1280), 32
KEPT = slice((PART[0] - MARGIN) // 4), slice((PART[1] - MARGIN) // 4)


@pytest.fixture(scope="module", params=[43, 30, 80])
def stored(request: pytest.FixtureRequest, public_data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HR part, kernel and LR part of one image of the set."""
    home = public_data / "DIV2KRK"
    if not home.is_dir():
        pytest.skip(f"{home}: not on this machine")
    hr = np.asarray(Image.open(home / "gt" / f"im_{request.param}.webp"))[: PART[0], : PART[1]]
    lr = np.asarray(Image.open(home / "lr_x4" / f"im_{request.param}.webp"))[KEPT]
    return hr, read_stored_kernel(home / "gt_k_x4" / f"kernel_{request.param}.mat"), lr


def part(lr: np.ndarray) -> np.ndarray:
    return lr[KEPT]


def test_the_recipe_reproduces_the_stored_images(
    stored: tuple[np.ndarray, np.ndarray, np.ndarray], div2krk_degrade: Degrade
) -> None:
    hr, kernel, lr = stored
    made = part(div2krk_degrade(hr, kernel, 4)).astype(int)
    assert np.abs(made - lr).max() <= 1  # where a sum of doubles falls on the other side of a whole number
    assert (made == lr).mean() > 0.9999


def test_it_would_not_without_its_peculiarities(
    stored: tuple[np.ndarray, np.ndarray, np.ndarray], div2krk_degrade: Degrade
) -> None:
    hr, kernel, lr = stored
    flipped = part(div2krk_degrade(hr, kernel[::-1, ::-1], 4))
    assert (flipped == lr).mean() < 0.999
    moved = shifted_kernel(kernel, 4)
    linear = np.stack(
        [ndimage.correlate(hr[..., c].astype(float), moved, mode="reflect")[::4, ::4] for c in range(3)], -1
    )
    assert (part(np.rint(linear)) == lr).mean() < 0.7  # rounding instead of truncation


def test_the_recipe_reproduces_the_stored_images_of_half_size(public_data: Path, div2krk_degrade: Degrade) -> None:
    home = public_data / "DIV2KRK"
    if not (home / "lr_x2").is_dir():
        pytest.skip(f"{home / 'lr_x2'}: not on this machine")
    hr = np.asarray(Image.open(home / "gt" / "im_30.webp"))[: PART[0], : PART[1]]
    kept = slice((PART[0] - MARGIN) // 2), slice((PART[1] - MARGIN) // 2)
    kernel = read_stored_kernel(home / "gt_k_x2" / "kernel_30.mat")
    assert kernel.shape == (11, 11)
    made = div2krk_degrade(hr, kernel, 2)[kept].astype(int)
    lr = np.asarray(Image.open(home / "lr_x2" / "im_30.webp"))[kept]
    assert np.abs(made - lr).max() <= 1
    assert (made == lr).mean() > 0.9999
    plan = protocol("div2krk", 2)
    case = plan.make(next(r for r in plan.references(public_data, "DIV2KRK") if r.id.name == "im_30"), 0)
    np.testing.assert_array_equal((case.y * 255).round().permute(1, 2, 0).numpy()[kept], lr)


@pytest.mark.parametrize(("scale", "kernels"), [(2, 10), (4, 95)])
def test_every_stored_kernel_is_measured(scale: int, kernels: int, public_data: Path) -> None:
    home = public_data / "DIV2KRK"
    if not (home / "lr_x2").is_dir():
        pytest.skip(f"{home / 'lr_x2'}: not on this machine")
    plan = protocol("div2krk_kernels", scale)
    references = {r.id.name: r for r in plan.references(public_data, "DIV2KRK")}
    assert len(references) == kernels
    own = references["kernel_43"]
    case = plan.make(own, 0)
    with Image.open(home / f"lr_x{scale}" / "im_43.webp") as image:
        stored = np.asarray(image).astype(int)
    made = (case.y * 255).round().permute(1, 2, 0).numpy()
    assert (made == stored).mean() > 0.9999  # its own image: the stored input
    assert case.hr is None  # kernel metrics only
    assert [path.name for path in plan.files(own)] == ["im_43.webp", "kernel_43.mat"]
    true = read_stored_kernel(home / f"gt_k_x{scale}" / "kernel_43.mat")
    assert case.kernel_centred_on_lr_pixel is not None
    np.testing.assert_allclose(case.kernel_centred_on_lr_pixel, true[::-1, ::-1] / true.sum(), atol=1e-6)


def test_a_kernel_without_an_image_degrades_another_one(made_set: Path, div2krk_degrade: Degrade) -> None:
    home = made_set / "DIV2KRK"
    kernel = np.outer(np.hanning(33)[1:-1], np.hanning(33)[1:-1])
    savemat(home / "gt_k_x4" / "kernel_12.mat", {"Kernel": kernel / kernel.sum()})
    plan = protocol("div2krk_kernels", 4)
    own, other = plan.references(made_set, "DIV2KRK")
    assert (own.id.name, other.id.name) == ("kernel_7", "kernel_12")
    case = plan.make(other, 0)
    hr = np.asarray(Image.open(home / "gt" / "im_7.png"))
    expected = div2krk_degrade(hr, kernel / kernel.sum(), 4)
    made = (case.y * 255).round().permute(1, 2, 0).numpy()
    assert (made == expected).mean() > 0.999


@pytest.fixture
def made_set(tmp_path: Path, div2krk_degrade: Degrade) -> Path:
    """A set of one made image with an asymmetric kernel, degraded by the recipe."""
    home = tmp_path / "DIV2KRK"
    for name in ("gt", "lr_x4", "gt_k_x4"):
        (home / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = 255 * (0.5 + 0.5 * np.sin(ndimage.gaussian_filter(rng.standard_normal((160, 128, 3)), (3, 3, 0)) * 20))
    hr = pixels.astype(np.uint8)
    position = np.arange(31) - 15
    kernel = np.exp(-(position[:, None] ** 2) / 8 - (position - 0.4 * position[:, None]) ** 2 / 18)
    kernel *= 1 + 0.25 * rng.uniform(-1, 1, kernel.shape)
    kernel /= kernel.sum()
    savemat(home / "gt_k_x4" / "kernel_7.mat", {"Kernel": kernel})
    Image.fromarray(hr).save(home / "gt" / "im_7.png")
    Image.fromarray(div2krk_degrade(hr, kernel, 4)).save(home / "lr_x4" / "im_7.png")
    return tmp_path


def the_case(folder: Path) -> Case:
    plan = protocol("div2krk", 4)
    return plan.make(plan.references(folder, "DIV2KRK")[0], 0)


def test_our_operator_is_the_recipe_but_for_borders_and_truncation(made_set: Path) -> None:
    case = the_case(made_set)
    assert case.hr is not None
    linear = case.operator().forward(case.hr[None])[0]
    lost = 255 * (linear - case.y)[:, 5:-5, 5:-5]  # away from the border, which is symmetric there and reflected here
    assert float(lost.min()) > -0.05
    assert float(lost.max()) < 1.05
    assert float(lost.mean()) == pytest.approx(0.5, abs=0.05)
    assert case.centred_kernel is not None
    assert case.kernel is not None
    # The stored kernel is centred on the middle of the LR pixel; as applied, it is 1.5 px from the sampled HR pixel.
    difference = shift_between(case.kernel, case.centred_kernel)
    assert difference == pytest.approx([-1.5, -1.5], abs=0.35)


def shift_between(a: torch.Tensor, b: torch.Tensor) -> list[float]:
    return (np.array(ndimage.center_of_mass(a.numpy())) - np.array(ndimage.center_of_mass(b.numpy()))).tolist()


def test_what_is_missing_is_named(made_set: Path) -> None:
    home = made_set / "DIV2KRK"
    (home / "lr_x4" / "im_7.png").rename(home / "lr_x4" / "im_8.png")
    with pytest.raises(ImageError, match=r"lr_x4/im_7: the LR image is missing"):
        the_case(made_set)
    (home / "gt_k_x4" / "kernel_7.mat").write_text("not a kernel")
    with pytest.raises(KernelError, match=r"kernel_7\.mat: not a kernel of DIV2KRK"):
        the_case(made_set)
    (home / "gt_k_x4" / "kernel_7.mat").unlink()
    with pytest.raises(KernelError, match=r"kernel_7\.mat: the kernel is missing"):
        the_case(made_set)
    (home / "lr_x4" / "im_8.png").unlink()
    with pytest.raises(ParameterError, match=r"lr_x4: no images; it should hold gt/im_N, lr_x4/im_N and gt_k_x4"):
        the_case(made_set)


def test_a_case_is_known_by_all_its_files(made_set: Path) -> None:
    plan = protocol("div2krk", 4)
    (reference,) = plan.references(made_set, "DIV2KRK")
    found = {f"{path.parent.name}/{path.name}" for path in plan.files(reference)}
    assert found == {"gt/im_7.png", "lr_x4/im_7.png", "gt_k_x4/kernel_7.mat"}
