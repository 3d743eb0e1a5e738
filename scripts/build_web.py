"""Build the page that restores photographs in the browser.

python scripts/build_web.py [--graphs FOLDER] [--out build/web]

The page is a folder of static files: those of web/, ONNX Runtime's two files from npm, the graphs, and the constants of
the Python engine as JSON. Without --graphs, the graphs are those of the included weights. If these have none, they are
exported into build/graphs first, which takes minutes and needs the extra onnx.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np

from blinddiff.degradation import SCALES
from blinddiff.errors import BlindDiffError
from blinddiff.files import DEFAULT_WEIGHTS
from blinddiff.imaging.drawing import heat_colours
from blinddiff.light.graphs import TILE
from blinddiff.restoring.engines import load_pipeline
from blinddiff.sampling import decision
from blinddiff.sampling.modes import DESCRIPTION
from blinddiff.sampling.spans import HALO, RAMP

ROOT = Path(__file__).resolve().parents[1]
WEB, BUILD = ROOT / "web", ROOT / "build"
SAMPLE = ROOT / "src/blinddiff/samples/flowers.jpg"
RUNTIME = {"ort.wasm.bundle.min.mjs": "ort.js", "ort-wasm-simd-threaded.wasm": "ort.wasm"}
"""Files of the package onnxruntime-web -> their names in the page."""


def runtime_package() -> Path:
    """The package onnxruntime-web of the version in web/package.json; from npm, if build/ does not have it yet."""
    name = "onnxruntime-web"
    version = json.loads((WEB / "package.json").read_text())["dependencies"][name]
    package = BUILD / f"{name}-{version}.tgz"
    if not package.exists():
        BUILD.mkdir(exist_ok=True)
        try:
            subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], cwd=BUILD, check=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise BlindDiffError(f"npm cannot load {name} {version}: {error}") from error
    return package


def graphs_folder() -> Path:
    """The folder of the included weights if it holds graphs, else build/graphs, with graphs of these weights."""
    if (DEFAULT_WEIGHTS / DESCRIPTION).is_file():
        return DEFAULT_WEIGHTS
    folder = BUILD / "graphs"
    if not (folder / DESCRIPTION).is_file():
        from blinddiff.export.folder import write_folder

        print("exporting the graphs, which takes minutes", flush=True)
        write_folder(load_pipeline(device="cpu").network, folder, SCALES, ["fidelity", "fast"], print)
    return folder


def settings() -> dict[str, object]:
    """The constants of the Python engine that the page's has too, by the names in web/engine.js and web/page.js."""
    return {
        "tile": TILE,
        "halo": HALO,
        "ramp": RAMP,
        "certain": decision.CERTAIN,
        "smallest_factor": decision.MIN_FACTOR,
        "wide": decision.WIDE,
        "sharp": decision.SHARP,
        "clean": decision.CLEAN,
        "reliable_kernel_error": decision.RELIABLE_KERNEL_ERROR,
        "rounding": decision.ROUNDING,
        "unreliable_kernel_error": decision.UNRELIABLE_KERNEL_ERROR,
        "as_estimated": decision.AS_ESTIMATED,
        "fallbacks": {milder.__name__: name for name, milder in decision.FALLBACKS.items()},
        "colours": heat_colours(np.linspace(-1, 1, 511)).tolist(),
    }


def build(out: Path, graphs: Path) -> None:
    """Write the page with a folder of graphs into a new folder. Raises BlindDiffError if npm fails."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(WEB, out, ignore=shutil.ignore_patterns("package.json", "sw.js"))
    with tarfile.open(runtime_package()) as package:
        for source, name in RUNTIME.items():
            member = package.extractfile(f"package/dist/{source}")
            assert member is not None
            (out / name).write_bytes(member.read())
    shutil.copy(SAMPLE, out / "sample.jpg")
    (out / "settings.json").write_text(json.dumps(settings()))
    description = json.loads((graphs / DESCRIPTION).read_text())
    parts = ["estimate", *(f"restore_{mode}" for mode in description["modes"])]
    names = [DESCRIPTION, *(f"{part}_x{scale}.onnx" for part in parts for scale in description["scales"])]
    if "weights" in description:
        names.append(description["weights"]["file"])
    for name in names:
        (out / "graphs" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(graphs / name, out / "graphs" / name)
    files = sorted(path for path in out.rglob("*") if path.is_file())
    version = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()[:16]
    listed = ["./", *(path.relative_to(out).as_posix() for path in files)]
    head = f"const VERSION = {json.dumps(version)};\nconst FILES = {json.dumps(listed)};\n"
    (out / "sw.js").write_text(head + (WEB / "sw.js").read_text())
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    print(f"{out}: {len(files) + 1} files, {megabytes:.1f} MB; view it: python -m http.server --directory {out}")


def main() -> None:
    """Build the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=Path, help="a folder written by blinddiff export")
    parser.add_argument("--out", type=Path, default=BUILD / "web")
    args = parser.parse_args()
    build(args.out, args.graphs or graphs_folder())


if __name__ == "__main__":
    main()
