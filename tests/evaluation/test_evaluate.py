"""`blinddiff evaluate` from the arguments to the report, on made images."""

import argparse
import csv
import hashlib
import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from PIL import Image

from blinddiff.cli.options import add_evaluate_arguments
from blinddiff.cli.runs import run_evaluate
from blinddiff.errors import BlindDiffError, OutputError, ParameterError, WeightsError
from blinddiff.evaluation import run as running
from blinddiff.evaluation.image_metrics import psnr_y
from blinddiff.evaluation.methods import LanczosMethod, Options
from blinddiff.evaluation.protocols import protocol
from blinddiff.evaluation.report import Table
from blinddiff.evaluation.run import Runner, Settings, evaluate


def run(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    add_evaluate_arguments(parser)
    return run_evaluate(parser.parse_args([*(str(argument) for argument in arguments), "--no-costs"]))


def settings(data: Path, out: Path, **changes: object) -> Settings:
    chosen: dict[str, object] = {
        "protocol": "gaussian8",
        "scale": 4,
        "sets": ("Set5",),
        "methods": ("bicubic", "lanczos"),
        "data": data,
        "out": out,
        "costs": False,
        "pictures": False,
        **changes,
    }
    return Settings(**chosen)  # type: ignore[arg-type]


def lines(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "images.jsonl").read_text().splitlines()[1:]]


def test_one_command_writes_log_record_and_report(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    common = ("--protocol", "gaussian8", "--sets", "Set5", "--data", data, "--out", out)
    assert run(*common, "--methods", "bicubic", "lanczos", "closed-form-oracle") == 0
    assert len(lines(out)) == 3 * 3 * 8
    record = json.loads((out / "record.json").read_text())
    means = record["sets"][0]["means"]
    values = [line["metrics"]["psnr_y"] for line in lines(out) if line["method"] == "lanczos"]  # type: ignore[index]
    assert means["lanczos"]["psnr_y"]["mean"] == pytest.approx(sum(values) / len(values))
    assert means["lanczos"]["psnr_y"]["images"] == 3
    assert means["closed-form-oracle"]["psnr_y"]["mean"] > means["lanczos"]["psnr_y"]["mean"] + 0.5
    assert set(record["versions"]) >= {"python", "torch", "numpy", "blinddiff"}
    assert record["fingerprint"]["seed"] == 0
    assert record["command"].split()[0] == "blinddiff"
    files = sorted((data / "Set5").iterdir())
    named = "\n".join(sorted(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files))
    assert record["data"]["Set5"] == {"images": 3, "sha256": hashlib.sha256(named.encode()).hexdigest()}
    assert record["fingerprint"]["protocol"]["parameters"][0] == "sigma 1.80"
    report = (out / "report.md").read_text()
    for expected in ("**3 of 5 images**", "closed-form-oracle - bicubic", "too few images", "sigma 3.20"):
        assert expected in report
    assert "DCLS" not in report  # its mean is that of all five images
    printed = capsys.readouterr().out
    assert "closed-form-oracle" in printed
    assert "PSNR-Y (dB)" in printed


def test_values_are_those_of_the_metrics_on_the_case(data: Path, tmp_path: Path) -> None:
    evaluate(settings(data, tmp_path, methods=("bicubic",)))
    plan = protocol("gaussian8", 4)
    case = plan.make(plan.references(data, "Set5")[5], 0)
    restored = Runner(settings(data, tmp_path)).methods["bicubic"].restore(case.y, 4, case).image
    eight_bit = (restored.clamp(0, 1) * 255).round() / 255
    line = next(line for line in lines(tmp_path) if (line["name"], line["index"]) == case.id[1:])
    assert case.hr is not None
    assert line["metrics"]["psnr_y"] == pytest.approx(psnr_y(eight_bit.double(), case.hr.double(), 4), abs=1e-4)  # type: ignore[index]


def test_a_killed_run_goes_on_where_it_was(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    original = Runner.run

    def counted(self: Runner, reference, names):  # type: ignore[no-untyped-def]
        made.append(reference.id)
        if len(made) == 5:
            raise KeyboardInterrupt
        return original(self, reference, names)

    monkeypatch.setattr(Runner, "run", counted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(settings(data, tmp_path / "killed"))
    assert len(lines(tmp_path / "killed")) == 4 * 2
    evaluate(settings(data, tmp_path / "killed"))
    assert len(made) == 5 + 20
    evaluate(settings(data, tmp_path / "whole"))
    assert without_time(tmp_path / "killed") == without_time(tmp_path / "whole")


def without_time(out: Path) -> list[dict[str, object]]:
    found = lines(out)
    for line in found:
        line["metrics"].pop("seconds")  # type: ignore[attr-defined]
    return found


def test_a_method_can_be_added_to_a_finished_run(data: Path, tmp_path: Path) -> None:
    evaluate(settings(data, tmp_path, methods=("bicubic",)))
    before = lines(tmp_path)
    outcome = evaluate(settings(data, tmp_path, methods=("bicubic", "lanczos"), limit=1))
    assert [line for line in lines(tmp_path) if line in before] == before
    assert outcome.summaries[0].means["bicubic"]["psnr_y"].images == 1  # the report covers the requested images


def test_several_processes_come_to_the_same_results(data: Path, tmp_path: Path) -> None:
    evaluate(settings(data, tmp_path / "one", limit=1))
    evaluate(settings(data, tmp_path / "two", limit=1, workers=2))
    assert without_time(tmp_path / "one") == without_time(tmp_path / "two")


def test_an_image_that_was_replaced_is_evaluated_again(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluate(settings(data, out, protocol="setting1"))
    before = {(line["name"], line["method"]): line["y_checksum"] for line in lines(out)}
    (data / "Set5" / "image_0.png").write_bytes((data / "Set5" / "image_1.png").read_bytes())
    evaluate(settings(data, out, protocol="setting1"))
    after = {(line["name"], line["method"]): line["y_checksum"] for line in lines(out)}
    assert {key[0] for key in before if before[key] != after[key]} == {"image_0"}
    assert before.keys() == after.keys()


def test_lack_of_memory_costs_one_result(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: object) -> object:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9999999999 bytes")

    monkeypatch.setattr(LanczosMethod, "restore", greedy)
    outcome = evaluate(settings(data, tmp_path, protocol="setting1", limit=1))
    assert [(f.method, f.error) for f in outcome.failures] == [("lanczos", "Set5/image_0/0: memory has run out")]
    assert "psnr_y" in outcome.summaries[0].means["bicubic"]
    monkeypatch.setattr(LanczosMethod, "restore", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # a bug of ours is no result
        evaluate(settings(data, tmp_path, protocol="setting1", limit=1))


class EndedRunner(Runner):
    """A worker whose process is ended from outside."""

    def __call__(self, task: object) -> NoReturn:
        os._exit(1)


def test_a_worker_that_is_ended_is_one_plain_line(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "Runner", EndedRunner)
    with pytest.raises(BlindDiffError, match=r"a worker process ended with exit code 1; to resume, .* fewer --workers"):
        evaluate(settings(data, tmp_path, limit=1, workers=2))


def test_another_seed_needs_another_folder(data: Path, tmp_path: Path) -> None:
    evaluate(settings(data, tmp_path, limit=1))
    with pytest.raises(OutputError, match=r"differs in: seed"):
        evaluate(settings(data, tmp_path, limit=1, seed=1))


def test_impossible_requests_are_refused_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for changes, message in (
        ({"methods": ("magic",)}, "method 'magic' is unknown; choose one of bicubic, "),
        ({"protocol": "magic"}, "protocol 'magic'"),
        ({"sets": ("Set14",)}, "Set14: no images"),
        ({"limit": 0}, "limit: must be at least 1 image, not 0"),
        ({"workers": 0}, "workers: must be at least 1, not 0"),
        ({"methods": ("external",)}, "needs --external FOLDER"),
        (
            {"methods": ("external",), "options": Options(external={"external": tmp_path / ("n" * 300)})},
            "no such folder of results",
        ),
    ):
        with pytest.raises(ParameterError, match=message):
            evaluate(settings(data, out, **changes))
    with pytest.raises(WeightsError, match="nowhere"):
        evaluate(settings(data, out, methods=("fidelity",), options=Options(tmp_path / "nowhere")))
    assert not out.exists()


def test_an_export_refuses_and_names_as_an_evaluation_does(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "Set5" / "broken.png").write_text("not an image")
    common = ("--protocol", "setting1", "--sets", "Set5", "Set5", "--data", data, "--export", tmp_path / "exported")
    for limit in ("0", "-1"):
        with pytest.raises(ParameterError, match=f"limit: must be at least 1 image, not {limit}"):
            run(*common, "--limit", limit)
    assert not (tmp_path / "exported").exists()
    assert run(*common) == 1
    printed = capsys.readouterr()
    assert "not exported: Set5/broken/0:" in printed.err
    assert "3 cases" in printed.out
    assert len(list((tmp_path / "exported" / "LR" / "Set5").iterdir())) == 3


def test_the_command_in_an_exports_readme_evaluates_what_was_exported(data: Path, tmp_path: Path) -> None:
    exported, out = tmp_path / "exported", tmp_path / "out"
    common = ("--protocol", "setting1", "--sets", "Set5", "--limit", "1", "--data", data)
    assert run(*common, "--export", exported) == 0
    (command,) = re.findall("`blinddiff evaluate (.*)`", (exported / "README.md").read_text())
    names = [str(exported / "HR") if word == "FOLDER" else word for word in shlex.split(command)]
    for path in (exported / "LR" / "Set5").iterdir():  # the truth, under the names of results
        (exported / "HR" / "Set5" / (path.stem.removesuffix("_0") + ".png")).rename(
            exported / "HR" / "Set5" / path.name
        )
    assert run(*names, "--data", data, "--out", out, "--no-costs", "--no-pictures") == 0
    record = json.loads((out / "record.json").read_text())
    assert record["failures"] == []
    assert record["data"]["Set5"]["images"] == 1


def test_further_checkpoints_and_ablations_by_their_options(data: Path, weights: Path, tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    for name in ("full", "no_modulation"):
        shutil.copytree(weights, trained / name / "weights")
    common = ("--protocol", "setting1", "--sets", "Set5", "--data", data, "--limit", "1", "--weights", weights)
    out = tmp_path / "out"
    options = ("--no-pictures", "--checkpoint", f"mine={weights}", "--ablation-weights", trained, "--out", out)
    assert run(*common, *options, "--methods", "bicubic") == 0
    record = json.loads((out / "record.json").read_text())
    assert record["methods"] == ["bicubic", "mine", "small-full", "small-no-modulation"]
    assert len({record["weights"][name] for name in record["methods"][1:]}) == 1
    assert "trained without the kernel in the modulation" in (out / "report.md").read_text()
    for wrong in ("mine", "bicubic=x", "=x", "a b=x"):
        with pytest.raises(ParameterError, match="must be NAME=DIR"):
            run(*common, "--checkpoint", wrong)
    with pytest.raises(ParameterError, match="contains no weights of full, no_modulation, no_kernel_loss"):
        run(*common, "--ablation-weights", tmp_path)


def test_what_cannot_be_evaluated_is_named_and_the_rest_is_not_lost(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "Set5" / "broken.png").write_text("not an image")
    common = ("--protocol", "setting1", "--sets", "Set5", "--data", data, "--out", tmp_path / "out")
    assert run(*common, "--methods", "bicubic") == 1
    printed = capsys.readouterr()
    assert "broken.png: cannot be read as an image" in printed.err
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert record["sets"][0]["means"]["bicubic"]["psnr_y"]["images"] == 3
    assert [failure["name"] for failure in record["failures"]] == ["broken"]
    assert "Not evaluated (1)" in (tmp_path / "out" / "report.md").read_text()


@pytest.fixture
def results(data: Path, tmp_path: Path) -> Path:
    """Exported inputs, and 'results' made from them by enlarging with Pillow."""
    exported, folder = tmp_path / "exported", tmp_path / "theirs"
    assert run("--protocol", "setting2", "--sets", "Set5", "--data", data, "--export", exported) == 0
    for path in sorted((exported / "LR" / "Set5").iterdir()):
        (folder / "Set5").mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            enlarged = image.resize((image.width * 4, image.height * 4), Image.Resampling.LANCZOS)
        enlarged.save(folder / "Set5" / path.name)
        kernel = f"{path.stem}_kernel.npy"
        (folder / "Set5" / kernel).write_bytes((exported / "kernel" / "Set5" / kernel).read_bytes())
    return folder


def test_results_of_another_program_on_exported_inputs(data: Path, results: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    common = ("--protocol", "setting2", "--sets", "Set5", "--data", data, "--out", out)
    assert run(*common, "--methods", "lanczos", "--external", results) == 0  # the folder alone asks for the method
    record = json.loads((out / "record.json").read_text())
    means = record["sets"][0]["means"]
    assert means["external"]["psnr_y"]["mean"] == pytest.approx(means["lanczos"]["psnr_y"]["mean"], abs=1e-9)
    assert means["external"]["kernel_l1"]["mean"] == pytest.approx(0, abs=1e-5)
    assert "seconds" not in means["external"]
    assert record["external"]["external"]["folder"] == str(results)
    assert record["external"]["external"]["sha256"][:16] in (out / "report.md").read_text()
    (results / "Set5" / "image_0_0.png").write_bytes((results / "Set5" / "image_0_0.png").read_bytes() + b" ")
    assert run(*common, "--methods", "lanczos", "--external", results) == 0
    again = json.loads((out / "record.json").read_text())
    assert again["external"]["external"]["sha256"] != record["external"]["external"]["sha256"]


def test_missing_wrong_and_corrupt_results_are_named(
    data: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (results / "Set5" / "image_0_0.png").unlink()
    Image.new("RGB", (8, 8)).save(results / "Set5" / "image_1_0.png")
    (results / "Set5" / "image_10_0.png").write_bytes(b"broken")
    common = ("--protocol", "setting2", "--sets", "Set5", "--data", data, "--out", tmp_path / "out")
    assert run(*common, "--methods", "bicubic", "external", "--external", results) == 1
    errors = capsys.readouterr().err
    assert "image_0_0.png: no such image" in errors
    assert "image_1_0.png: is 8x8, not 68x56" in errors
    assert "image_10_0.png: cannot be read as an image" in errors
    means = json.loads((tmp_path / "out" / "record.json").read_text())["sets"][0]["means"]
    assert means["bicubic"]["psnr_y"]["images"] == 3


def test_bicubic_outside_on_exported_inputs_is_the_built_in_one(data: Path, tmp_path: Path) -> None:
    """Enlarged by a plain dense matrix of MATLAB's bicubic weights, from the PNG files alone."""
    exported, theirs, out = tmp_path / "exported", tmp_path / "theirs", tmp_path / "out"
    common = ("--protocol", "gaussian8", "--sets", "Set5", "--data", data, "--limit", "2")
    assert run(*common, "--export", exported) == 0
    (theirs / "Set5").mkdir(parents=True)
    for path in (exported / "LR" / "Set5").iterdir():
        y = np.asarray(Image.open(path)).astype(float)
        x = np.einsum("ij,jkc,lk->ilc", bicubic_matrix(y.shape[0]), y, bicubic_matrix(y.shape[1]))
        Image.fromarray(np.clip(np.rint(x), 0, 255).astype(np.uint8)).save(theirs / "Set5" / path.name)
    assert run(*common, "--methods", "bicubic", "external", "--external", theirs, "--out", out) == 0
    means = json.loads((out / "record.json").read_text())["sets"][0]["means"]
    for metric in ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "psnr_full_swing", "lr_rms"):
        # not to the last bit: pixels that fall on a half are rounded either way
        assert means["external"][metric]["mean"] == pytest.approx(means["bicubic"][metric]["mean"], rel=1e-4)


def bicubic_matrix(side: int, scale: int = 4) -> np.ndarray:
    """(scale * side, side): Keys' kernel with a = -0.5 about the pixel centres, borders mirrored with the edge."""
    matrix = np.zeros((scale * side, side))
    for i in range(scale * side):
        centre = (i + 0.5) / scale - 0.5
        for j in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            d = abs(centre - j)
            weight = 1.5 * d**3 - 2.5 * d**2 + 1 if d <= 1 else -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
            matrix[i, -1 - j if j < 0 else 2 * side - 1 - j if j >= side else j] += weight
    return matrix


def test_exported_images_are_the_very_inputs(data: Path, tmp_path: Path) -> None:
    run("--protocol", "aniso9", "--sets", "Set5", "--data", data, "--limit", "1", "--export", tmp_path / "exported")
    plan = protocol("aniso9", 4)
    case = plan.make(plan.references(data, "Set5")[20], 0)
    with Image.open(tmp_path / "exported" / "LR" / "Set5" / "image_0_20.png") as image:
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(image.height, image.width, 3)
    assert torch.equal(pixels.permute(2, 0, 1), (case.y * 255).round().byte())
    with Image.open(tmp_path / "exported" / "HR" / "Set5" / "image_0.png") as image:
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(image.height, image.width, 3)
    assert case.hr is not None
    assert torch.equal(pixels.permute(2, 0, 1), (case.hr * 255).round().byte())
    kernel = np.load(tmp_path / "exported" / "kernel" / "Set5" / "image_0_20_kernel.npy")
    assert case.kernel is not None
    np.testing.assert_array_equal(kernel, case.kernel.numpy())


def test_several_programs_are_compared_in_one_run(
    data: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(results, other)
    for path in (other / "Set5").glob("*.png"):
        Image.new("RGB", Image.open(path).size).save(path)  # black
    out = tmp_path / "out"
    common = ("--protocol", "setting2", "--sets", "Set5", "--data", data, "--out", out, "--methods", "bicubic")
    assert run(*common, "--external", f"theirs={results}", "--external", f"black={other}") == 0
    record = json.loads((out / "record.json").read_text())
    assert record["methods"] == ["bicubic", "theirs", "black"]
    assert {name: found["folder"] for name, found in record["external"].items()} == {
        "theirs": str(results),
        "black": str(other),
    }
    means = record["sets"][0]["means"]
    assert means["theirs"]["psnr_y"]["mean"] > means["black"]["psnr_y"]["mean"] + 10
    assert "black - theirs" in capsys.readouterr().out
    assert "theirs: `" in (out / "report.md").read_text()
    for wrong in ("bicubic=x", "=x", "a b=x", "mine="):
        with pytest.raises(ParameterError, match=r"--external .* must be NAME=DIR"):
            run(*common, "--external", wrong)
    with pytest.raises(ParameterError, match="mine: is the name of several methods"):
        run(*common, "--external", f"mine={results}", "--checkpoint", f"mine={results}")


def test_intervals_and_paired_differences_are_printed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run("--protocol", "setting1", "--sets", "Set5", "--data", data, "--out", out, "--methods", "bicubic", "lanczos")
    printed = capsys.readouterr().out
    found = json.loads((out / "record.json").read_text())["sets"][0]
    mean = found["means"]["lanczos"]["psnr_y"]
    assert f"{mean['mean']:.2f} [{mean['low']:.2f}, {mean['high']:.2f}]" in printed
    (pair,) = found["differences"]["psnr_y"]
    e = pair["estimate"]
    (row,) = re.findall(r"\| lanczos - bicubic +\| +(\S+ \[\S+ \S+\] too few images)", printed)
    assert row == f"{e['mean']:+.2f} [{e['low']:+.2f}, {e['high']:+.2f}] too few images"


def test_several_seeds_and_their_spread(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    common = ("--protocol", "setting2", "--sets", "Set5", "--data", data, "--methods", "bicubic", "lanczos")
    assert run(*common, "--out", out, "--seed", "0", "1", "5") == 0
    seeds = [json.loads((out / f"seed_{seed}" / "record.json").read_text()) for seed in (0, 1, 5)]
    assert [record["fingerprint"]["seed"] for record in seeds] == [0, 1, 5]
    values = [record["sets"][0]["means"]["lanczos"]["psnr_y"]["mean"] for record in seeds]
    assert len(set(values)) == 3  # other kernels
    spread = json.loads((out / "record.json").read_text())["sets"]["Set5"]["lanczos"]["psnr_y"]
    assert spread["mean"] == pytest.approx(np.mean(values))
    assert spread["deviation"] == pytest.approx(np.std(values, ddof=1))
    assert (spread["low"], spread["high"]) == (min(values), max(values))
    printed = capsys.readouterr().out
    assert f"{np.mean(values):.2f} (sd {np.std(values, ddof=1):.3f})" in printed
    assert "Set5, 3 seeds" in (out / "report.md").read_text()
    run(*common, "--out", tmp_path / "one", "--seed", "5")
    assert without_time(tmp_path / "one") == without_time(out / "seed_5")
    with pytest.raises(ParameterError, match="--export: needs a single --seed"):
        run(*common, "--export", tmp_path / "exported", "--seed", "0", "1")


def test_tables_for_papers(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    methods = ("bicubic", "lanczos", "closed-form-oracle")
    common = ("--protocol", "gaussian8", "--sets", "Set5", "--data", data, "--limit", "2", "--out", out)
    assert run(*common, "--methods", *methods, "--export-tables") == 0
    rows = list(csv.DictReader((out / "tables" / "images.csv").read_text().splitlines()))
    assert len(rows) == 2 * 8 * 3
    logged = {(r["method"], r["name"], str(r["index"])): r["metrics"] for r in lines(out)}
    for row in rows:
        metrics = logged[row["method"], row["image"], row["index"]]
        assert float(row["psnr_y"]) == metrics["psnr_y"]  # type: ignore[index]
    assert rows[0]["parameter"] == "sigma 1.80"
    means = json.loads((out / "record.json").read_text())["sets"][0]["means"]
    table = (out / "tables" / "set5-images.tex").read_text()
    assert table.startswith("% Set5: Images\n")
    body = dict(re.findall(r"^([\w-]+) & (.*?) & .*\\\\$", table, re.MULTILINE))
    ranked = sorted(methods[:2], key=lambda name: -means[name]["psnr_y"]["mean"])  # an oracle has no rank
    for name, mark in zip(ranked, ("textbf", "underline"), strict=True):
        m = means[name]["psnr_y"]
        assert body[name] == f"\\{mark}{{{m['mean']:.2f}}} {{\\scriptsize [{m['low']:.2f}, {m['high']:.2f}]}}"
    assert "text" not in body["closed-form-oracle"]
    for path in (out / "tables").glob("*.tex"):
        text = path.read_text()
        columns = len(re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1])  # type: ignore[index]
        cells = [line.count(" & ") + 1 for line in text.splitlines() if line.endswith("\\\\")]
        assert set(cells) == {columns}
        assert not [line for line in text.splitlines() if line[0] != "%" and re.search(r"(?<!\\)[%_&#$](?! )", line)]
    assert {"set5-paired-differences.tex", "set5-psnr-y-by-parameter-db.tex"} <= {
        p.name for p in (out / "tables").iterdir()
    }


def test_special_characters_of_a_table_are_escaped_for_latex() -> None:
    table = Table(["a_b", "%"], [["`x` & **y**", r"1.5 [1, 2] \ {3}"], ["z", "2"]], {(0, 1): 2, (1, 1): 1})
    assert table.latex().splitlines()[2:6] == [
        r"a\_b & \% \\",
        r"\midrule",
        r"\texttt{x} \& \textbf{y} & \underline{1.5} {\scriptsize [1, 2]} \textbackslash{} \{3\} \\",
        r"z & \textbf{2} \\",
    ]


def test_a_folder_without_learned_weights_is_refused(data: Path, tmp_path: Path) -> None:
    common = ("--protocol", "setting1", "--sets", "Set5", "--data", data, "--out", tmp_path / "out")
    with pytest.raises(WeightsError, match=r"neither alexnet-owt-7be5be79\.pth and alex\.pth nor vgg16-397923af\.pth"):
        run(*common, "--methods", "bicubic", "--learned-weights", tmp_path)
