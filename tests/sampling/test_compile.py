"""`torch.compile` of the image network gives the results of eager mode."""

import copy
import shutil

import pytest
import torch
from torch import Tensor

from blinddiff.sampling.pipeline import BlindDiffPipeline


@pytest.mark.parametrize(
    "backend",
    [
        # Captures and splits the graph as every backend does, but generates no code. Long, because after certain other
        # tests in the same process dynamo meets a ContextVar that it cannot trace.
        pytest.param("aot_eager", marks=pytest.mark.long),
        pytest.param(
            "inductor",
            marks=[pytest.mark.long, pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")],
        ),
    ],
)
@pytest.mark.parametrize("call", [{"mode": "fidelity"}, {"image_step": "gradient", "num_inference_steps": 1}])
def test_a_compiled_network_gives_the_same_result(
    tiny_pipeline: BlindDiffPipeline, backend: str, call: dict[str, object]
) -> None:
    image = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(5))

    def restored(pipeline: BlindDiffPipeline) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        return pipeline(image, 2, **call, generator=generator, output_type="pt").images  # type: ignore[arg-type]

    counters = torch._dynamo.utils.counters
    torch.compiler.reset()
    counters.clear()
    compiled = copy.deepcopy(tiny_pipeline)
    compiled.network.unet.compile(backend=backend, fullgraph=True)
    torch.testing.assert_close(restored(compiled), restored(tiny_pipeline), rtol=0, atol=1e-4)
    assert counters["stats"]["unique_graphs"] > 0, "otherwise the network was not called as a module"
