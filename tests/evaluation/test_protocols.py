"""Protocols: declared degradations that are the same every time, and the ones that papers state."""

from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch
from PIL import Image

from blinddiff.degradation.kernel_measures import widths_and_angle
from blinddiff.degradation.resize import bicubic_downsample
from blinddiff.errors import ImageError, ParameterError
from blinddiff.evaluation.data import Case, case_seed, checksum
from blinddiff.evaluation.protocols import PROTOCOLS, SyntheticProtocol, protocol

SYNTHETIC = [
    (name, scale) for name, plan in PROTOCOLS.items() if isinstance(plan, SyntheticProtocol) for scale in plan.scales
]


def all_cases(name: str, scale: int, data: Path, seed: int = 0) -> list[Case]:
    plan = protocol(name, scale)
    return [plan.make(reference, seed) for reference in plan.references(data, "Set5")]


@pytest.mark.parametrize(("name", "scale"), SYNTHETIC)
def test_cases_are_whole(name: str, scale: int, data: Path) -> None:
    cases = all_cases(name, scale, data)
    assert len(cases) == 3 * len(protocol(name, scale).labels)
    assert len({case.id for case in cases}) == len(cases)
    assert len({case.seed for case in cases}) == len(cases)
    for case in cases:
        assert case.hr is not None
        assert case.kernel is not None
        height, width = case.y.shape[-2:]
        assert tuple(case.hr.shape) == (3, height * scale, width * scale)
        for image in (case.y, case.hr):
            torch.testing.assert_close(image * 255, (image * 255).round(), atol=1e-4, rtol=0)
            assert image.min() >= 0
            assert image.max() <= 1
        assert case.kernel.min() >= 0
        assert case.kernel.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "scale"), [("setting2", 4), ("setting2_noise10", 4), ("motion", 2), ("deblur", 1), ("aniso9", 4)]
)
def test_a_case_depends_on_its_seed_and_on_no_other_case(name: str, scale: int, data: Path) -> None:
    plan = protocol(name, scale)
    references = plan.references(data, "Set5")
    forward = {r.id: checksum(plan.make(r, 0).y) for r in references}
    backward = {r.id: checksum(protocol(name, scale).make(r, 0).y) for r in reversed(references)}
    assert forward == backward
    last = references[-1]
    assert checksum(plan.make(last, 1).y) != forward[last.id]


def test_limit_takes_the_first_images_with_all_their_parameters(data: Path) -> None:
    references = protocol("gaussian8", 4).references(data, "Set5", limit=2)
    assert [r.id.name for r in references[::8]] == ["image_0", "image_1"]
    assert len(references) == 16


def test_seeds_are_those_of_every_machine() -> None:
    # printf gaussian8/4/Set5/baby/0/0 | sha256sum: the first 16 hexadecimal digits, halved
    assert case_seed("gaussian8", 4, "Set5/baby/0", 0) == 7547957546095620356


@pytest.mark.parametrize(
    ("scale", "sigmas"),
    [(2, [0.8, 1.6]), (3, [1.35, 2.4]), (4, [1.8, 2.0, 2.2, 2.4, 2.6, 2.8, 3.0, 3.2])],
)
def test_gaussian8_has_the_published_widths(scale: int, sigmas: list[float], data: Path) -> None:
    cases = all_cases("gaussian8", scale, data)[:8]
    chosen = cases if len(sigmas) == 8 else [cases[0], cases[-1]]
    for case, sigma in zip(chosen, sigmas, strict=True):
        assert case.kernel is not None
        assert case.kernel.shape == (21, 21)
        position = np.arange(-10, 11)
        gaussian = np.exp(-(position**2) / (2 * sigma**2))
        expected = np.outer(gaussian, gaussian) / gaussian.sum() ** 2
        np.testing.assert_allclose(case.kernel, expected, atol=1e-7)


def test_a_synthetic_case_is_blurred_thinned_out_and_rounded(data: Path) -> None:
    case = all_cases("setting2", 4, data)[1]
    assert case.hr is not None
    assert case.kernel is not None
    kernel = case.kernel.double().numpy()
    planes = [scipy.ndimage.convolve(plane, kernel, mode="mirror") for plane in case.hr.double().numpy()]
    expected = bicubic_downsample(torch.from_numpy(np.stack(planes))[None], 4)[0]
    expected = (expected.clamp(0, 1) * 255).round() / 255
    assert ((case.y - expected).abs() < 1e-6).double().mean() > 0.999  # a few ties may round the other way


def test_aniso9_widths_angles_and_noise(data: Path) -> None:
    plan = protocol("aniso9", 4)
    assert len(plan.labels) == 27
    Image.fromarray(np.full((256, 256, 3), 128, np.uint8)).save(data / "Set5" / "flat.png")
    flat = next(r for r in plan.references(data, "Set5") if r.id.name == "flat")
    references = [r for r in plan.references(data, "Set5") if r.id.name == flat.id.name]
    for reference, noise in zip(references[2::9], (0, 10, 20), strict=True):
        case = plan.make(reference, 0)
        assert case.noise_level == noise
        assert float((case.y * 255).std()) == pytest.approx(noise, rel=0.03, abs=1e-6)
        assert case.kernel is not None
        major, minor, angle = widths_and_angle(case.kernel.double())
        assert (float(major), float(minor), float(angle)) == pytest.approx((3.5, 1.5, 30), abs=0.1)


def test_setting2_with_noise_is_setting2_and_noise(data: Path) -> None:
    plan = protocol("setting2_noise10", 4)
    assert plan.labels == protocol("setting2", 4).labels
    Image.fromarray(np.full((256, 256, 3), 128, np.uint8)).save(data / "Set5" / "flat.png")
    case = plan.make(next(r for r in plan.references(data, "Set5") if r.id.name == "flat"), 0)
    assert case.noise_level == 10
    assert float((case.y * 255).std()) == pytest.approx(10, rel=0.03)
    assert "noise 10" in plan.degradation


def test_settings_stay_in_their_ranges(data: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    for name, low, high in (("setting1", 0.2, 4.0), ("setting2", 0.6, 5.0)):
        plan = protocol(name, 4)
        assert isinstance(plan, SyntheticProtocol)
        family = plan.parameters(4)[0].kernel
        assert not isinstance(family, torch.Tensor)
        kernels = torch.cat([family.sample(1, 4, plan.kernel_size, generator) for _ in range(200)]).double()
        major, minor, _ = widths_and_angle(kernels)
        # The support of 21x21 cuts the widest: a sigma of 4 reads 3.8, one of 5 reads 4.6.
        assert float(minor.min()) > low - 0.25
        assert float(major.max()) < high
        assert float(major.max()) > 0.85 * high
    assert not torch.allclose(kernels[0], kernels[0].flip(0, 1), atol=1e-5)  # rough: setting 2 has noise on its entries


def test_real_photographs_are_taken_as_they_are(data: Path) -> None:
    (data / "RealSRSet").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)
    for name in ("dog", "butterfly", "ppt3"):
        Image.fromarray(pixels).save(data / "RealSRSet" / f"{name}.png")
    plan = protocol("real", 4)
    references = plan.references(data, "RealSRSet")
    assert [r.id.name for r in references] == ["dog"]  # the other two are clean copies
    case = plan.make(references[0], 0)
    assert (case.hr, case.kernel, case.noise_level) == (None, None, None)
    np.testing.assert_array_equal((case.y * 255).round().permute(1, 2, 0).numpy(), pixels)


def test_unknown_names_and_scales() -> None:
    with pytest.raises(ParameterError, match="protocol 'gaussian9': one of gaussian8, "):
        protocol("gaussian9", 4)
    with pytest.raises(ParameterError, match="scale 1: protocol gaussian8 is defined for 2, 3, 4"):
        protocol("gaussian8", 1)


def test_an_image_smaller_than_the_scale(data: Path) -> None:
    Image.fromarray(np.zeros((3, 9, 3), np.uint8)).save(data / "Set5" / "tiny.png")
    plan = protocol("gaussian8", 4)
    tiny = next(r for r in plan.references(data, "Set5") if r.id.name == "tiny")
    with pytest.raises(ImageError, match="9x3 is smaller than scale 4"):
        plan.make(tiny, 0)
