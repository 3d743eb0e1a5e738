"""Show that a refactoring kept the behaviour: run the same commands in two checkouts and compare all that they write.

python scripts/compare_checkouts.py OLD NEW [--only SUBSTRING] [--list] [--keep DIR] [--published CHECKPOINT]
                                    [--rename-weights OLD=NEW ...] [--rename-recipe OLD=NEW ...]

Compares exit codes, standard output without times and paths, and every file: images by pixel, JSON, arrays and tensors
by number, other files as text. Inputs are made here or are the sample photographs. Exits with 1 if anything differs by
more than the allowances below.
"""

import argparse
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import scipy.io
import tifffile
import yaml
from PIL import Image, ImageCms
from safetensors.numpy import load_file
from scipy.ndimage import gaussian_filter

GREY_LEVELS, PIXEL_SHARE = 1.0, 1e-3
"""Allowed in images: the largest difference, in 1/255 of full scale, and below which share of the pixels differ."""
NUMBERS, COARSE = 1e-6, 1e-4
"""Allowed elsewhere, relative to the largest number of an array; the second of kernels in JSON, which have five digits,
and of what 20 training steps led to. A decimal number in text may also differ by one unit of its last digit."""
IGNORED_KEYS = {
    *("seconds", "started", "finished", "versions", "blinddiff", "processors", "costs"),
    *("weights", "methods", "settings"),  # in records and ledgers: checksums of weights, which renamed tensors change
    "output_sha256",  # the file itself is compared
}
IGNORED_FILES = ("events.out.tfevents.*", "*.tmp", "*.lock", "*.pkl", "*.bin")
"""Logs with times, locks, and what a training's checkpoint holds beside the weights."""
ONLY_PRESENT = ("report.md", "report.html")
"""Files that hold times: only that they were written is compared."""
TIMED_IMAGE = "sheet.png"
"""The sheet of `demo`, on which the seconds are drawn: on few pixels, which may differ by anything."""
TIMES = re.compile(r"\d+(\.\d+)? s\b|[^|\n]*\|$", re.MULTILINE)
"""In standard output: seconds, and the last column of the tables of `evaluate`."""
NUMBER = re.compile(r"([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)")
KERNELS = (": kernel", "kernel.json")
IMAGES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".webp", ".avif")
STAGES = ("estimator", "confidence", "network", "correction", "joint")
STDOUT = "stdout.txt"
Array = npt.NDArray[Any]


class Verdict(IntEnum):
    """How far two things agree; the larger, the worse."""

    IDENTICAL = 0
    WITHIN_TOLERANCE = 1
    DIFFERENT = 2


LABELS = {
    Verdict.IDENTICAL: "identical",
    Verdict.WITHIN_TOLERANCE: "within tolerance",
    Verdict.DIFFERENT: "DIFFERENT",
}


@dataclass(frozen=True)
class Finding:
    """One comparison: its verdict, and what differs where."""

    verdict: Verdict
    what: str = ""


@dataclass(frozen=True)
class Case:
    """Commands without their first word, run one after the other in one empty folder, and their exit code."""

    name: str
    commands: tuple[str, ...]
    exit_code: int = 0


def all_cases(published: bool) -> list[Case]:
    """The list of commands; with a published checkpoint also its conversion and use."""
    cases = [
        Case("demo", ("demo -o demo",)),
        Case("error: no such photograph", ("upscale none.png -o out.png",), 2),
        Case("error: unknown option", ("upscale ../inputs/small.png -o out.png --unknown",), 2),
    ]

    def upscale(name: str, photograph: str, options: str) -> None:
        cases.append(Case(f"upscale: {name}", (f"upscale ../inputs/{photograph} {options}",)))

    formats = {"png": "deep.png", "tif": "float.tif", "tiff": "deep.png", "jpg": "grey.png", "jpeg": "exif.jpg"}
    for ending, photograph in {**formats, "webp": "alpha.png", "avif": "exif.jpg"}.items():
        upscale(f"format {ending}", photograph, f"-o out.{ending} --mode fast --scale 1")
    for mode, steps in {"fidelity": "", "fast": "", "perceptual": ""}.items():
        upscale(f"mode {mode}, scale 4", "small.png", f"-o out.png --mode {mode} {steps}")
    for scale in (1, 2, 3):
        upscale(f"scale {scale}", "photo.png", f"-o out.png --scale {scale}")
    upscale("seed and steps", "small.png", "-o out.png --scale 2 --mode perceptual --seed 3 --steps 4")
    upscale("tiles, fidelity", "large.png", "-o out.png --scale 3 --max-memory 60M")
    upscale("tiles, perceptual", "large.png", "-o out.png --scale 2 --mode perceptual --steps 3 --max-memory 40M")
    upscale("given kernel and noise", "photo.png", "-o out.png --scale 2 --kernel ../inputs/kernel.npy --noise-level 3")
    guided = "-o out.png --mode perceptual --steps 2 --kernel ../inputs/kernel.csv"
    upscale("given kernel, perceptual", "small.png", guided)
    found = "--save-kernel kernel.npy --kernel-map map.png --json facts.jsonl"
    upscale("kernel, map and JSON", "large.png", f"-o out.png --mode fast --scale 2 {found}")
    folder = "upscale ../inputs/folder -o results --format same --mode fast --scale 2 --jobs 2 --json"
    cases.append(Case("upscale: folder, twice", (f"{folder} first.jsonl", f"{folder} second.jsonl")))
    outputs = " ".join(f"-o kernel.{ending}" for ending in ("npy", "mat", "csv", "txt", "json", "png"))
    cases.append(Case("kernel: every file", (f"kernel ../inputs/photo.png {outputs}",)))
    cases.append(Case("kernel: scale 2", ("kernel ../inputs/exif.jpg --scale 2 -o kernel.json",)))
    for options in (
        "--scale 2 --sigma 1.5 --noise 5",
        "--scale 3 --kernel ../inputs/kernel.json --jpeg 70",
        "--scale 4 --kernel ../inputs/kernel.mat",
        "--scale 4 --family anisotropic --noise 10 --seed 1 --save-kernel kernel.json",
        "--scale 2 --family motion --noise 2.55 --seed 2 --save-kernel kernel.npy",
        "--scale 1 --family disk --noise 2 --jpeg 90 --save-kernel kernel.csv",
    ):
        cases.append(Case(f"degrade: {options}", (f"degrade ../inputs/large.png -o out.png {options}",)))
    for stage in STAGES:
        cases.append(Case(f"train: {stage}", (f"train ../inputs/{stage}.yaml -o run --device cpu",)))
    evaluate = "evaluate --data ../inputs/data --sets Set5 --limit 2 --no-costs --protocol"
    cases.append(Case("evaluate: setting2_noise10", (f"{evaluate} setting2_noise10 --out out",)))
    methods = "--methods bicubic closed-form-oracle fast perceptual@2 kernel-refined no-image-step"
    cases.append(Case("evaluate: deblur, methods", (f"{evaluate} deblur --out out {methods}",)))
    cases.append(Case("evaluate: export", (f"{evaluate} setting2 --export out",)))
    if published:
        paper = "upscale ../inputs/small.png -o out.png --mode paper --steps 2 --weights weights"
        cases.append(Case("convert, upscale", ("convert ../inputs/published.pth weights", paper)))
    return cases


def made_photograph(side: int, seed: int) -> npt.NDArray[np.uint8]:
    """Smooth colours, fine texture and edges: (side, side, 3)."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.standard_normal((side, side, 3)), (6, 6, 0))
    pixels = 0.5 + 0.15 * smooth / smooth.std() + 0.03 * rng.standard_normal((side, side, 1))
    for _ in range(12):
        (top, left), (height, width) = rng.integers(0, side - 8, 2), rng.integers(6, side // 3, 2)
        pixels[top : top + height, left : left + width] += rng.uniform(-0.3, 0.3, 3)
    return (pixels.clip(0, 1) * 255).round().astype(np.uint8)


def write_inputs(folder: Path, samples: Path, renamed_keys: Sequence[str], published: Path | None) -> None:
    """Photographs of every kind, kernels, training data and recipes, and a test set, the same at every call."""
    for name in ("folder", "train", "data/Set5"):
        (folder / name).mkdir(parents=True)
    with Image.open(samples / "flowers.jpg") as picture:
        photo = picture.convert("RGB").crop((40, 30, 136, 110))
    pixels = np.asarray(photo)
    photo.save(folder / "photo.png")
    photo.crop((10, 10, 74, 58)).save(folder / "small.png")
    photo.convert("L").save(folder / "grey.png")
    with_alpha = photo.convert("RGBA")
    with_alpha.putalpha(Image.fromarray(made_photograph(96, 1)[:80, :, 0]))
    with_alpha.save(folder / "alpha.png")
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "made by compare_checkouts"  # orientation and description
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile[:24] + bytes(12) + profile[36:]  # the date when it was made
    photo.save(folder / "exif.jpg", quality=92, exif=exif, icc_profile=profile)
    deep = pixels.astype(np.uint16) * 257 + np.arange(96, dtype=np.uint16)[:, None] % 100
    (folder / "deep.png").write_bytes(imagecodecs.png_encode(deep.clip(0, 65535)))
    tifffile.imwrite(folder / "float.tif", pixels.astype(np.float32) / 255, photometric="rgb")
    Image.fromarray(made_photograph(160, 2)).save(folder / "large.png")
    for name in ("alpha.png", "deep.png", "exif.jpg", "float.tif", "grey.png"):
        shutil.copy(folder / name, folder / "folder" / name)
    photo.save(folder / "folder" / "photo.webp", quality=90)
    for seed in (3, 4, 5):
        Image.fromarray(made_photograph(160, seed)).save(folder / "train" / f"{seed}.png")
        Image.fromarray(made_photograph(64, seed)[:60]).save(folder / "data" / "Set5" / f"{seed}.png")
    rows, columns = np.mgrid[-7:8, -7:8]
    kernel = np.exp(-(((rows + columns) / 4) ** 2) - ((rows - columns) / 2) ** 2)
    kernel /= kernel.sum()
    np.save(folder / "kernel.npy", kernel)
    np.savetxt(folder / "kernel.csv", kernel, delimiter=",")
    (folder / "kernel.json").write_text(json.dumps(kernel.tolist()))
    scipy.io.savemat(folder / "kernel.mat", {"Kernel": kernel})
    if published:
        shutil.copy(published, folder / "published.pth")
    for stage in STAGES:
        recipe = recipe_of(stage)
        for section, content in recipe.items():
            if isinstance(content, dict):
                content = {renamed(f"{section}.{key}", renamed_keys).split(".")[1]: v for key, v in content.items()}
            recipe[section] = content
        text = yaml.safe_dump({renamed(section, renamed_keys): content for section, content in recipe.items()})
        (folder / f"{stage}.yaml").write_text(text)


def recipe_of(stage: str) -> dict[str, Any]:
    """A small network on small crops, with degradations of most kinds, for 20 steps."""
    kernels = ("isotropic", "rough_anisotropic", "motion", "disk")
    return {
        "stage": stage,
        "data": {"folders": ["../inputs/train"], "context": 48, "patch": 32, "batch": 4, "reduced": 0.3, "replayed": 4},
        "model": {"dim": 8, "num_blocks": [1, 1], "heads": [1, 1], "estimator_hidden": 32, "embedding_dim": 16},
        "degradation": {
            "scales": {1: 0.3, 2: 0.4, 4: 0.3},
            "kernels": dict.fromkeys(kernels, 1.0),
            "noise": {"none": 1.0, "gaussian": 1.0, "poisson": 1.0, "jpeg": 1.0},
            "decimated": 0.2,
        },
        "loss": {"restoration": 0.1},
        "steps": 20,
        "warmup": 5,
        "sheet_steps": 20,
    }


def renamed(name: str, renames: Sequence[str]) -> str:
    """The name with its beginning replaced by each OLD=NEW that fits."""
    for old, _, new in (rename.partition("=") for rename in renames):
        if name.startswith(old):
            name = new + name[len(old) :]
    return name


def compare_arrays(old: Array, new: Array, where: str, relative: float = NUMBERS) -> Finding:
    """Numbers of any shape; the tolerance is relative to the largest."""
    if old.shape != new.shape:
        return Finding(Verdict.DIFFERENT, f"{where}: shape {old.shape} became {new.shape}")
    if np.array_equal(old, new):
        return Finding(Verdict.IDENTICAL)
    difference = float(np.abs(new.astype(np.float64) - old).max())
    allowed = difference <= relative * float(np.abs(old).max())
    return Finding(Verdict.WITHIN_TOLERANCE if allowed else Verdict.DIFFERENT, f"{where}: max diff {difference:.2g}")


def compare_pixels(old: Array, new: Array, where: str, grey_levels: float = GREY_LEVELS) -> Finding:
    """Decoded images of integers, or of floats in [0, 1]. Pixels of more than 8 bits count as they round to 8."""
    if old.shape != new.shape or old.dtype != new.dtype:
        return Finding(Verdict.DIFFERENT, f"{where}: {old.shape} {old.dtype} became {new.shape} {new.dtype}")
    if np.array_equal(old, new):
        return Finding(Verdict.WITHIN_TOLERANCE, f"{where}: pixels equal, other bytes differ")
    full = np.iinfo(old.dtype).max if old.dtype.kind in "iu" else 1.0
    a, b = (image.reshape(*image.shape[:2], -1) * (255 / full) for image in (old, new))
    largest, share = float(np.abs(a - b).max()), float((a.round() != b.round()).any(-1).mean())
    allowed = largest <= grey_levels and share < PIXEL_SHARE
    what = f"{where}: max diff {largest:.3g} grey levels, {share:.3%} of the pixels"
    return Finding(Verdict.WITHIN_TOLERANCE if allowed else Verdict.DIFFERENT, what)


def compare_json(old: Any, new: Any, where: str) -> Iterator[Finding]:
    """Decoded JSON, key by key; nested lists of numbers as arrays."""
    if isinstance(old, dict) and isinstance(new, dict):
        if keys := (old.keys() ^ new.keys()) - IGNORED_KEYS:
            yield Finding(Verdict.DIFFERENT, f"{where}: keys in one only: {', '.join(sorted(keys))}")
        for key in sorted((old.keys() & new.keys()) - IGNORED_KEYS):
            yield from compare_json(old[key], new[key], f"{where}: {key}")
        return
    numbers = _numbers(old), _numbers(new)
    if numbers[0] is not None and numbers[1] is not None:
        yield compare_arrays(numbers[0], numbers[1], where, COARSE if where.endswith(KERNELS) else NUMBERS)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, values in enumerate(zip(old, new, strict=True)):
            yield from compare_json(*values, f"{where}[{place}]")
    elif old != new:
        yield Finding(Verdict.DIFFERENT, f"{where}: {str(old)[:60]!r} became {str(new)[:60]!r}")


def _numbers(value: Any) -> Array | None:
    try:
        array = np.asarray(value)
    except ValueError:  # rows of several lengths
        return None
    return array if array.dtype.kind in "iuf" else None


def compare_text(old: str, new: str, where: str, relative: float = NUMBERS) -> Iterator[Finding]:
    """Lines of words, which have to be equal, and numbers."""
    lines = old.splitlines(), new.splitlines()
    if len(lines[0]) != len(lines[1]):
        yield Finding(Verdict.DIFFERENT, f"{where}: {len(lines[0])} lines became {len(lines[1])}")
    for a, b in zip(*lines, strict=False):
        old_parts, new_parts = NUMBER.split(a), NUMBER.split(b)  # words and numbers in turn
        numbers = zip(old_parts[1::2], new_parts[1::2], strict=False)
        if old_parts[::2] != new_parts[::2] or not all(_close(*pair, relative) for pair in numbers):
            equal = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            start = max(equal - 24, 0)
            yield Finding(Verdict.DIFFERENT, f"{where}: {a[start : start + 60]!r} became {b[start : start + 60]!r}")
        elif a != b:
            yield Finding(Verdict.WITHIN_TOLERANCE, f"{where}: last digits differ")
        else:
            yield Finding(Verdict.IDENTICAL)


def _close(old: str, new: str, relative: float) -> bool:
    """Printed numbers: whole ones have to be equal, decimal ones within the tolerance or a unit of the last digit."""
    digits, _, exponent = old.lower().partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2])) if "." in digits else 0.0
    allowed = max(relative * abs(float(old)) if "." in digits or exponent else 0.0, 1.001 * unit)
    return old == new or abs(float(old) - float(new)) <= allowed


def compare_tensors(old: dict[str, Array], new: dict[str, Array], where: str, renames: Sequence[str]) -> list[Finding]:
    """Weights by name, each relative to the tensor's largest."""
    old = {renamed(name, renames): value for name, value in old.items()}
    if names := old.keys() ^ new.keys():
        return [Finding(Verdict.DIFFERENT, f"{where}: tensors in one only: {', '.join(sorted(names)[:6])}")]
    return [compare_arrays(old[name], new[name], f"{where}: {name}", COARSE) for name in old]


def compare_files(old: Path, new: Path, where: str, renames: Sequence[str]) -> list[Finding]:
    """Two files by their kind, which their names tell."""
    if old.read_bytes() == new.read_bytes() or _matches(old, ONLY_PRESENT):
        return [Finding(Verdict.IDENTICAL)]
    if old.suffix in IMAGES:
        grey_levels = 255.0 if old.name == TIMED_IMAGE else GREY_LEVELS
        return [compare_pixels(imagecodecs.imread(old), imagecodecs.imread(new), where, grey_levels)]
    if old.suffix == ".safetensors":
        return compare_tensors(load_file(old), load_file(new), where, renames)
    if old.suffix == ".npy":
        return [compare_arrays(np.load(old), np.load(new), where)]
    if old.suffix == ".mat":
        return [compare_arrays(scipy.io.loadmat(old)["Kernel"], scipy.io.loadmat(new)["Kernel"], where)]
    if old.suffix in (".json", ".jsonl"):
        return list(compare_json(_read_json(old), _read_json(new), where))
    return list(compare_text(old.read_text(), new.read_text(), where, COARSE if old.name == "losses.csv" else NUMBERS))


def _read_json(path: Path) -> Any:
    """A JSON file, or one of a line for each object; lines of several photographs by name, whoever was done first."""
    if path.suffix == ".json":
        return json.loads(path.read_text())
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return sorted(lines, key=lambda line: str(line.get("input", "")))


def compare_folders(old: Path, new: Path, renames: Sequence[str]) -> list[Finding]:
    """All files of two folders."""
    files = [
        {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and not _matches(p, IGNORED_FILES)}
        for folder in (old, new)
    ]
    findings = [Finding(Verdict.DIFFERENT, f"{name}: no longer written") for name in sorted(files[0] - files[1])]
    findings += [Finding(Verdict.DIFFERENT, f"{name}: not written before") for name in sorted(files[1] - files[0])]
    for name in sorted(files[0] & files[1]):
        findings += compare_files(old / name, new / name, name, renames)
    return findings


def _matches(path: Path, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns)


def run_case(case: Case, checkout: Path, folder: Path) -> list[str]:
    """Run its commands in a new folder, standard output in a file there; what went otherwise than it should."""
    folder.mkdir(parents=True)
    module, function = entry_point(checkout)
    program = f"import sys; from {module} import {function}; sys.exit({function}())"
    unexpected = []
    for command in case.commands:
        done = subprocess.run(
            [sys.executable, "-c", program, *shlex.split(command)],
            cwd=folder,
            env=environment(checkout),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        with (folder / STDOUT).open("a") as file:
            file.write(TIMES.sub("#", done.stdout.replace(str(folder), "FOLDER")))
        if done.returncode != case.exit_code:
            last = (done.stderr.strip().splitlines() or ["no error message"])[-1]
            unexpected.append(f"exit code {done.returncode} instead of {case.exit_code}: {last[:200]}")
    return unexpected


def entry_point(checkout: Path) -> tuple[str, str]:
    """Module and function of the command `blinddiff`, as the checkout declares them."""
    found = re.search(r'^blinddiff = "([\w.]+):(\w+)"$', (checkout / "pyproject.toml").read_text(), re.MULTILINE)
    if found is None:
        sys.exit(f"{checkout}: pyproject.toml declares no command blinddiff")
    return found[1], found[2]


def environment(checkout: Path) -> dict[str, str]:
    """Environment in which Python imports a checkout and computes the same at every run."""
    fixed = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONHASHSEED": "0", "CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, **fixed, "PYTHONPATH": str(checkout / "src"), "PYTHONDONTWRITEBYTECODE": "1"}


def check_import(checkout: Path) -> None:
    """End the program if Python would import another copy of the package."""
    command = [sys.executable, "-c", "import blinddiff; print(blinddiff.__file__)"]
    found = subprocess.run(command, env=environment(checkout), capture_output=True, text=True).stdout.strip()
    if not Path(found).is_relative_to(checkout / "src"):
        sys.exit(f"{checkout}: Python imports {found or 'nothing'} instead")


def compare_case(case: Case, old: Path, new: Path, work: Path, renames: Sequence[str]) -> tuple[Verdict, str]:
    """Run a case in both checkouts: the worst verdict, and the findings that have it or, if few, all."""
    folder = re.sub(r"\W+", "_", case.name)
    findings = []
    for side, checkout in (("old", old), ("new", new)):
        unexpected = run_case(case, checkout, work / side / folder)
        findings += [Finding(Verdict.DIFFERENT, f"{side}: {what}") for what in unexpected]
    findings += compare_folders(work / "old" / folder, work / "new" / folder, renames)
    worst = max(finding.verdict for finding in findings)
    named = list(dict.fromkeys(finding.what for finding in findings if finding.what and finding.verdict == worst))
    more = f"; and {len(named) - 4} more" if len(named) > 4 else ""
    return worst, "; ".join(named[:4]) + more


def main() -> int:
    """Compare, print a table; 1 if anything differs beyond the allowances."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="folder of the checkout before")
    parser.add_argument("new", type=Path, help="folder of the checkout after")
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="only the cases with this in their names")
    parser.add_argument("--list", action="store_true", help="print the cases and end")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="new folder to work in, which stays")
    parser.add_argument("--published", type=Path, metavar="CHECKPOINT", help="published .pth file, to convert it too")
    for option, what in (
        ("--rename-weights", "beginning of tensor names"),
        ("--rename-recipe", "recipe's section.key"),
    ):
        parser.add_argument(option, action="append", default=[], metavar="OLD=NEW", help=f"{what}; repeatable")
    args = parser.parse_args()
    old, new = args.old.resolve(), args.new.resolve()
    cases = [case for case in all_cases(args.published is not None) if args.only in case.name]
    if args.list:
        print("\n".join(f"{case.name}: {' && '.join(case.commands)}" for case in cases))
        return 0
    if not cases:
        parser.error(f"--only {args.only}: no case has this in its name")
    check_import(old)
    check_import(new)
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        work = (args.keep or Path(temporary)).resolve()
        for side, renames in (("old", []), ("new", args.rename_recipe)):
            write_inputs(work / side / "inputs", old / "src/blinddiff/samples", renames, args.published)
        for number, case in enumerate(cases, 1):
            print(f"{number}/{len(cases)} {case.name}", end=": ", file=sys.stderr, flush=True)
            verdict, what = compare_case(case, old, new, work, args.rename_weights)
            print(LABELS[verdict], file=sys.stderr)
            results.append((case.name, verdict, what))
    print("| case | result |\n|---|---|")
    for name, verdict, what in results:
        print(f"| {name} | {LABELS[verdict]}{': ' + what if what else ''} |")
    count = sum(verdict == Verdict.DIFFERENT for _, verdict, _ in results)
    print(f"\n{len(results)} cases, {count} different")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
