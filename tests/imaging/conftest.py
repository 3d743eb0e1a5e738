import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Encode = Callable[..., bytes]


@pytest.fixture
def colours() -> NDArray[np.uint8]:
    """An RGB image, wider than high, with no symmetry."""
    return np.random.default_rng(7).integers(0, 256, (13, 22, 3), dtype=np.uint8)


@pytest.fixture
def encode() -> Encode:
    """Return the bytes of a file that Pillow, which is not under test, makes of a picture."""

    def encode(picture: Image.Image, kind: str = "PNG", **settings: object) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, format=kind, **settings)
        return buffer.getvalue()

    return encode
