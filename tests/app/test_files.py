"""Nothing of a visitor stays, and nothing of another's is taken along."""

import os
import stat
import time

from blinddiff.app.files import Files, private_files


def upload(files, name):
    folder = files.folder / name
    folder.mkdir()
    (folder / "photo.png").write_bytes(b"x")
    return folder / "photo.png"


def test_the_folder_is_private_and_goes_in_the_end():
    with private_files() as files:
        assert stat.S_IMODE(files.folder.stat().st_mode) == 0o700
        first, second = files.new_folder("ann"), files.new_folder("ann")
        assert first != second
        assert len(first.name) == 32
    assert not files.folder.exists()


def test_what_a_visitor_leaves(tmp_path):
    files = Files(tmp_path)
    own, shared = upload(files, "own"), upload(files, "shared")
    files.uses("ann", own)
    for visitor in ("ann", "ben"):
        files.uses(visitor, shared)
    anns, bens = files.new_folder("ann"), files.new_folder("ben")
    files.forget("ann")
    assert not own.exists()
    assert not anns.exists()
    assert shared.exists()
    assert bens.exists()
    files.forget("ben")
    assert not any(tmp_path.iterdir())
    files.forget("nobody")


def test_only_in_its_own_folder(tmp_path):
    (tmp_path / "page").mkdir()
    files = Files(tmp_path / "page")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    files.uses("ann", elsewhere / "photo.png")
    files.forget("ann")
    assert elsewhere.exists()


def test_sweeping(tmp_path):
    files = Files(tmp_path, kept=60)
    old, used, new = upload(files, "old"), upload(files, "used"), upload(files, "new")
    for path in (old, used):
        os.utime(path.parent, (time.time() - 100,) * 2)
    files.uses("ann", used)  # so it is kept on
    files.sweep()
    assert not old.exists()
    assert used.exists()
    assert new.exists()
