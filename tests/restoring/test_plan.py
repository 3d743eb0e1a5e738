"""Which files are photographs, and what their results are called."""

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blinddiff.errors import ImageError, OutputError
from blinddiff.restoring.folder import make_plan, result_names


def names(plan):
    return [job.name for job in plan.jobs]


def outputs(plan):
    return {job.name: job.output for job in plan.jobs}


def test_structure_is_kept_and_other_files_are_left_alone(tmp_path, photograph):
    source = tmp_path / "in"
    for name in ("b.png", "a.jpg", "deep/er/c.webp", "deep/d.PNG", "with space/é図.png"):
        photograph(source / name)
    (source / "no extension").write_bytes((source / "b.png").read_bytes())
    (source / "notes.txt").write_text("words")
    (source / "raw.nef").write_bytes(b"II*\0 a camera's raw file")
    (source / ".hidden.png").write_bytes(b"")
    (source / ".cache").mkdir()
    photograph(source / ".cache" / "thumbnail.png")
    plan = make_plan(source, tmp_path / "out", ".png")
    assert outputs(plan) == {
        "a.jpg": "a.png",
        "b.png": "b.png",
        "deep/d.PNG": "deep/d.png",
        "deep/er/c.webp": "deep/er/c.png",
        "no extension": "no extension.png",
        "with space/é図.png": "with space/é図.png",
    }
    assert plan.jobs[2].target == tmp_path / "out" / "deep" / "d.png"
    assert plan.notes == ["2 other files are skipped"]
    assert plan.failures == []


def test_same_format_by_content(tmp_path, photograph):
    for name in ("a.jpg", "b.png", "c.bmp", "d.tiff", "e.webp"):
        photograph(tmp_path / "in" / name)
    (tmp_path / "in" / "lying.png").write_bytes((tmp_path / "in" / "a.jpg").read_bytes())
    plan = make_plan(tmp_path / "in", tmp_path / "out", "same")
    assert list(outputs(plan).values()) == ["a.jpg", "b.png", "c.png", "d.tif", "e.webp", "lying.jpg"]


def test_clashes_are_solved_and_said():
    said = []
    found = result_names(["a.jpg", "a.png", "b.jpg", "A.webp", "c/a.jpg", "d.tar.jpg"], lambda _: ".png", said.append)
    assert found == {
        "A.webp": "A.webp.png",
        "a.jpg": "a.jpg.png",
        "a.png": "a.png.png",
        "b.jpg": "b.png",
        "c/a.jpg": "c/a.png",
        "d.tar.jpg": "d.tar.png",
    }
    assert len(said) == 1
    assert "A.webp, a.jpg, a.png" in said[0]


def test_clashes_of_clashes():
    found = result_names(["a.jpg", "a.png", "a.jpg.jpg", "a.png.webp"], lambda _: ".png", lambda _: None)
    assert found["a.jpg.jpg"] == "a.jpg.png"
    assert found["a.png.webp"] == "a.png.png"
    assert found["a.jpg"] == "a.jpg-2.png"
    assert found["a.png"] == "a.png-2.png"


def test_a_result_does_not_take_the_name_of_a_folder():
    found = result_names(["x.jpg", "x.png/inside.jpg"], lambda _: ".png", lambda _: None)
    assert found["x.jpg"] == "x.jpg.png"
    assert found["x.png/inside.jpg"] == "x.png/inside.png"


def test_two_ways_to_write_an_umlaut_clash():
    composed, apart = (unicodedata.normalize(form, "ü.jpg") for form in ("NFC", "NFD"))
    assert composed != apart
    found = result_names([composed, apart], lambda _: ".png", lambda _: None)
    assert len({unicodedata.normalize("NFC", name) for name in found.values()}) == 2


SEGMENTS = st.text("aAbBüÜ.1-", min_size=1, max_size=4).filter(lambda text: text.strip(".") != "")
PATHS = st.builds(
    lambda folders, stem, suffix: "/".join([*folders, stem + suffix]),
    st.lists(SEGMENTS, max_size=2),
    SEGMENTS,
    st.sampled_from([".jpg", ".JPG", ".png", ".webp", "", ".txt"]),
)


@given(st.sets(PATHS, min_size=1, max_size=12))
def test_no_two_results_share_a_name(paths):
    found = result_names(sorted(paths), lambda _: ".png", lambda _: None)
    keys = [unicodedata.normalize("NFC", name).casefold() for name in found.values()]
    assert len(set(keys)) == len(paths)
    folders = {str(parent).casefold() for name in found.values() for parent in Path(name).parents}
    assert not set(keys) & folders
    for path, name in found.items():
        assert os.path.dirname(path) == os.path.dirname(name)
        assert name.endswith(".png")
    # It depends on the set of names, not on their order.
    assert found == result_names(sorted(paths, reverse=True), lambda _: ".png", lambda _: None)


def test_links_are_followed_once_and_loops_end(tmp_path, photograph):
    source = tmp_path / "in"
    photograph(source / "real" / "a.png")
    photograph(tmp_path / "elsewhere" / "b.png")
    photograph(tmp_path / "elsewhere" / "sub" / "c.png")
    (source / "alias").symlink_to(source / "real")
    (source / "real" / "up").symlink_to(source)
    (source / "real" / "itself").symlink_to("itself")
    (source / "out-of-tree").symlink_to(tmp_path / "elsewhere")
    (source / "again").symlink_to(tmp_path / "elsewhere" / "sub")
    (tmp_path / "elsewhere" / "back").symlink_to(source)
    (source / "file.png").symlink_to(source / "real" / "a.png")
    (source / "gone.png").symlink_to(tmp_path / "nothing.png")
    plan = make_plan(source, tmp_path / "out", ".png")
    assert names(plan) == ["again/c.png", "file.png", "gone.png", "out-of-tree/b.png", "real/a.png"]


def test_many_folders_of_links_to_each_other(tmp_path, photograph):
    source = tmp_path / "in"
    for number in range(12):
        photograph(source / f"{number}" / "a.png")
    for number in range(12):
        for other in range(12):
            (source / f"{number}" / f"to {other}").symlink_to(source / f"{other}")
    assert len(make_plan(source, tmp_path / "out", ".png").jobs) == 12


def test_output_folder_inside_is_left_alone(tmp_path, photograph):
    photograph(tmp_path / "in" / "a.png")
    photograph(tmp_path / "in" / "out" / "a.png")
    assert names(make_plan(tmp_path / "in", tmp_path / "in" / "out", ".png")) == ["a.png"]


def test_photographs_are_never_results(tmp_path, photograph):
    source, output = tmp_path / "in", tmp_path / "out"
    for name in ("a.png", "b.png", "c.png", "sub/d.png"):
        photograph(source / name)
    output.mkdir()
    os.link(source / "a.png", output / "b.png")
    (output / "c.png").symlink_to(source / "sub" / "d.png")
    plan = make_plan(source, output, ".png")
    assert names(plan) == ["a.png", "sub/d.png"]
    assert [name for name, _ in plan.failures] == ["b.png", "c.png"]
    assert all("would overwrite a photograph" in reason for _, reason in plan.failures)
    (tmp_path / "link").symlink_to(source)
    for same in (source, tmp_path / "link", source / "sub" / ".."):
        with pytest.raises(OutputError, match="is the input folder"):
            make_plan(source, same, ".png")
    # From a folder into the one above it.
    plan = make_plan(source / "sub", source, ".png")
    assert outputs(plan) == {"d.png": "d.png"}


def test_the_kernel_is_never_a_result(tmp_path, photograph):
    for path in ("in/a.png", "in/b.png", "out/a.png"):
        photograph(tmp_path / path)
    plan = make_plan(tmp_path / "in", tmp_path / "out", ".png", kernel=tmp_path / "in" / ".." / "out" / "a.png")
    assert names(plan) == ["b.png"]
    reason = f"its result {tmp_path / 'out' / 'a.png'} would overwrite the kernel"
    assert plan.failures == [("a.png", f"{tmp_path / 'in' / 'a.png'}: {reason}")]


def test_folders_without_photographs(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").touch()
    with pytest.raises(ImageError, match="without photographs"):
        make_plan(tmp_path / "in", tmp_path / "out", ".png")


def test_a_folder_that_cannot_be_listed(tmp_path, photograph, monkeypatch):
    for name in ("a.png", "locked/b.png"):
        photograph(tmp_path / "in" / name)
    listed = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    plan = make_plan(tmp_path / "in", tmp_path / "out", ".png")
    assert names(plan) == ["a.png"]
    assert plan.failures == [("locked", f"{tmp_path / 'in' / 'locked'}: cannot be listed: Permission denied")]
