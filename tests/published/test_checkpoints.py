"""The published checkpoints: recorded tensors of the authors' code, and files that are none."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from blinddiff.degradation import Observation
from blinddiff.errors import WeightsError
from blinddiff.published.network import PublishedMCFormer, architecture_name, network_from_published, read_published

REFERENCE = Path(__file__).parents[2] / ".." / "shared" / "reference"
needs_reference = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason="the recorded tensors are not beside the repository"
)


@needs_reference
@pytest.mark.parametrize("name", ["official_small_weights.safetensors", "official_small_checkpoint.pth"])
def test_published_network_reproduces_the_recorded_call(name: str) -> None:
    network = network_from_published(read_published(REFERENCE / name)).eval()
    recorded = load_file(REFERENCE / "official_outputs.safetensors")
    with torch.no_grad():
        said = network(recorded["forward.x"], recorded["forward.t"], Observation(recorded["forward.y"], 4))
    out = torch.cat([said.noise, said.variance], 1)
    torch.testing.assert_close(out, recorded["forward.out"], atol=1e-5, rtol=0)
    # The published code correlates with its kernels; ours are convolved with.
    kernel = said.degradation.kernel.flip(-1, -2).flatten(1)
    torch.testing.assert_close(kernel, recorded["forward.kernel"], atol=1e-5, rtol=0)


@needs_reference
def test_published_network_survives_a_round_trip(tmp_path: Path) -> None:
    network = network_from_published(read_published(REFERENCE / "official_small_checkpoint.pth"))
    network.save_pretrained(tmp_path)
    again = PublishedMCFormer.from_pretrained(tmp_path).state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again[name], value, atol=0, rtol=0)


def test_older_configs_name_their_architecture_by_their_prediction() -> None:
    assert architecture_name({"_class_name": "MCFormer", "prediction": "noise"}) == "PublishedMCFormer"
    assert architecture_name({"_class_name": "MCFormer", "prediction": "residual"}) == "MCFormer"
    assert architecture_name({"_class_name": "UNet2DModel"}) == "UNet2DModel"
    assert architecture_name({}) is None


def test_another_networks_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"params": {"conv.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"patch_embed\.proj\.weight is missing"):
        network_from_published(read_published(tmp_path / "other.pth"))


@needs_reference
@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("k_mlp.2.bias", "kernel_mlp.2.bias"),
        ("encoder_level2.0.attn.temperature", "encoder_level2.0.attn.temperature"),
    ],
)
def test_a_missing_tensor_is_named(missing: str, named: str) -> None:
    state = read_published(REFERENCE / "official_small_checkpoint.pth")
    del state[missing]
    with pytest.raises(WeightsError, match=re.escape(named)):
        network_from_published(state)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (marker,))

    torch.save({"params": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        read_published(tmp_path / "evil.pth")
    assert not marker.exists()


def test_a_file_that_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(WeightsError, match=r"text\.pth: cannot be read as weights"):
        read_published(tmp_path / "text.pth")
    with pytest.raises(WeightsError, match="no such file"):
        read_published(tmp_path / "absent.pth")


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match=r"net\.pth: cannot be read as weights: \w+"):
        read_published(path)
