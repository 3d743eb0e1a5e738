"""How an image goes on beyond its edge, against numpy's padding."""

import numpy as np
import pytest
import torch

from blinddiff.degradation.resize import Border, border_indices, extend, extend_adjoint

NUMPY_MODES: dict[Border, str] = {"reflect": "reflect", "symmetric": "symmetric", "circular": "wrap"}
MARGINS = [((0, 0), (0, 0)), ((2, 1), (0, 3)), ((9, 11), (13, 4))]  # the last: more than the image itself


@pytest.mark.parametrize("border", NUMPY_MODES)
@pytest.mark.parametrize(("rows", "columns"), MARGINS)
@pytest.mark.parametrize("size", [(4, 5), (1, 3), (2, 1)])
def test_extend_is_numpys_padding(
    border: Border, rows: tuple[int, int], columns: tuple[int, int], size: tuple[int, int]
) -> None:
    x = np.random.default_rng(0).random((2, 3, *size))
    # numpy.pad's type stubs know no mode held in a variable
    expected = np.pad(x, ((0, 0), (0, 0), rows, columns), mode=NUMPY_MODES[border])  # type: ignore[call-overload]
    np.testing.assert_array_equal(extend(torch.from_numpy(x), rows, columns, border).numpy(), expected)


@pytest.mark.parametrize("border", NUMPY_MODES)
@pytest.mark.parametrize(("rows", "columns"), MARGINS)
@pytest.mark.parametrize("size", [(4, 5), (1, 3)])
def test_extend_adjoint(border: Border, rows: tuple[int, int], columns: tuple[int, int], size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, *size, generator=generator, dtype=torch.float64)
    extended = extend(x, rows, columns, border)
    z = torch.rand(extended.shape, generator=generator, dtype=torch.float64)
    folded = extend_adjoint(z, rows, columns, border)
    assert folded.shape == x.shape
    torch.testing.assert_close((extended * z).sum(), (x * folded).sum(), rtol=1e-12, atol=0)


def test_documented_letters() -> None:
    def spell(border: Border) -> str:
        return "".join("abcd"[i] for i in border_indices(4, 3, 3, border))

    assert spell("reflect") == "dcbabcdcba"
    assert spell("symmetric") == "cbaabcddcb"
    assert spell("circular") == "bcdabcdabc"
