"""The sampler's images on disk, when a result is too large for the memory."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from blinddiff.files import release_pages, zeros_on_disk

PART = 1 << 22
"""Elements computed at once; a multiple of 16, because torch draws normal numbers by 16."""
_aten = torch.ops.aten
_SHAPE_AT = {_aten.zeros.default: 0, _aten.new_zeros.default: 1, _aten.randn.default: 0, _aten.randn.generator: 0}
"""Operations that make an image, with the position of its shape in their arguments."""
_BY_PIXEL = {
    _aten.clone.default,
    _aten._to_copy.default,
    _aten.copy_.default,
    _aten.cat.default,
    _aten.mean.dim,
    _aten.std.correction,
}
"""Operations that treat every pixel by itself, beside those that torch marks as pointwise."""


class ImagesOnDisk(TorchDispatchMode):
    """Within this context, torch makes images (..., H, W) of one size on disk, see `zeros_on_disk`; all else as usual.

    The loop and its parts work as in memory, with the same results: an operation on whole images that treats every
    pixel by itself is computed in bands of rows. Crops, such as those of tiles, are read and written where they are.
    Other operations on whole images, such as Fourier transforms, are computed in memory. For tensors on the CPU.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._size = torch.Size(size)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """One operation of torch."""
        kwargs = kwargs or {}
        if func in _SHAPE_AT and torch.Size(shape := args[_SHAPE_AT[func]])[-2:] == self._size:
            like = args[0] if isinstance(args[0], Tensor) else torch.empty(0)
            image = _on_disk(shape, kwargs.get("dtype") or like.dtype)
            if func.overloadpacket is _aten.randn:
                for part in _parts(image.view(-1)):
                    part.normal_(generator=kwargs.get("generator"))
                    release_pages()
            return image
        whole = [each for each in tree_leaves((args, kwargs)) if self._is_whole(each)]
        if whole and func is _aten.slice.Tensor:
            release_pages()  # those of the crop before
        if whole and (func in _BY_PIXEL or torch.Tag.pointwise in func.tags):
            return self._in_bands(func, args, kwargs, PART * self._size[0] // max(each.numel() for each in whole))
        return func(*args, **kwargs)

    def _is_whole(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.shape[-2:] == self._size

    def _in_bands(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], rows: int) -> Any:
        """Compute an operation in bands of rows."""
        height, rows = self._size[0], max(1, rows)
        image = args[0] if func._schema.is_mutable else None
        for top in range(0, height, rows):

            def band(value: Any, first: int = top) -> Any:
                is_high = isinstance(value, Tensor) and value.ndim > 1 and value.shape[-2] == height
                return value[..., first : first + rows, :] if is_high else value

            part = func(*tree_map(band, args), **tree_map(band, kwargs))
            if part.shape[-2:] != (min(rows, height - top), self._size[1]):  # such as the mean of all pixels
                return func(*args, **kwargs)
            if image is None:
                image = _on_disk((*part.shape[:-2], *self._size), part.dtype)
            if image is not args[0]:
                band(image).copy_(part)
            release_pages()
        return image


def _on_disk(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Zeros of a type that NumPy may not have."""
    return torch.from_numpy(zeros_on_disk((math.prod(shape) * dtype.itemsize,), np.uint8)).view(dtype).view(*shape)


def _parts(flat: Tensor) -> Iterator[Tensor]:
    """Parts of `PART` elements of (n,); the last is longer, not shorter."""
    starts = range(0, max(1, len(flat) - PART + 1), PART)
    for start in starts:
        yield flat[start : len(flat) if start == starts[-1] else start + PART]
