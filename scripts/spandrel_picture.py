"""Writes docs/images/guides/spandrel.webp: a sample, enlarged by bicubic interpolation and by the weights in spandrel.

    python scripts/spandrel_picture.py

Needs the extra spandrel.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from spandrel import ImageModelDescriptor, ModelLoader

from blinddiff.files import DEFAULT_WEIGHTS
from blinddiff.integrations.spandrel import install

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "src" / "blinddiff" / "samples" / "flowers.jpg"
PICTURE = ROOT / "docs" / "images" / "guides" / "spandrel.webp"
PART = (48, 36, 144, 108)
"""Left, top, right and bottom of the part of the sample that is shown."""


def write(path: Path) -> None:
    """Write both enlargements side by side."""
    install()
    model = ModelLoader("cpu").load_from_file(DEFAULT_WEIGHTS / "network" / "diffusion_pytorch_model.safetensors")
    assert isinstance(model, ImageModelDescriptor)
    sample = Image.open(SAMPLE).convert("RGB").crop(PART)
    y = torch.from_numpy(np.asarray(sample, np.float32) / 255).movedim(-1, 0)[None]
    result = (255 * model(y)[0].movedim(0, -1)).round().byte().numpy()
    width, height = (model.scale * side for side in sample.size)
    sheet = Image.new("RGB", (2 * width + 8, height), "white")
    sheet.paste(sample.resize((width, height), Image.Resampling.BICUBIC))
    sheet.paste(Image.fromarray(result), (width + 8, 0))
    sheet.save(path, quality=85)


if __name__ == "__main__":
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    write(PICTURE)
