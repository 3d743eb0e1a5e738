"""Runs over folders: all photographs are restored, a second run resumes, and one failure stops no other file."""

import json
import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from blinddiff.errors import KernelError, OutputError, ParameterError
from blinddiff.files import lock_folder
from blinddiff.models.mcformer import MCFormer
from blinddiff.restoring.folder import Failed, Listener, make_plan, restore_folder
from blinddiff.restoring.journal import LEDGER
from blinddiff.restoring.pool import Died
from blinddiff.sampling.pipeline import BlindDiffPipeline
from blinddiff.sampling.schedulers import default_scheduler


def results(output):
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in output.rglob("*")
        if path.is_file() and path.name != LEDGER
    }


@pytest.fixture
def source(tmp_path, photograph):
    for name in ("a.png", "b.jpg", "sub/c.png", "sub/d.webp"):
        photograph(tmp_path / "in" / name)
    return tmp_path / "in"


def test_everything_is_done_once(source, tmp_path, settings, here):
    output = tmp_path / "new" / "out"
    records = []
    report = restore_folder(source, output, settings, listener=Listener(record=records.append))
    assert (report.done, report.skipped, report.failures) == (4, 0, [])
    made = results(output)
    assert sorted(made) == ["a.png", "b.png", "sub/c.png", "sub/d.png"]
    assert all(Image.open(output / name).size == (32, 24) for name in made)
    for record in records:
        line = json.loads(record.line())
        assert line["status"] == "done"
        assert (line["width"], line["height"]) == (32, 24)
        assert np.array(line["kernel"]).sum() == pytest.approx(1, abs=1e-3)
        assert line["seconds"] > 0
        expected = np.hypot(line["noise_level"], 12**-0.5)
        assert line["consistency"] == pytest.approx(line["residual_rms"] / expected, rel=1e-3)

    again = []
    report = restore_folder(source, output, settings, listener=Listener(record=again.append))
    assert (report.done, report.skipped, report.failures) == (0, 4, [])
    assert len(here) == 4
    assert results(output) == made
    facts = {record.input: record.facts for record in records}
    assert {record.input: record.facts for record in again} == facts
    assert {record.status for record in again} == {"skipped"}


def test_what_was_changed_is_done_again(source, tmp_path, settings, here, photograph):
    output = tmp_path / "out"
    restore_folder(source, output, settings)
    made = results(output)

    def again(**changes):
        del here[:]
        report = restore_folder(source, output, replace(settings, **changes))
        assert report.failures == []
        assert report.done == len(here)
        return sorted(here)

    # Times do not matter, contents do.
    for path in source.rglob("*.png"):
        os.utime(path, (1, 1))
    os.utime(output / "b.png", (2**31, 2**31))
    assert again() == []

    before = os.stat(source / "a.png")
    data = bytearray((source / "a.png").read_bytes())
    Image.fromarray(255 - np.asarray(Image.open(source / "a.png"))).save(source / "a.png")
    os.utime(source / "a.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert again() == ["a.png"]
    (source / "a.png").write_bytes(data)
    (output / "b.png").unlink()
    (output / "sub" / "c.png").write_bytes(made["sub/c.png"][:-20])
    assert again() == ["a.png", "b.jpg", "sub/c.png"]
    assert results(output) == made

    assert len(again(seed=1)) == 4
    assert len(again(seed=1)) == 0
    assert len(again(scale=1)) == 4
    assert len(again()) == 4
    assert results(output) == made


def test_other_weights_are_other_results(source, tmp_path, settings, here, tiny_weights):
    import shutil

    restore_folder(source, tmp_path / "out", settings)
    shutil.copytree(tiny_weights, tmp_path / "copy")
    moved = replace(settings, weights=str(tmp_path / "copy"))
    assert restore_folder(source, tmp_path / "out", moved).skipped == 4
    config = tmp_path / "copy" / "network" / "config.json"
    config.write_text(config.read_text() + "\n")
    assert restore_folder(source, tmp_path / "out", moved).done == 4


def test_a_bad_file_never_stops_the_rest(source, tmp_path, settings, here):
    (source / "0-broken.png").write_bytes((source / "a.png").read_bytes()[:60])
    (source / "sub" / "words.jpg").write_text("words")
    Image.new("RGB", (5, 40)).save(source / "thin.png")
    records = []
    report = restore_folder(source, tmp_path / "out", settings, listener=Listener(record=records.append))
    assert report.done == 4
    reasons = dict(report.failures)
    assert sorted(reasons) == ["0-broken.png", "sub/words.jpg", "thin.png"]
    assert "damaged or cut short" in reasons["0-broken.png"]
    assert "not an image" in reasons["sub/words.jpg"]
    assert "5x40 px is too small" in reasons["thin.png"]
    assert all(str(source / name) in reason for name, reason in reasons.items())
    failed = [json.loads(record.line()) for record in records if record.status == "failed"]
    assert {line["input"]: line["error"] for line in failed} == reasons
    assert all(line["output"] is None for line in failed)
    # A file that failed is tried again.
    assert len(here) == 7
    restore_folder(source, tmp_path / "out", settings)
    assert len(here) == 10


def test_results_that_cannot_be_written(source, tmp_path, settings, here):
    output = tmp_path / "out"
    output.mkdir()
    (output / "sub").write_text("a file where a folder should be")
    (output / "a.png").mkdir()
    report = restore_folder(source, output, settings)
    assert report.done == 1
    reasons = dict(report.failures)
    assert "is a folder" in reasons["a.png"]
    assert "sub: cannot be made" in reasons["sub/c.png"]
    assert all(reason.startswith(f"{source / name}: ") for name, reason in reasons.items())


def test_a_kernel_among_the_results_stays(source, tmp_path, settings, here):
    kernel = tmp_path / "out" / "a.png"
    kernel.parent.mkdir()
    Image.new("L", (3, 3), 9).save(kernel)
    before = kernel.read_bytes()
    report = restore_folder(source, tmp_path / "out", replace(settings, kernel=kernel))
    assert (report.done, [name for name, _ in report.failures]) == (3, ["a.png"])
    assert kernel.read_bytes() == before


def test_settings_that_fit_no_file_are_said_once(source, tmp_path, settings, here, tiny_model):
    with pytest.raises(ParameterError, match="a noise level of -1 is not between"):
        replace(settings, noise_level=-1)
    network = MCFormer(**tiny_model, scales=(2, 4))
    BlindDiffPipeline(network, default_scheduler(network)).save_pretrained(tmp_path / "narrow")
    with pytest.raises(ParameterError, match="scale 3 is not one of 2, 4"):
        restore_folder(source, tmp_path / "out", replace(settings, weights=str(tmp_path / "narrow"), scale=3))
    assert here == []
    with pytest.raises(KernelError, match=r"none\.csv: cannot be read: No such file"):
        restore_folder(source, tmp_path / "out", replace(settings, kernel=tmp_path / "none.csv"))


def test_a_kernel_that_fits_some_files_only(source, tmp_path, settings, here):
    kernel = tmp_path / "k.csv"
    np.savetxt(kernel, np.full((25, 25), 1 / 625), delimiter=",")
    Image.new("RGB", (40, 40)).save(source / "large.png")
    report = restore_folder(source, tmp_path / "out", replace(settings, kernel=kernel))
    assert report.done == 1
    for name, reason in report.failures:
        assert reason == f"{source / name}: {kernel}: a kernel of 25x25 is larger than the result, 32x24 pixels"


def test_formats(tmp_path, settings, here, photograph):
    for name in ("a.png", "b.jpg", "c.webp", "d.tif"):
        photograph(tmp_path / "in" / name)
    restore_folder(tmp_path / "in", tmp_path / "same", settings, "same")
    assert sorted(results(tmp_path / "same")) == ["a.png", "b.jpg", "c.webp", "d.tif"]
    restore_folder(tmp_path / "in", tmp_path / "webp", settings, ".webp")
    assert sorted(results(tmp_path / "webp")) == ["a.webp", "b.webp", "c.webp", "d.webp"]


def test_leftovers_of_a_kill_are_removed(source, tmp_path, settings, here):
    output = tmp_path / "out"
    restore_folder(source, output, settings)
    left = [output / ".blinddiff-0123456789abcdef.tmp", output / "sub" / ".blinddiff-fedcba9876543210.tmp"]
    for path in left:
        path.write_bytes(b"half a file")
    restore_folder(source, output, settings)
    assert not any(path.exists() for path in left)
    assert len(results(output)) == 4


def test_a_ledger_cut_short_by_a_kill_goes_on(source, tmp_path, settings, here):
    output = tmp_path / "out"
    restore_folder(source, output, settings)
    ledger = output / LEDGER
    whole = ledger.read_bytes()
    for cut in (len(whole) - 1, len(whole) - 500, whole.index(b"\n") + 1, 10, 0):
        ledger.write_bytes(whole[:cut])
        del here[:]
        report = restore_folder(source, output, settings)
        assert len(here) == 4 - whole[:cut].count(b"\n") == report.done
        lines = ledger.read_bytes().splitlines()
        assert len(lines) == 4
        assert all(json.loads(line)["output"] for line in lines)
    ledger.write_bytes(b"rubbish\n\xff\xfe\n{}\n[1]\n" + whole)
    assert restore_folder(source, output, settings).skipped == 4


def test_two_runs_do_not_write_to_one_folder(source, tmp_path, settings, here):
    (tmp_path / "out").mkdir()
    with lock_folder(tmp_path / "out"), pytest.raises(OutputError, match="another run is writing there"):
        restore_folder(source, tmp_path / "out", settings)
    assert restore_folder(source, tmp_path / "out", settings).done == 4


def test_a_full_disk_is_a_failure_of_that_file(source, tmp_path, settings, here, monkeypatch):
    from blinddiff.restoring import journal

    synced, full = os.fsync, []

    def fsync(descriptor):
        if len(full) < 2 and os.readlink(f"/proc/self/fd/{descriptor}").endswith(".jsonl"):
            full.append(descriptor)
            raise OSError(28, "No space left on device")
        synced(descriptor)

    monkeypatch.setattr(journal.os, "fsync", fsync)
    report = restore_folder(source, tmp_path / "out", settings)
    assert report.done == 2
    assert all("No space left on device" in reason for _, reason in report.failures)
    monkeypatch.setattr(journal.os, "fsync", synced)
    report = restore_folder(source, tmp_path / "out", settings)
    assert (report.done, report.skipped) == (2, 2)
    assert all(json.loads(line) for line in (tmp_path / "out" / LEDGER).read_bytes().splitlines())


def test_planning_many_files_is_quick(tmp_path, photograph):
    photograph(tmp_path / "one.png")
    data = (tmp_path / "one.png").read_bytes()
    (tmp_path / "in").mkdir()
    for number in range(2000):
        (tmp_path / "in" / f"{number}.png").write_bytes(data)
    started = time.process_time()
    assert len(make_plan(tmp_path / "in", tmp_path / "out", ".png").jobs) == 2000
    assert time.process_time() - started < 5


def test_a_process_that_died_is_a_failure_of_that_file(source, tmp_path, settings, monkeypatch):
    monkeypatch.setattr(
        "blinddiff.restoring.folder.run_tasks", lambda jobs, *_: (_ for _ in [(jobs[0], Died("ended"))])
    )
    report = restore_folder(source, tmp_path / "out", settings)
    assert report.failures == [("a.png", f"{source / 'a.png'}: the process restoring it ended")]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_second_ctrl_c_waits_until_all_is_tidy(source, tmp_path, settings, monkeypatch):
    left = tmp_path / "out" / ".blinddiff-0123456789abcdef.tmp"

    def run_tasks(jobs, *_):
        left.write_bytes(b"half a file")
        try:
            yield jobs[0], Failed("words")
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    def first(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("blinddiff.restoring.folder.run_tasks", run_tasks)
    with pytest.raises(KeyboardInterrupt):
        restore_folder(source, tmp_path / "out", settings, listener=Listener(record=first))
    assert not left.exists()
