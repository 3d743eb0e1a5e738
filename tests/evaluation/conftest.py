"""Made images, a folder of test sets with them, and the public test sets where this machine has them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from blinddiff.models.mcformer import MCFormer

REPOSITORY = Path(__file__).resolve().parents[2]


def made_image(height: int, width: int, seed: int) -> np.ndarray:
    """Smooth colour with edges, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.standard_normal((height, width, 3)), (4, 4, 0))
    smooth = 0.5 + 0.2 * smooth / smooth.std()
    smooth[height // 3 : height // 2, width // 4 : width // 2] += 0.3
    return (np.clip(smooth, 0, 1) * 255).round().astype(np.uint8)


@pytest.fixture
def image() -> torch.Tensor:
    """(3, 48, 52) float64 in [0, 1]."""
    return torch.from_numpy(made_image(48, 52, 0) / 255.0).permute(2, 0, 1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of test sets: Set5 with three made images (one grey), of sizes that are no multiples of the scales."""
    folder = tmp_path / "data"
    (folder / "Set5").mkdir(parents=True)
    for number, (height, width) in enumerate([(66, 61), (57, 70)]):
        Image.fromarray(made_image(height, width, number)).save(folder / "Set5" / f"image_{number}.png")
    Image.fromarray(made_image(64, 64, 2)[..., 0]).save(folder / "Set5" / "image_10.png")
    return folder


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small network of random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    network = MCFormer(dim=8, num_blocks=(1, 1), heads=(1, 2), embedding_dim=16, estimator_hidden=16)
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def public_data() -> Path:
    """The public test sets."""
    named = os.environ.get("BLINDDIFF_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data" / "test"
    if not (folder / "Set5").is_dir():
        pytest.skip("the public test sets are not on this machine (set BLINDDIFF_DATA)")
    return folder
