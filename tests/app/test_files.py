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
    files = Files(tmp_path, grace=0)
    own, shared = upload(files, "own"), upload(files, "shared")
    files.uses("ann", own)
    for visitor in ("ann", "ben"):
        files.uses(visitor, shared)
    anns, bens = files.new_folder("ann"), files.new_folder("ben")
    files.leave("ann")
    files.sweep()
    assert not own.exists()
    assert not anns.exists()
    assert shared.exists()
    assert bens.exists()
    for visitor in ("ben", "nobody"):
        files.leave(visitor)
    files.sweep()
    assert not any(tmp_path.iterdir())


def test_a_connection_that_breaks_off_loses_nothing(tmp_path):
    files = Files(tmp_path, grace=0.2)
    result = files.new_folder("ann")
    files.leave("ann")
    files.sweep()
    assert result.exists()
    more = files.new_folder("ann")  # she is back
    time.sleep(0.3)
    files.sweep()
    assert result.exists()
    assert more.exists()
    files.leave("ann")
    time.sleep(0.3)
    files.sweep()
    assert not any(tmp_path.iterdir())


def test_results_are_no_uploads(tmp_path):
    files = Files(tmp_path)
    (files.new_folder("ann") / "result.png").write_bytes(bytes(1000))
    upload(files, "own")
    assert files.uploaded() == 1


def test_only_in_its_own_folder(tmp_path):
    (tmp_path / "page").mkdir()
    files = Files(tmp_path / "page", grace=0)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    files.uses("ann", elsewhere / "photo.png")
    files.leave("ann")
    files.sweep()
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
