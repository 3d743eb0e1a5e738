"""Time many small photographs on a local cluster of Ray and in one process, as the command line restores both.

python scripts/benchmark_cluster.py [--photographs 500] [--side 24] [--scale 2] [--workers 2]
    [--out results/performance/cluster.json]

Run it on an idle machine. Each worker and the one process have one thread. The seconds of a run are those that the
command prints, and include the start of its processes; `seconds_of_work` sums up those of the single photographs.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmark_record import load_average, write_record
from benchmark_service import photograph


def restore(source: Path, output: Path, scale: int, *options: str) -> dict[str, Any]:
    """Run the command: images a second, and what its records say."""
    command = [sys.executable, "-m", "blinddiff", "upscale", str(source), "-o", str(output), "--scale", str(scale)]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "--threads", "1", "--device", "cpu", "--json", "-", *options],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - started
    records = [json.loads(line) for line in io.StringIO(done.stdout)]
    if any(record["status"] != "done" for record in records):
        raise SystemExit("a photograph has no result")
    return {
        "images": len({record["input"] for record in records}),
        "records": len(records),
        "results": len(list(output.glob("*.png"))),
        "seconds": round(seconds, 1),
        "images_per_second": round(len(records) / seconds, 3),
        "seconds_of_work": round(sum(record["seconds"] for record in records), 1),
    }


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--photographs", type=int, default=500)
    parser.add_argument("--side", type=int, default=24, help="of a photograph, in pixels")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/performance/cluster.json"))
    args = parser.parse_args()
    load = load_average()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in")
        source.mkdir()
        for number in range(args.photographs):
            (source / f"{number:05}.png").write_bytes(photograph(args.side, number))
        cluster = ("--engine-cluster", "ray", "--num-workers", str(args.workers))
        runs = {
            "one process": restore(source, Path(folder, "one"), args.scale, "--jobs", "1"),
            "cluster": restore(source, Path(folder, "cluster"), args.scale, *cluster),
        }
    options = f"--photographs {args.photographs} --side {args.side} --scale {args.scale} --workers {args.workers}"
    ratio = runs["cluster"]["images_per_second"] / runs["one process"]["images_per_second"]
    record = {
        "command": f"python scripts/benchmark_cluster.py {options}",
        **runs,
        "ratio": round(ratio, 2),
        "cores": os.cpu_count(),
        "load_before": load,
    }
    write_record(args.out, record)


if __name__ == "__main__":
    main()
