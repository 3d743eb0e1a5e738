"""Methods: the interpolations, the closed form, and the pipeline with a small untrained network."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from blinddiff.degradation import Degradation
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.errors import ImageError, ParameterError
from blinddiff.evaluation.data import Case
from blinddiff.evaluation.image_metrics import Sample
from blinddiff.evaluation.methods import Options, fingerprint_of, method
from blinddiff.evaluation.protocols import protocol
from blinddiff.evaluation.run import measure
from blinddiff.models.mcformer import MCFormer
from blinddiff.published.network import PublishedMCFormer
from blinddiff.sampling.pipeline import MODES


@pytest.fixture
def case(data: Path) -> Case:
    plan = protocol("gaussian8", 4)
    return plan.make(plan.references(data, "Set5")[4], 0)


def test_lanczos_is_pillows(case: Case) -> None:
    result = method("lanczos", Options()).restore(case.y, 4, case)
    picture = Image.fromarray((case.y * 255).round().byte().permute(1, 2, 0).numpy())
    expected = np.asarray(picture.resize((picture.width * 4, picture.height * 4), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal((result.image * 255).round().permute(1, 2, 0), expected)


@pytest.mark.parametrize("name", ["bicubic", "lanczos", "closed-form-oracle"])
def test_methods_without_a_network_need_no_weights(name: str, case: Case, tmp_path: Path) -> None:
    result = method(name, Options(weights=tmp_path / "nowhere")).restore(case.y, 4, case)
    assert case.hr is not None
    assert result.image.shape == case.hr.shape
    assert (result.kernel, result.noise_level, result.calls) == (None, None, 0)
    assert measure(Sample(case, result))["psnr_y"] > 20


FIDELITY, PERCEPTUAL = (MODES[mode].num_inference_steps for mode in ("fidelity", "perceptual"))


@pytest.mark.parametrize(
    ("name", "calls", "estimates"),
    [
        ("closed-form", 0, True),
        ("fidelity", FIDELITY, True),
        ("perceptual", PERCEPTUAL, True),
        ("perceptual@3", 3, True),
        ("oracle", FIDELITY, False),
        ("oracle@1", 1, False),
        ("no-image-step", FIDELITY, True),
        ("kernel-once", FIDELITY, True),
        ("gradient", FIDELITY, True),
        ("without-both", FIDELITY, True),
        ("perceptual-gradient@2", 2, True),
    ],
)
def test_the_pipeline_as_a_method(name: str, calls: int, estimates: bool, case: Case, weights: Path) -> None:
    chosen = method(name, Options(weights, device="cpu"))
    result = chosen.restore(case.y, 4, case)
    assert case.hr is not None
    assert chosen.name == name
    assert result.image.shape == case.hr.shape
    assert result.calls == calls
    assert result.seconds > 0
    assert ("kernel_l1" in measure(Sample(case, result))) == estimates
    again = chosen.restore(case.y, 4, case)
    assert torch.equal(again.image, result.image)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bicubic@2", "bicubic has no steps"),
        ("fidelity@0", "between 1 and 1000"),
        ("fidelity@x", "between 1 and 1000"),
        ("x@2", "'x'"),
    ],
)
def test_steps_that_cannot_be(name: str, message: str, weights: Path) -> None:
    with pytest.raises(ParameterError, match=message):
        method(name, Options(weights, device="cpu"))


def test_methods_show_no_progress_of_their_own(case: Case, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    method("fast", Options(weights, device="cpu")).restore(case.y, 4, case)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "signed", "coloured"),
    [
        ("fidelity", True, True),
        ("without-sign", False, True),
        ("without-spectrum", True, False),
        ("without-both", False, False),
    ],
)
def test_a_limited_degradation_model_leaves_out_what_its_name_says(
    name: str, signed: bool, coloured: bool, case: Case, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(weights, device="cpu")
    kernel = torch.full((1, 3, 3), -0.05)
    kernel[0, 1, 1] = 1.4
    spectrum = torch.ones(1, 16, 16)
    spectrum[0, 0, 3] = 9.0
    estimate = Degradation(kernel, torch.tensor([7.0]), torch.tensor([0.1]), spectrum)
    monkeypatch.setattr(options.pipeline.network, "initial_estimate", lambda _: estimate)
    seen: list[Degradation] = []
    hook = options.pipeline.network.register_forward_pre_hook(lambda _, call: seen.append(call[3]))
    method(name, options).restore(case.y, 4, case)
    hook.remove()
    first = seen[0]
    assert bool((first.kernel < 0).any()) == signed
    torch.testing.assert_close(first.kernel.sum((-2, -1)), torch.ones(1))
    assert (first.noise_spectrum is not None) == coloured
    assert float(first.noise_level[0]) == 7.0
    assert options.pipeline.network.initial_estimate(None) is estimate


def test_fidelity_is_the_default_call(case: Case, weights: Path) -> None:
    options = Options(weights, device="cpu")
    expected = options.pipeline(case.y, generator=torch.Generator().manual_seed(case.seed), output_type="pt")
    assert torch.equal(method("fidelity", options).restore(case.y, 4, case).image, expected.images[0])


def test_the_expected_kernel_error_stands_beside_the_true_one(case: Case, weights: Path) -> None:
    options = Options(weights, device="cpu")
    measured = measure(Sample(case, method("fidelity", options).restore(case.y, 4, case)))
    expected = float(options.pipeline.expected_kernel_error(case.y, 4)[0])
    assert measured["kernel_l1_expected"] == pytest.approx(expected, rel=1e-5)
    assert "kernel_l1_expected" not in measure(Sample(case, method("oracle", options).restore(case.y, 4, case)))


def test_another_checkpoint_is_another_method(case: Case, weights: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    small(dim=8).save_pretrained(tmp_path / "residual")
    published(tmp_path / "published")
    checkpoints = {"mine": tmp_path / "residual", "theirs": tmp_path / "published"}
    options = Options(weights, "cpu", checkpoints=checkpoints)
    mine, theirs = method("mine", options), method("theirs@2", options)
    own = method("fidelity", options)
    assert mine.parameters == own.parameters
    assert not torch.equal(mine.restore(case.y, 4, case).image, own.restore(case.y, 4, case).image)
    result = theirs.restore(case.y, 4, case)
    assert result.calls == 2
    assert result.noise_level is None  # the published network knows no noise
    assert fingerprint_of("mine", options) != fingerprint_of("fidelity", options)
    assert fingerprint_of("perceptual@3", options) == fingerprint_of("fidelity", options)
    assert (fingerprint_of("bicubic", options), fingerprint_of("external", options)) == ("", None)


def small(**arguments: Any) -> MCFormer:
    return MCFormer(num_blocks=(1, 1), heads=(1, 2), embedding_dim=16, estimator_hidden=16, **arguments)


def test_the_oracle_uses_the_true_kernel(case: Case, weights: Path, tmp_path: Path) -> None:
    network = MCFormer.from_pretrained(weights)
    with torch.no_grad():
        network.estimator.head.bias[-1] = -2.0  # little noise, so that the data term and its kernel matter
    network.save_pretrained(tmp_path)
    chosen = method("oracle", Options(tmp_path, device="cpu"))
    oracle = chosen.restore(case.y, 4, case).image
    assert not torch.allclose(oracle, method("fidelity", Options(tmp_path, "cpu")).restore(case.y, 4, case).image)
    other = replace(case, kernel=isotropic_gaussian(0.5, 21))
    assert not torch.allclose(chosen.restore(other.y, 4, other).image, oracle, atol=1e-2)


def test_an_oracle_without_a_truth_says_so(case: Case, weights: Path) -> None:
    unknown = Case(case.id, 4, None, case.y, None, None, 0)
    for name in ("oracle", "closed-form-oracle"):
        with pytest.raises(ParameterError, match="needs the true kernel"):
            method(name, Options(weights, device="cpu")).restore(unknown.y, 4, unknown)
    with pytest.raises(ParameterError, match="the true kernel is not known"):
        unknown.operator()


def test_metrics_that_do_not_apply_are_left_out(case: Case, weights: Path) -> None:
    unknown = Case(case.id, 4, None, case.y, None, None, 0)
    result = method("fidelity", Options(weights, device="cpu")).restore(unknown.y, 4, unknown)
    assert set(measure(Sample(unknown, result))) == {
        "lr_rms_own",
        "colour_shift",
        "seconds",
        "calls",
    }  # too small for NIQE


def test_a_result_of_the_wrong_size_is_an_error(case: Case) -> None:
    result = method("bicubic", Options()).restore(case.y, 2, case)
    with pytest.raises(ImageError, match="the result is 30x32, not 60x64"):
        Sample(case, result)


def test_every_mode_is_a_method_of_the_weights_that_run_it(weights: Path, tmp_path: Path) -> None:
    published(tmp_path)
    options = Options(tmp_path, "cpu")
    assert {getattr(method(mode, options), "mode", None) for mode in MODES} == set(MODES)
    with pytest.raises(ParameterError, match="mode 'paper' needs the weights of a published network"):
        method("paper", Options(weights, "cpu"))


def published(folder: Path) -> None:
    PublishedMCFormer(
        dim=8, num_blocks=(1, 1), num_refinement_blocks=0, heads=(1, 2), embedding_dim=16
    ).save_pretrained(folder)
