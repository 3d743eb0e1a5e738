"""Tiles with the weights of the package, and their memory: what docs/reliability.md says of them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import skimage.data
import torch
from figures import note

from blinddiff.degradation import bicubic_downsample
from blinddiff.sampling import pipeline as pipelines
from blinddiff.sampling.pipeline import BlindDiffPipeline
from blinddiff.sampling.spans import RAMP
from blinddiff.sampling.wrappers import MIN_PLANNED_SIDE, Tiles

SCALE = 4


@pytest.fixture
def restore(monkeypatch):
    """Restore in tiles of a side, or whole."""
    pipeline = BlindDiffPipeline.from_pretrained(device="cpu")

    def restore(image, side):
        monkeypatch.setattr(
            pipelines, "plan_tiles", lambda y, scale, network, *_: Tiles(y, scale, network.size_multiple, side)
        )
        out = pipeline(image, scale=SCALE, generator=torch.Generator().manual_seed(0), output_type="pt")
        return 255 * out.images[0]

    return restore


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_memory_does_not_grow_with_the_result():
    found = {}
    for side in (2048, 4096):
        command = [sys.executable, str(Path(__file__).with_name("tiles.py")), str(side), "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[side] = json.loads(done.stdout)
    note("memory", {str(side): found[side] for side in found})
    assert found[4096]["peak"] < 1.3 * found[2048]["peak"]
    assert found[4096]["peak"] < 2 * found[4096]["image"]  # in memory, the images alone are six times as large


@pytest.mark.long
def test_tiles_against_the_whole(restore):
    sharp = skimage.data.astronaut()[:, :500] / 255
    sharp = np.concatenate([sharp, sharp[:, ::-1]], 1)[:384]  # 1000 pixels wide
    blurred = torch.from_numpy(scipy.ndimage.gaussian_filter(sharp, (0.8, 0.8, 0))).permute(2, 0, 1)
    image = blurred[:, :192, :250].float()
    whole, tiled = restore(image, None), restore(image, MIN_PLANNED_SIDE)
    rms = float((whole - tiled).square().mean().sqrt())
    note("tiles", {"side": MIN_PLANNED_SIDE, "result": list(whole.shape[1:]), "rms": rms})
    assert 0 < rms < 0.5


@pytest.mark.long
def test_no_seam(restore):
    """A texture of the same statistics everywhere: its strength and level near the lattice are those off it."""
    noise = torch.randn(3, 4 * 128, 4 * 272, generator=torch.Generator().manual_seed(1)).numpy()
    texture = torch.from_numpy(0.5 + 0.4 * scipy.ndimage.gaussian_filter(noise, (0, 3, 3)))
    image = bicubic_downsample(texture[None], SCALE)[0].clamp(0, 1)
    result = restore(image, MIN_PLANNED_SIDE)
    width = result.shape[-1]
    spans = Tiles(image[None], SCALE, 16, MIN_PLANNED_SIDE).spans(width)
    near = np.zeros(width - 1, bool)
    for span in spans[1:]:
        cut = span.start + int((span.weights < 0.5).sum())
        near[cut - RAMP // 2 : cut + RAMP // 2] = True
    assert near.any()
    steps = (result[..., 1:] - result[..., :-1]).abs().mean((0, 1)).numpy()
    seam = abs(float(steps[near].mean() - steps[~near].mean()))
    note(
        "seam",
        {"side": MIN_PLANNED_SIDE, "result": list(result.shape[1:]), "levels": seam, "steps": float(steps.mean())},
    )
    assert seam < 1
