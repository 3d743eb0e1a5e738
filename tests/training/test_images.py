"""Training photographs: folders, tile sheets, what is held out, and random crops."""

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from blinddiff.errors import BlindDiffError, ImageError, RecipeError
from blinddiff.training.data import ImagePool

Pixels = npt.NDArray[np.uint8]


def coordinates(height: int, width: int) -> Pixels:
    """An image that says where each of its pixels is: (row, column, 77)."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, 77)], -1).astype(np.uint8)


def save(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def flat(colour: int, size: int = 40) -> Pixels:
    return np.full((size, size, 3), colour, dtype=np.uint8)


def colours(pool: ImagePool) -> list[int]:
    return sorted(int(image[0, 0, 0]) for image in pool.images)


def make_sheets(folder: Path, count: int = 2) -> None:
    """Sheets of 2x2 tiles; tile t of all is flat grey 10 t and comes from set/photo_(t // 2).jpg."""
    folder.mkdir()
    rows = []
    for sheet in range(count):
        pixels = np.zeros((512, 512, 3), dtype=np.uint8)
        for tile in range(4):
            row, col = divmod(tile, 2)
            number = 4 * sheet + tile
            pixels[row * 256 : (row + 1) * 256, col * 256 : (col + 1) * 256] = 10 * number
            rows.append(
                {"sheet": f"s{sheet}.png", "row": row, "col": col, "source_image": f"set/photo_{number // 2}.jpg"}
            )
        Image.fromarray(pixels).save(folder / f"s{sheet}.png")
    with (folder / "tiles.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def test_folders_are_searched_through(tmp_path: Path) -> None:
    save(tmp_path / "a" / "one.png", flat(10))
    save(tmp_path / "a" / "deep" / "two.JPG", flat(20))
    save(tmp_path / "b" / "three.webp", flat(30))
    (tmp_path / "a" / "notes.txt").write_text("not a photograph")
    pool = ImagePool([str(tmp_path / "a"), str(tmp_path / "b")], [], 8)
    assert colours(pool) == pytest.approx([10, 20, 30], abs=2)


def test_grey_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    save(tmp_path / "grey.png", np.full((40, 50), 90, dtype=np.uint8))
    save(tmp_path / "alpha.png", np.full((40, 50, 4), 120, dtype=np.uint8))
    pool = ImagePool([str(tmp_path)], [], 8)
    assert all(image.shape == (40, 50, 3) and image.dtype == np.uint8 for image in pool.images)


def test_tile_sheets_are_cut_into_their_tiles(tmp_path: Path) -> None:
    make_sheets(tmp_path / "tiles")
    pool = ImagePool([str(tmp_path / "tiles")], [], 256)
    assert colours(pool) == [0, 10, 20, 30, 40, 50, 60, 70]
    for tile in pool.images:
        assert tile.shape == (256, 256, 3)
        assert tile.min() == tile.max(), "no crop may cross from one tile into the next"


def test_held_out_photographs_are_left_out(tmp_path: Path) -> None:
    for name, colour in (("x/cat.png", 10), ("x/dog.png", 20), ("y/cat.png", 30)):
        save(tmp_path / name, flat(colour))
    assert colours(ImagePool([str(tmp_path)], ["x/cat.png"], 8)) == [20, 30]
    assert colours(ImagePool([str(tmp_path)], ["cat.png"], 8)) == [20]


def test_held_out_photographs_are_left_out_of_tiles(tmp_path: Path) -> None:
    make_sheets(tmp_path / "tiles")
    pool = ImagePool([str(tmp_path / "tiles")], ["set/photo_1.jpg", "photo_3.jpg"], 256)
    assert colours(pool) == [0, 10, 40, 50]


def test_small_photographs_are_left_out(tmp_path: Path) -> None:
    save(tmp_path / "small.png", flat(10, 39))
    save(tmp_path / "narrow.png", flat(20, 200)[:30])
    save(tmp_path / "enough.png", flat(30, 40))
    assert colours(ImagePool([str(tmp_path)], [], 40)) == [30]


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    save(tmp_path / "small.png", flat(10))
    with pytest.raises(RecipeError, match=f"no photograph of at least 64 px in {tmp_path}"):
        ImagePool([str(tmp_path)], [], 64)
    with pytest.raises(RecipeError, match="no photograph"):
        ImagePool([str(tmp_path)], ["small.png"], 8)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=f"{tmp_path / 'none'}: no such folder"):
        ImagePool([str(tmp_path / "none")], [], 8)


@pytest.mark.parametrize("content", [b"", b"words, not pixels", b"\x89PNG\r\n\x1a\n broken"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    save(tmp_path / "good.png", flat(10))
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(BlindDiffError, match=r"bad\.png"):
        ImagePool([str(tmp_path)], [], 8)


def test_grey_of_more_than_8_bits_is_refused(tmp_path: Path) -> None:
    """Pillow's conversion to RGB would clip it to white."""
    Image.fromarray(np.full((16, 16), 30000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ImageError, match=r"deep\.png: .*more than 8 bits"):
        ImagePool([str(tmp_path)], [], 8)


def test_a_missing_sheet_is_named(tmp_path: Path) -> None:
    make_sheets(tmp_path / "tiles")
    (tmp_path / "tiles" / "s1.png").unlink()
    with pytest.raises(BlindDiffError, match=r"s1\.png"):
        ImagePool([str(tmp_path / "tiles")], [], 8)


def test_a_table_without_the_columns_is_named(tmp_path: Path) -> None:
    make_sheets(tmp_path / "tiles")
    (tmp_path / "tiles" / "tiles.csv").write_text("sheet,line\ns0.png,1\n")
    with pytest.raises(BlindDiffError, match=r"tiles\.csv"):
        ImagePool([str(tmp_path / "tiles")], [], 8)


@pytest.mark.parametrize("line", ["s0.png,x,0,a.png", "s0.png,1"])
def test_a_damaged_table_is_named(tmp_path: Path, line: str) -> None:
    make_sheets(tmp_path / "tiles")
    (tmp_path / "tiles" / "tiles.csv").write_text(f"sheet,row,col,source_image\n{line}\n")
    with pytest.raises(RecipeError, match=r"tiles\.csv: row .*, col "):
        ImagePool([str(tmp_path / "tiles")], [], 8)


def orientation(crop: Pixels) -> tuple[int, int, int, int]:
    """How the source's row and column grow along the crop's two axes; checks that the crop is a whole window of it."""
    rows, columns = crop[0].astype(int), crop[1].astype(int)
    steps = [int(np.unique(np.diff(part, axis=axis)).item()) for part in (rows, columns) for axis in (0, 1)]
    assert sorted(map(abs, steps)) == [0, 0, 1, 1]
    return steps[0], steps[1], steps[2], steps[3]


def test_crops_are_windows_in_all_eight_orientations(tmp_path: Path) -> None:
    save(tmp_path / "a.png", coordinates(60, 90))
    pool = ImagePool([str(tmp_path)], [], 32)
    crops = pool.crops(200, 32, np.random.default_rng(0))
    assert crops.shape == (200, 3, 32, 32)
    assert crops.dtype == np.uint8
    assert (crops[:, 2] == 77).all(), "channels come first"
    assert len({orientation(crop) for crop in crops}) == 8
    assert crops[:, 0].min() == 0
    assert crops[:, 0].max() == 59, "the last rows are reached"
    assert crops[:, 1].max() == 89


@pytest.mark.parametrize("reduced", [0.0, 0.5])
def test_crops_are_those_of_the_generator(tmp_path: Path, reduced: float) -> None:
    save(tmp_path / "a.png", coordinates(60, 90))
    pool = ImagePool([str(tmp_path)], [], 32)
    first, again, other = (pool.crops(8, 32, np.random.default_rng(seed), reduced) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_every_pixel_is_alike_likely(tmp_path: Path) -> None:
    save(tmp_path / "small.png", flat(10, 50))
    save(tmp_path / "large.png", flat(200, 100))
    pool = ImagePool([str(tmp_path)], [], 16)
    crops = pool.crops(1000, 16, np.random.default_rng(0))
    assert (crops[:, 0, 0, 0] == 200).mean() == pytest.approx(0.8, abs=0.05)


def checkered(height: int, width: int) -> Pixels:
    """As `coordinates`, with a chess board of single pixels in the last channel."""
    image = coordinates(height, width)
    image[..., 2] = 255 * (np.add(*np.mgrid[:height, :width]) % 2)
    return image


def factors(crops: Pixels) -> npt.NDArray[np.float64]:
    """How many of the photograph's pixels a crop's pixel spans, by the coordinates shown: (count, 2), down and right.

    To 0.02 at 64 pixels, for coordinates are whole numbers; away from the edges, where a reduction sees less.
    """
    inner = crops[:, :2, 4:-4, 4:-4].astype(float)
    steps = [np.abs(inner[..., -1, :] - inner[..., 0, :]), np.abs(inner[..., -1] - inner[..., 0])]
    return np.maximum(*(step.mean(-1) for step in steps)) / (inner.shape[-1] - 1)


def test_reduced_crops_are_of_photographs_made_smaller_by_up_to_two(tmp_path: Path) -> None:
    save(tmp_path / "a.png", checkered(200, 240))
    pool = ImagePool([str(tmp_path)], [], 64)
    crops = pool.crops(300, 64, np.random.default_rng(0), reduced_share=1.0)
    assert crops.shape == (300, 3, 64, 64)
    assert crops.dtype == np.uint8
    down, right = factors(crops).T
    np.testing.assert_allclose(down, right, atol=0.04, err_msg="both sides are reduced alike")
    assert 0.98 <= down.min() < 1.05
    assert 1.95 < down.max() <= 2.02
    assert down.mean() == pytest.approx(1.5, abs=0.06), "factors are uniform"
    assert crops[:, 0].min() <= 1
    assert crops[:, 0].max() >= 198, "the last rows are reached"
    assert crops[:, 1].max() >= 238
    # What is too fine for the smaller photograph is averaged, not sampled: of 127 little contrast is left.
    contrast = crops[:, 2, 4:-4, 4:-4].std((1, 2))
    assert contrast[down > 1.6].max() < 25


def test_reduced_crops_have_a_share(tmp_path: Path) -> None:
    save(tmp_path / "a.png", coordinates(200, 240))
    pool = ImagePool([str(tmp_path)], [], 64)
    crops = pool.crops(400, 64, np.random.default_rng(0), reduced_share=0.3)
    whole = np.ptp(crops[:, 0].reshape(400, -1), axis=1) == 63
    assert 1 - whole.mean() == pytest.approx(0.3, abs=0.07)
    for crop in crops[whole]:
        orientation(crop)


def test_photographs_are_not_reduced_below_the_crops_size(tmp_path: Path) -> None:
    save(tmp_path / "exact" / "a.png", coordinates(64, 64))
    save(tmp_path / "narrow" / "a.png", coordinates(64, 200))
    save(tmp_path / "larger" / "a.png", coordinates(80, 200))
    exact, narrow, larger = (
        ImagePool([str(tmp_path / name)], [], 64).crops(100, 64, np.random.default_rng(0), reduced_share=1.0)
        for name in ("exact", "narrow", "larger")
    )
    for crop in (*exact, *narrow):
        orientation(crop)
    assert (np.ptp(exact.reshape(100, 3, -1), axis=2) == (63, 63, 0)).all()
    assert 1.2 < factors(larger).max() <= 80 / 64 + 0.02


def test_without_a_share_to_reduce_crops_are_what_they_were(tmp_path: Path) -> None:
    """Drawn here as before there was such a share: an old recipe trains on the same crops."""
    save(tmp_path / "a.png", coordinates(200, 240))
    save(tmp_path / "b.png", coordinates(90, 70))
    pool = ImagePool([str(tmp_path)], [], 64)
    rng = np.random.default_rng(3)
    expected = []
    for index in rng.choice(2, 50, p=np.divide([200 * 240, 90 * 70], 200 * 240 + 90 * 70)):
        height, width = pool.images[index].shape[:2]
        top, left = int(rng.integers(height - 64 + 1)), int(rng.integers(width - 64 + 1))
        crop = np.rot90(pool.images[index][top : top + 64, left : left + 64], int(rng.integers(4)))
        expected.append((crop[::-1] if rng.random() < 0.5 else crop).transpose(2, 0, 1))
    np.testing.assert_array_equal(pool.crops(50, 64, np.random.default_rng(3), reduced_share=0.0), np.stack(expected))
    np.testing.assert_array_equal(pool.crops(50, 64, np.random.default_rng(3)), np.stack(expected))
