"""The weights load in spandrel, and give there what the pipeline gives."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from blinddiff.errors import OutputError, WeightsError
from blinddiff.files import DEFAULT_WEIGHTS
from blinddiff.models.denoiser import alpha_bar_on
from blinddiff.models.mcformer import MCFormer
from blinddiff.sampling.pipeline import BlindDiffPipeline
from blinddiff.sampling.schedulers import default_scheduler

spandrel = pytest.importorskip("spandrel", reason="spandrel (extra spandrel) is not installed")

from blinddiff.integrations.spandrel import SCALE_KEY, BlindDiffArch, export, install, network_config  # noqa: E402

INCLUDED = DEFAULT_WEIGHTS / "network" / "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module", autouse=True)
def installed():
    install()
    install()  # again, without an error


@pytest.fixture
def y():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 5, 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, (30, 22), mode="bicubic").clamp(0, 1)


def by_pipeline(pipeline, y, scale):
    """What the command line does, with its seed."""
    return pipeline(y, scale=scale, generator=torch.Generator().manual_seed(0), output_type="pt").images


def test_the_included_file(y):
    model = spandrel.ModelLoader().load_from_file(INCLUDED)
    assert isinstance(model, spandrel.ImageModelDescriptor)
    assert (model.architecture.id, model.scale, model.purpose) == ("BlindDiff", 4, "SR")
    assert (model.input_channels, model.output_channels, model.dtype) == (3, 3, torch.float32)
    assert model.tiling is spandrel.ModelTiling.INTERNAL
    expected = by_pipeline(BlindDiffPipeline.from_pretrained(device="cpu"), y, 4)
    assert torch.allclose(model(y), expected, atol=1e-5)


def test_no_other_architecture_recognises_the_file_and_it_none_of_theirs():
    state = load_file(INCLUDED)
    recognised = [support.architecture.id for support in spandrel.MAIN_REGISTRY if support.detect(state)]
    assert recognised == ["BlindDiff"]
    assert not BlindDiffArch().detect({"unet.stem.weight": torch.ones(1), "conv_first.weight": torch.ones(1)})


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_exported_scales(tiny_weights, y, scale, tmp_path):
    export(tmp_path / "model.safetensors", scale, tiny_weights)
    model = spandrel.ModelLoader().load_from_file(tmp_path / "model.safetensors")
    assert (model.scale, model.purpose) == (scale, "Restoration" if scale == 1 else "SR")
    result = model(y)
    assert result.shape == (1, 3, 30 * scale, 22 * scale)
    expected = by_pipeline(BlindDiffPipeline.from_pretrained(tiny_weights, "cpu"), y, scale)
    assert torch.allclose(result, expected, atol=1e-5)


def test_smaller_than_the_smallest_side(tiny_weights, y, tmp_path):
    export(tmp_path / "model.safetensors", 2, tiny_weights)
    model = spandrel.ModelLoader().load_from_file(tmp_path / "model.safetensors")
    assert model(y[..., :5, :11]).shape == (1, 3, 10, 22)
    assert model(1.4 * y - 0.2).isfinite().all()  # other nodes' images may leave [0, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(tiny_weights, y, dtype, tmp_path, caplog):
    export(tmp_path / "model.safetensors", 2, tiny_weights)
    model = spandrel.ModelLoader().load_from_file(tmp_path / "model.safetensors")
    expected = model(y)
    result = model.to(dtype)(y.to(dtype))
    assert result.dtype == dtype
    assert (result - expected).abs().max() < 0.05
    assert not caplog.records


def test_gradients_after_a_call(tiny_weights, tiny_pipeline, y, tmp_path):
    """spandrel calls in inference mode, in which the schedule must not be cached."""
    export(tmp_path / "model.safetensors", 2, tiny_weights)
    alpha_bar_on.cache_clear()
    spandrel.ModelLoader().load_from_file(tmp_path / "model.safetensors")(y)
    options = {"scale": 2, "mode": "perceptual", "num_inference_steps": 1, "output_type": "pt"}
    assert tiny_pipeline(y, image_step="gradient", **options).images.isfinite().all()
    assert not tiny_pipeline.network.alpha_bar.is_inference()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patch_size": 2, "kernel_size": 21, "expansion": 1.5},
        {"num_blocks": [1, 2, 1], "heads": [1, 4, 2], "num_refinement_blocks": 2},
        {"num_blocks": [2], "heads": [2]},
    ],
)
def test_the_size_is_read_from_the_shapes(tiny_model, options):
    network = MCFormer(**{**tiny_model, **options})
    again = MCFormer(**network_config(network.state_dict()))
    for name in ("heads", "patch_size", "expansion", "kernel_size", "num_blocks", "estimator_hidden"):
        assert again.config[name] == network.config[name]
    assert {n: v.shape for n, v in again.state_dict().items()} == {n: v.shape for n, v in network.state_dict().items()}


@pytest.mark.parametrize("options", [{"noise_schedule": "linear"}, {"image_mean": 0.4}, {"scales": [2, 4]}])
def test_options_without_a_shape_are_refused(tiny_model, options, tmp_path):
    network = MCFormer(**{**tiny_model, **options})
    BlindDiffPipeline(network, default_scheduler(network)).save_pretrained(tmp_path / "weights")
    with pytest.raises(WeightsError, match=r"cannot be (recognised|loaded)"):
        export(tmp_path / "model.safetensors", 2, tmp_path / "weights")
    assert not (tmp_path / "model.safetensors").exists()


def test_wrong_files(tiny_weights, tmp_path):
    state = load_file(tiny_weights / "network" / "diffusion_pytorch_model.safetensors")
    wrong = {
        "output_scale 9": {**state, SCALE_KEY: torch.tensor(9)},
        "not those of an MCFormer: .*temp": {**state, "unet.latent.0.attention.temperature.x": torch.ones(1)},
    }
    for message, damaged in wrong.items():
        save_file(damaged, tmp_path / "wrong.safetensors")
        with pytest.raises(WeightsError, match=message) as caught:
            spandrel.ModelLoader().load_from_file(tmp_path / "wrong.safetensors")
        assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match="scale 5 is not one of 1, 2, 3, 4"):
        export(tmp_path / "model.safetensors", 5, tiny_weights)
    with pytest.raises(WeightsError, match="no such folder"):
        export(tmp_path / "model.safetensors", 2, "some/repository")
    with pytest.raises(OutputError, match="there is no folder"):
        export(tmp_path / "none" / "model.safetensors", 2, tiny_weights)
