"""A visitor's files are removed, and no other visitor's with them."""

import os
import stat
import time

from blinddiff.app.visitor_files import VisitorFiles, private_files


def upload(files, name):
    folder = files.folder / name
    folder.mkdir()
    (folder / "photo.png").write_bytes(b"x")
    return folder / "photo.png"


def test_the_folder_is_private_and_removed_at_the_end():
    with private_files() as files:
        assert stat.S_IMODE(files.folder.stat().st_mode) == 0o700
        first, second = files.new_folder("ann"), files.new_folder("ann")
        assert first != second
        assert len(first.name) == 32
    assert not files.folder.exists()


def test_files_of_a_visitor_who_has_left_are_removed(tmp_path):
    files = VisitorFiles(tmp_path, grace_period=0)
    own, shared = upload(files, "own"), upload(files, "shared")
    files.keep_upload("ann", own)
    for visitor in ("ann", "ben"):
        files.keep_upload(visitor, shared)
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


def test_a_lost_connection_loses_no_files(tmp_path):
    files = VisitorFiles(tmp_path, grace_period=0.2)
    result = files.new_folder("ann")
    files.leave("ann")
    files.sweep()
    assert result.exists()
    more = files.new_folder("ann")  # the visitor is back
    time.sleep(0.3)
    files.sweep()
    assert result.exists()
    assert more.exists()
    files.leave("ann")
    time.sleep(0.3)
    files.sweep()
    assert not any(tmp_path.iterdir())


def test_results_do_not_count_as_uploads(tmp_path):
    files = VisitorFiles(tmp_path)
    (files.new_folder("ann") / "result.png").write_bytes(bytes(1000))
    upload(files, "own")
    assert files.uploaded_bytes() == 1


def test_nothing_outside_the_folder_is_removed(tmp_path):
    (tmp_path / "page").mkdir()
    files = VisitorFiles(tmp_path / "page", grace_period=0)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    files.keep_upload("ann", elsewhere / "photo.png")
    files.leave("ann")
    files.sweep()
    assert elsewhere.exists()


def test_old_unused_files_are_removed(tmp_path):
    files = VisitorFiles(tmp_path, max_age=60)
    old, used, new = upload(files, "old"), upload(files, "used"), upload(files, "new")
    for path in (old, used):
        os.utime(path.parent, (time.time() - 100,) * 2)
    files.keep_upload("ann", used)  # renews it
    files.sweep()
    assert not old.exists()
    assert used.exists()
    assert new.exists()
