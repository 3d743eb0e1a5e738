"""Results too large for the memory: the same as in memory, with the images in files that vanish."""

import errno
import gc
import os

import pytest
import torch

from blinddiff import files
from blinddiff.errors import ImageError
from blinddiff.files import zeros_on_disk
from blinddiff.sampling import on_disk, restoration
from blinddiff.sampling.on_disk import ImagesOnDisk
from blinddiff.sampling.wrappers import MIN_PLANNED_SIDE, Tiles, plan_tiles


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def arrays_on_disk():
    gc.collect()
    return len(files._arrays_on_disk)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(on_disk, "PART", 1 << 14)


def operations():
    """What the loop does with whole images, and more."""
    noise = torch.randn((2, 3, 70, 50), generator=seeded(3))
    image = torch.ones(1, 3, 7, 5).new_zeros(2, 3, 70, 50)
    image[..., 10:20, 5:15].add_(noise[..., :10, :10])
    mixed = noise.lerp(image, 0.3)
    mixed.lerp_(noise, torch.tensor([0.2, 0.4]).view(2, 1, 1, 1))
    half = mixed.clamp(0, 1).bfloat16()
    chosen = torch.where(mixed > 0.5, mixed, image) + torch.arange(70.0).view(70, 1)
    samples = chosen.unflatten(0, (1, 2))
    leaf = torch.cat([chosen, half.float()]).requires_grad_()
    (gradient,) = torch.autograd.grad((leaf * leaf + leaf.exp() * leaf.detach()).sum(), leaf)
    numbers = [chosen.mean((0, 2, 3)), torch.isfinite(chosen).all()]
    return [noise, image, mixed, half, chosen, samples.std(1), samples.mean(1), leaf.detach(), gradient], numbers


def test_operations_are_those_of_the_memory_to_the_bit():
    images, numbers = operations()
    assert arrays_on_disk() == 0
    with ImagesOnDisk((70, 50)):
        same_images, same_numbers = operations()
    assert arrays_on_disk() == len(images)  # all of these, and nothing else remains
    for one, other in zip(images + numbers, same_images + same_numbers, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    del same_images, other
    assert arrays_on_disk() == 0


@pytest.mark.parametrize(
    ("mode", "options"),
    [("fidelity", {}), ("perceptual", {"num_samples": 2, "num_inference_steps": 2}), ("fast", {"as_is": False})],
)
def test_a_result_is_that_of_the_memory(tiny_pipeline, monkeypatch, mode, options):
    image = torch.rand(1, 3, 150, 190, generator=seeded(1))
    outs = []
    for where in (False, True):
        monkeypatch.setattr(
            restoration,
            "plan_tiles",
            lambda y, scale, network, *_, where=where: Tiles(
                y, scale, network.size_multiple, MIN_PLANNED_SIDE, on_disk=where
            ),
        )
        settings = {"scale": 4, "mode": mode, "generator": seeded(), "output_type": "pt", "as_is": True, **options}
        outs.append(tiny_pipeline(image, **settings))
    assert arrays_on_disk() > 0
    for name in ("images", "kernels", "noise_levels", "residuals", "consistency"):
        assert torch.equal(getattr(outs[0], name), getattr(outs[1], name)), name
    outs.clear()
    assert arrays_on_disk() == 0


def test_images_go_to_the_disk_if_they_leave_no_room_for_a_tile(tiny_pipeline):
    def plan(y, max_memory):
        return plan_tiles(y, 4, tiny_pipeline.network, False, max_memory)

    y = torch.empty(1, 3, 2500, 2500, device="meta")  # 100 megapixels at scale 4
    in_memory, on_the_disk = plan(y, 2**36), plan(y, 4 * 10**9)
    assert not in_memory.on_disk
    assert on_the_disk.on_disk
    assert on_the_disk.side > MIN_PLANNED_SIDE
    assert not plan(torch.empty(1, 3, 100, 100, device="meta"), 1).on_disk  # a single tile
    needs = tiny_pipeline.needs((2500, 2500), 4, "fast", 1, 4 * 10**9)
    assert needs.memory < 4 * 10**9 < tiny_pipeline.needs((2500, 2500), 4, "fast", 1, None).memory


def test_a_full_disk_gives_one_clear_line(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert zeros_on_disk((3, 4)).sum() == 0
    assert list(tmp_path.iterdir()) == []  # without a name
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(ImageError, match=r"0\.0 GB for an image beyond the memory: No space left on device") as error:
        zeros_on_disk((3, 4))
    assert str(tmp_path) in str(error.value)
