"""The pipeline keeps diffusers' habits: callbacks, tuples, dtypes, bars, saving."""

import inspect

import pytest
import torch
from diffusers.callbacks import PipelineCallback
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from blinddiff.errors import ParameterError
from blinddiff.sampling.pipeline import BlindDiffPipeline


@pytest.fixture
def arguments(photograph):
    return {"image": photograph, "scale": 2, "mode": "perceptual", "num_inference_steps": 3, "output_type": "pt"}


def seeded():
    return torch.Generator().manual_seed(0)


def test_the_callback_is_given_what_it_asks_for(tiny_pipeline, arguments):
    calls = []

    def callback(pipe, step, timestep, tensors):
        calls.append((pipe, step, timestep, sorted(tensors)))
        assert tensors["latents"].shape == (1, 3, 48, 40)
        return tensors

    names = ["latents", "kernel"]
    tiny_pipeline(**arguments, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=names)
    assert [call[0] for call in calls] == [tiny_pipeline] * 3
    assert [call[1] for call in calls] == [0, 1, 2]
    assert [call[2] for call in calls] == sorted((call[2] for call in calls), reverse=True)
    assert all(call[3] == ["kernel", "latents"] for call in calls)


def test_the_callback_may_replace_the_latents(tiny_pipeline, arguments):
    def callback(pipe, step, timestep, tensors):
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 2 else {}

    out = tiny_pipeline(**arguments, callback_on_step_end=callback)
    assert torch.equal(out.images, torch.full_like(out.images, 0.5))  # 0 in the range in which x_t is noised
    by_step = tiny_pipeline(**arguments, on_step=lambda step, t, x_t, x0_hat, k: torch.zeros_like(x_t))
    assert torch.equal(by_step.images, out.images)


def test_a_callback_of_diffusers_names_its_own_tensors(tiny_pipeline, arguments):
    class Watch(PipelineCallback):
        shapes: list[torch.Size] = []  # noqa: RUF012

        @property
        def tensor_inputs(self):
            return ["x0_hat"]

        def callback_fn(self, pipeline, step_index, timestep, callback_kwargs):
            self.shapes.append(callback_kwargs["x0_hat"].shape)
            return callback_kwargs

    tiny_pipeline(**arguments, callback_on_step_end=Watch(cutoff_step_ratio=None, cutoff_step_index=1))
    assert Watch.shapes == [(1, 3, 48, 40)] * 3


def test_unknown_tensors_are_refused(tiny_pipeline, arguments):
    with pytest.raises(ParameterError, match="'x_t' is not one of latents, x0_hat, kernel"):
        tiny_pipeline(**arguments, callback_on_step_end_tensor_inputs=["x_t"])


def test_a_tuple_on_request(tiny_pipeline, arguments):
    out = tiny_pipeline(**arguments, generator=seeded())
    images, kernels, *_ = tiny_pipeline(**arguments, generator=seeded(), return_dict=False)
    assert torch.equal(images, out.images)
    assert torch.equal(kernels, out.kernels)


def test_the_bar_is_configured_as_in_diffusers(tiny_pipeline, arguments, capsys):
    try:
        tiny_pipeline.set_progress_bar_config(disable=True)
        tiny_pipeline(**arguments)
        assert capsys.readouterr().err == ""
        tiny_pipeline.set_progress_bar_config(desc="restoring")
        tiny_pipeline(**arguments)
        assert "restoring: 100%" in capsys.readouterr().err
    finally:
        tiny_pipeline.set_progress_bar_config()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_in_another_precision(tiny_weights, arguments, dtype):
    """The network computes in it; images, kernels and the degradation model stay in single precision."""
    whole = BlindDiffPipeline.from_pretrained(tiny_weights, "cpu")
    other = BlindDiffPipeline.from_pretrained(tiny_weights, "cpu", torch_dtype=dtype)
    assert {p.dtype for p in other.network.parameters()} == {dtype}
    assert other.network.alpha_bar.dtype == torch.float32
    expected, out = (pipe(**arguments, generator=seeded()) for pipe in (whole, other))
    assert out.images.dtype == out.kernels.dtype == torch.float32
    limit = 0.03 if dtype == torch.bfloat16 else 1e-4
    assert 0 < float((out.images - expected.images).abs().mean()) < limit


def test_saved_and_loaded_it_is_the_same(tiny_pipeline, arguments, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path)
    again = BlindDiffPipeline.from_pretrained(tmp_path).to("cpu")
    expected, out = (pipe(**arguments, generator=seeded()) for pipe in (tiny_pipeline, again))
    assert torch.allclose(out.images, expected.images, atol=1e-5)


def test_the_former_name_of_the_weights_still_works(tiny_weights):
    with pytest.warns(DeprecationWarning, match="weights"):
        pipe = BlindDiffPipeline.from_pretrained(weights=tiny_weights, device="cpu")
    assert pipe.network.config.dim == 8
    with pytest.raises(ParameterError, match="unknown option 'weight'"):
        BlindDiffPipeline.from_pretrained(weight=tiny_weights)


def test_signatures_extend_those_of_diffusers():
    ours = inspect.signature(BlindDiffPipeline.from_pretrained).parameters
    for name in inspect.signature(DiffusionPipeline.from_pretrained).parameters:
        assert name in ours
