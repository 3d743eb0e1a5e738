"""Weights on the disk: what is saved comes back, and what is wrong is said in one line."""

import json
import shutil

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from safetensors.torch import load_file, save_file

from blinddiff.errors import ParameterError, WeightsError
from blinddiff.sampling.pipeline import BlindDiffPipeline
from blinddiff.sampling.schedulers import configured_scheduler

WEIGHTS = "diffusion_pytorch_model.safetensors"


def restored(pipeline, image, **arguments):
    generator = torch.Generator().manual_seed(3)
    arguments = {"scale": 2, "mode": "perceptual", "num_inference_steps": 3, "output_type": "pt", **arguments}
    return pipeline(image, generator=generator, **arguments)


@pytest.mark.parametrize("scheduler", [DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler])
def test_round_trip(tiny_pipeline, photograph, tmp_path, scheduler):
    saved = BlindDiffPipeline(tiny_pipeline.network, configured_scheduler(scheduler, tiny_pipeline.network))
    saved.save_pretrained(tmp_path / "saved")
    loaded = BlindDiffPipeline.from_pretrained(tmp_path / "saved", device="cpu")
    assert loaded.device == torch.device("cpu")
    assert not loaded.network.training
    assert type(loaded.scheduler) is scheduler
    expected, result = restored(saved, photograph), restored(loaded, photograph)
    for name in ("images", "kernels"):
        assert torch.allclose(getattr(result, name), getattr(expected, name), atol=1e-5)
    again = restored(BlindDiffPipeline.from_pretrained(str(tmp_path / "saved"), "cpu"), photograph)
    assert torch.equal(again.images, result.images)


def test_a_folder_of_the_network_alone(tiny_pipeline, photograph, tmp_path):
    """As training writes it."""
    tiny_pipeline.network.save_pretrained(tmp_path / "weights")
    loaded = BlindDiffPipeline.from_pretrained(tmp_path / "weights", device="cpu")
    expected = restored(tiny_pipeline, photograph)
    assert torch.allclose(restored(loaded, photograph).images, expected.images, atol=1e-5)


def test_half_precision_weights(tiny_weights, tiny_pipeline, photograph, tmp_path):
    shutil.copytree(tiny_weights, tmp_path / "half")
    file = tmp_path / "half" / "network" / WEIGHTS
    save_file({name: v.half() if v.is_floating_point() else v for name, v in load_file(file).items()}, file)
    result = restored(BlindDiffPipeline.from_pretrained(tmp_path / "half", "cpu"), photograph)
    assert result.images.dtype == torch.float32
    assert torch.allclose(result.images, restored(tiny_pipeline, photograph).images, atol=0.05)


def edit_config(folder, **changes):
    file = folder / "network" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def edit_weights(folder, edit):
    file = folder / "network" / WEIGHTS
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file)


def overwrite(folder, content):
    (folder / "network" / WEIGHTS).write_bytes(content)


DAMAGES = {
    "another architecture": (lambda f: edit_config(f, _class_name="UNet2DModel"), "holds UNet2DModel, not MCFormer"),
    "no architecture": (lambda f: (f / "network" / "config.json").write_text("{}"), "not MCFormer"),
    "no config": (lambda f: (f / "network" / "config.json").unlink(), "config.json is missing"),
    "config that is no JSON": (lambda f: (f / "network" / "config.json").write_text("{"), "config.json"),
    "config that is a list": (lambda f: (f / "network" / "config.json").write_text("[1]"), "cannot be loaded"),
    "impossible value": (lambda f: edit_config(f, noise_schedule="banana"), "'banana'"),
    "other shapes": (lambda f: edit_config(f, dim=16), r"weight has the shape \(.*, not \("),
    "fewer layers": (lambda f: edit_config(f, num_blocks=[1, 2]), "missing weights"),
    "more layers": (lambda f: edit_config(f, num_blocks=[2, 1]), "missing weights"),
    "more blocks than memory": (lambda f: edit_config(f, num_blocks=[10**8, 1]), "100000001 blocks"),
    "wider than memory": (lambda f: edit_config(f, dim=10**7), "has the shape"),
    "a kernel larger than memory": (lambda f: edit_config(f, kernel_size=10**5 + 1), "has the shape"),
    "a statistician larger than memory": (lambda f: edit_config(f, estimator_hidden=10**9), "has the shape"),
    "a number that is a word": (lambda f: edit_config(f, dim="eight"), "cannot be loaded"),
    "no weights": (lambda f: (f / "network" / WEIGHTS).unlink(), f"{WEIGHTS}"),
    "empty weights": (lambda f: overwrite(f, b""), "cannot be loaded"),
    "damaged weights": (lambda f: overwrite(f, b"\0" * 400), "cannot be loaded"),
    "weights cut short": (lambda f: overwrite(f, (f / "network" / WEIGHTS).read_bytes()[:5000]), "cannot be loaded"),
    "a weight missing": (lambda f: edit_weights(f, lambda w: w.pop("unet.stem.weight")), "missing.*unet.stem.weight"),
    "a weight too many": (
        lambda f: edit_weights(f, lambda w: w.update(a=torch.zeros(1))),
        "1 unexpected weights, as a",
    ),
    "damaged scheduler": (lambda f: (f / "scheduler" / "scheduler_config.json").write_text("{"), "no scheduler"),
    "unknown scheduler": (
        lambda f: (f / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "Banana"}'),
        "no scheduler.*Banana",
    ),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_told(tiny_weights, tmp_path, damage, reason):
    folder = tmp_path / "weights"
    shutil.copytree(tiny_weights, folder)
    damage(folder)
    with pytest.raises(WeightsError, match=reason) as caught:
        BlindDiffPipeline.from_pretrained(folder, "cpu")
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_missing_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "file").touch()
    # "runs/typo" has the form of a name on the hub, which must not be asked: the folder `runs` exists.
    for weights in (tmp_path / "none", "none", "runs/typo", "file", "file/network", "n" * 300):
        with pytest.raises(WeightsError, match=f"{weights}: no such folder of weights"):
            BlindDiffPipeline.from_pretrained(weights, "cpu")
    with pytest.raises(WeightsError, match="runs: holds no weights"):
        BlindDiffPipeline.from_pretrained("runs", "cpu")


def test_unknown_device(tiny_weights):
    with pytest.raises(ParameterError, match="device 'banana'"):
        BlindDiffPipeline.from_pretrained(tiny_weights, "banana")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(tiny_weights, tmp_path, value):
    folder = shutil.copytree(tiny_weights, tmp_path / "weights")
    path = folder / "network" / WEIGHTS
    state = load_file(path)
    state["unet.stem.weight"][0, 0, 0, 0] = value
    save_file(state, path, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"unet\.stem\.weight has values that are not finite"):
        BlindDiffPipeline.from_pretrained(folder, device="cpu")
