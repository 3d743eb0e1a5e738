"""The log survives a kill, and refuses to mix runs."""

import json
from pathlib import Path

import pytest

from blinddiff.errors import OutputError
from blinddiff.evaluation.records import FORMAT, RECORD, ImageResult, ResultLog
from blinddiff.files import write_file

RESULTS = Path(__file__).parents[2] / "results"
RUN = {"protocol": "gaussian8", "seed": 0}
METHODS = {"bicubic": "", "fidelity": "abc", "external": None}
IMAGES = {"Set5/a": "1", "Set5/b": "2"}


def result(name: str, error: str | None = None, method: str = "bicubic") -> ImageResult:
    return ImageResult(method, "Set5", name, 0, {} if error else {"psnr_y": 30.0}, "abc", error)


def test_results_are_on_disk_as_they_come(tmp_path: Path) -> None:
    with ResultLog(tmp_path, RUN, METHODS, IMAGES) as log:
        log.append([result("b"), result("a")])
    again = ResultLog(tmp_path, RUN, METHODS, IMAGES)
    assert again.results == log.results
    assert again.results["bicubic", "Set5", "a", 0].metrics == {"psnr_y": 30.0}


def test_a_line_cut_off_by_a_kill_is_done_again(tmp_path: Path) -> None:
    with ResultLog(tmp_path, RUN, METHODS, IMAGES) as log:
        log.append([result("a"), result("b")])
    text = log.path.read_text()
    log.path.write_text(text[:-20])
    again = ResultLog(tmp_path, RUN, METHODS, IMAGES)
    assert [key[2] for key in again.results] == ["a"]
    again.append([result("b")])
    assert len(again.path.read_text().splitlines()) == 3
    assert all(json.loads(line) for line in again.path.read_text().splitlines())


def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    ResultLog(tmp_path, RUN, METHODS, IMAGES).append([result("a", error="a.png: no such image")])
    assert ResultLog(tmp_path, RUN, METHODS, IMAGES).results == {}


def test_order_does_not_show_in_the_finished_log(tmp_path: Path) -> None:
    texts = []
    for order in ("ab", "ba"):
        log = ResultLog(tmp_path / order, RUN, METHODS, IMAGES)
        log.append(result(name) for name in order)
        log.finish()
        texts.append(log.path.read_text())
    assert texts[0] == texts[1]


def test_another_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    ResultLog(tmp_path, RUN, METHODS, IMAGES).append([result("a")])
    with pytest.raises(OutputError, match=r"images\.jsonl: contains a different run \(differs in: seed\)"):
        ResultLog(tmp_path, {**RUN, "seed": 1}, METHODS, IMAGES)


def test_methods_may_be_added_but_not_changed(tmp_path: Path) -> None:
    ResultLog(tmp_path, RUN, {"fidelity": "abc"}, IMAGES).append([result("a", method="fidelity")])
    ResultLog(tmp_path, RUN, {"bicubic": ""}, IMAGES).append([result("a")])
    assert len(ResultLog(tmp_path, RUN, {"fidelity": "abc", "lanczos": ""}, IMAGES).results) == 2
    with pytest.raises(OutputError, match=r"differs in: weights of fidelity"):
        ResultLog(tmp_path, RUN, {"fidelity": "abd"}, IMAGES)


def test_results_from_a_folder_are_read_again(tmp_path: Path) -> None:
    ResultLog(tmp_path, RUN, METHODS, IMAGES).append([result("a"), result("a", method="external")])
    assert [key[0] for key in ResultLog(tmp_path, RUN, METHODS, IMAGES).results] == ["bicubic"]


def test_a_foreign_file_is_left_alone(tmp_path: Path) -> None:
    for precious in (b"precious\n", b"precious", b"\xff\xfe\n", b"\n"):
        (tmp_path / "images.jsonl").write_bytes(precious)
        with pytest.raises(OutputError, match="is not a log of blinddiff evaluate"):
            ResultLog(tmp_path, RUN, METHODS, IMAGES)
        assert (tmp_path / "images.jsonl").read_bytes() == precious


def test_two_runs_cannot_write_to_one_folder(tmp_path: Path) -> None:
    with ResultLog(tmp_path, RUN, METHODS, IMAGES) as log:
        with pytest.raises(OutputError, match="another run is writing there"):
            ResultLog(tmp_path, RUN, {"lanczos": ""}, IMAGES)
        log.append([result("a")])
    ResultLog(tmp_path, RUN, {"lanczos": ""}, IMAGES).append([result("a", method="lanczos")])
    assert len(ResultLog(tmp_path, RUN, METHODS, IMAGES).results) == 2


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with ResultLog(tmp_path, RUN, METHODS, IMAGES) as log:
        log.path.unlink()
        log.path.mkdir()  # so that appending fails, whoever runs this
        with pytest.raises(OutputError, match=r"images\.jsonl: cannot be written"):
            log.append([result("a")])


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        ResultLog(tmp_path / "file", RUN, METHODS, IMAGES)


def test_texts_under_the_longest_name_and_behind_links(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 252 + ".md")
    (tmp_path / "link.md").symlink_to(path)
    write_file(tmp_path / "link.md", "Größe\n".encode())
    assert (tmp_path / "link.md").is_symlink()
    assert path.read_bytes() == "Größe\n".encode()


def test_results_of_a_changed_image_are_done_again(tmp_path: Path) -> None:
    ResultLog(tmp_path, RUN, METHODS, IMAGES).append([result("a"), result("b")])
    ResultLog(tmp_path, RUN, METHODS, {"Set5/b": "2"})  # fewer images, as by --limit
    with ResultLog(tmp_path, RUN, METHODS, {**IMAGES, "Set5/a": "3"}) as again:
        assert [key[2] for key in again.results] == ["b"]
    assert [key[2] for key in ResultLog(tmp_path, RUN, METHODS, {"Set5/b": "2"}).results] == ["b"]


def test_a_log_without_checksums_of_images_goes_on(tmp_path: Path) -> None:
    with ResultLog(tmp_path, RUN, METHODS, IMAGES) as log:
        log.append([result("a")])
    head, *rest = log.path.read_text().splitlines(keepends=True)
    content = json.loads(head)
    del content["images"]
    log.path.write_text(json.dumps(content) + "\n" + "".join(rest))
    assert len(ResultLog(tmp_path, RUN, METHODS, IMAGES).results) == 1


def test_committed_records_have_the_format_of_today() -> None:
    records = [json.loads(path.read_text()) for path in RESULTS.rglob(RECORD)]
    formats = [record["fingerprint"]["format"] for record in records if "fingerprint" in record]
    assert len(formats) >= 12
    assert set(formats) == {FORMAT}


def test_the_record_over_all_sets_of_the_kernel_steps_is_the_mean_of_its_parts() -> None:
    for name in ("gaussian8", "motion", "div2krk", "setting2_noise10"):
        record = json.loads((RESULTS / "kernel_steps" / name / RECORD).read_text())
        combined = json.loads((RESULTS / "kernel_steps" / RECORD).read_text())
        (whole,) = (part for part in combined["sets"] if part["set"] == name)
        for method, means in whole["means"].items():
            parts = [part["means"][method] for part in record["sets"]]
            for metric in ("kernel_psnr", "kernel_psnr_fkp"):
                count = sum(part[metric]["values"] for part in parts)
                total = sum(part[metric]["mean"] * part[metric]["values"] for part in parts)
                assert means[metric]["mean"] == pytest.approx(total / count, abs=1e-9)
