"""A journal after a kill, on a full disk, and replaced."""

import pytest

from blinddiff.errors import OutputError
from blinddiff.restoring.journal import Journal


def test_lines_are_read_again_and_found_by_their_offsets(tmp_path):
    journal = Journal(tmp_path / "a.jsonl")
    assert list(journal) == []
    assert journal.path.read_bytes() == b""
    offsets = [journal.append("first", "sécond"), journal.append("third")]
    again = Journal(journal.path)
    assert [line for _, line in again] == ["first", "sécond", "third"]
    assert [again.line(offset) for offset in offsets] == ["first", "third"]


def test_a_line_cut_short_does_not_count(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"whole\n\xff\nshort")
    journal = Journal(path)
    assert [line for _, line in journal] == ["whole", "\ufffd"]
    assert path.read_bytes().endswith(b"short")  # what may be another program's file is not changed by reading it
    assert journal.line(journal.append("next")) == "next"
    assert path.read_bytes() == b"whole\n\xff\nnext\n"


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "a.jsonl")
    journal.append("first")

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr("blinddiff.restoring.journal.os.fsync", full)
        with pytest.raises(OutputError, match=r"a\.jsonl: cannot be written: No space left on device"):
            journal.append("second")
    assert journal.path.read_bytes() == b"first\n"
    journal.append("third")
    assert journal.path.read_bytes() == b"first\nthird\n"


def test_all_lines_replaced(tmp_path):
    journal = Journal(tmp_path / "a.jsonl")
    journal.append("b", "a")
    journal.rewrite(["a", "b"])
    assert journal.line(journal.append("c")) == "c"
    assert journal.path.read_bytes() == b"a\nb\nc\n"


def test_a_folder_in_its_place(tmp_path):
    with pytest.raises(OutputError, match="cannot be opened: Is a directory"):
        Journal(tmp_path)
