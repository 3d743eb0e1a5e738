"""The pipeline keeps diffusers' habits: callbacks, tuples, dtypes, bars, saving."""

import inspect
import os
import subprocess
import sys

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

    arguments = {**arguments, "as_is": True}  # a grey result would be replaced by a milder one
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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_moving_to_another_precision(tiny_weights, arguments, dtype, caplog):
    """As `torch_dtype`, and without a warning about float32."""
    moved = BlindDiffPipeline.from_pretrained(tiny_weights, "cpu").to(dtype)
    loaded = BlindDiffPipeline.from_pretrained(tiny_weights, "cpu", torch_dtype=dtype)
    out, expected = (pipe(**arguments, generator=seeded()) for pipe in (moved, loaded))
    assert moved.network.dtype == dtype
    assert torch.equal(out.images, expected.images)
    assert moved.to("cpu", torch.float32).network.dtype == torch.float32
    assert moved.to(dtype=dtype, device="cpu").to(device=torch.device("cpu")).network.dtype == dtype
    assert caplog.text == ""


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint16, torch.complex64, torch.bool, torch.float8_e4m3fn])
def test_a_precision_that_a_network_cannot_compute_in(tiny_weights, dtype):
    pipe = BlindDiffPipeline.from_pretrained(tiny_weights, "cpu")
    message = f"a network cannot compute in {dtype} on cpu: use torch.float32, float16 or bfloat16"
    for move in (pipe.to, lambda kind: BlindDiffPipeline.from_pretrained(tiny_weights, "cpu", torch_dtype=kind)):
        with pytest.raises(ParameterError) as caught:
            move(dtype)
        assert str(caught.value) == message
    assert pipe.network.dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"torch_dtype": "float16"}, "torch_dtype must be a torch.dtype, not 'float16'"),
        ({"device": 1.5}, "device '1.5' is not available here"),
        ({"pretrained_model_name_or_path": 5}, "a folder or a repository is needed, not 5"),
    ],
)
def test_wrong_types_of_arguments_of_loading(arguments, message):
    with pytest.raises(ParameterError, match=message):
        BlindDiffPipeline.from_pretrained(**arguments)


def test_offloading_says_why_it_is_not_offered(tiny_pipeline, arguments):
    for name in ("enable_model_cpu_offload", "enable_sequential_cpu_offload", "enable_group_offload"):
        with pytest.raises(ParameterError, match=r"offloading would free only the weights' \d+ MiB; use max_memory"):
            getattr(tiny_pipeline, name)(device="cpu")
    assert torch.isfinite(tiny_pipeline(**arguments).images).all()


FORKED = """
import multiprocessing, sys, warnings, torch
from blinddiff import BlindDiffPipeline
warnings.simplefilter("error")
pipe = BlindDiffPipeline.from_pretrained(sys.argv[1], "cpu")
pipe.set_progress_bar_config(disable=True)
torch.set_num_threads(2)
image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))

def work(kind):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        made = BlindDiffPipeline.from_pretrained(sys.argv[1], "cpu") if kind == "loaded" else pipe
        made.set_progress_bar_config(disable=True)
        out = made(image, 2, generator=torch.Generator().manual_seed(0), output_type="pt").images
    return out.numpy(), [str(each.message) for each in warned], torch.get_num_threads()

if __name__ == "__main__":
    expected, warned, threads = work("inherited")
    assert (warned, threads) == ([], 2)
    for kind in ("inherited", "loaded"):
        with multiprocessing.get_context("fork").Pool(1) as pool:
            found, warned, threads = pool.map_async(work, [kind]).get(60)[0]
        assert abs(found - expected).max() < 1e-5
        assert threads == 1
        assert len(warned) == 1 and "a forked process uses one thread" in warned[0], warned
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_works(tiny_weights):
    """It would wait for ever for threads that only its parent has."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", FORKED, tiny_weights], check=True, timeout=100, env=environment)
