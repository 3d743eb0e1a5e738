"""Time two restorations at once against two in turn, with OpenMP's default and with this package's setting.

python scripts/benchmark_busy_machine.py [--rounds 5] [--repeats 3] [--threads 2]
    [--out results/performance/busy_machine.json]

Run it on an idle machine with as many cores as --threads. Each process restores one picture of 64x64 pixels at x4 a
few times. Rounds alternate between the settings, so that other load on the machine affects both. "In turn" is the sum
of the wall times of two processes, one after the other.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from benchmark_record import load_average, write_record

from blinddiff.restoring.engines import load_pipeline

SETTINGS = {
    "spinning": {"GOMP_SPINCOUNT": "300000"},  # what GNU OpenMP does if nothing is set
    "sleeping": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"},  # `blinddiff.openmp_settings`
}
SIDE, SCALE = 64, 4


def work(threads: int, repeats: int) -> None:
    """A worker: for each line on standard input, restore the picture and print the seconds of wall and CPU."""
    torch.set_num_threads(threads)
    pipeline = load_pipeline(device="cpu")
    picture = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    pipeline(picture, SCALE, generator=torch.Generator().manual_seed(0))  # the first call is slower
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(repeats):
            pipeline(picture, SCALE, generator=torch.Generator().manual_seed(0))
        print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]), flush=True)


class Worker:
    """A process that runs `work` with the environment of a setting."""

    def __init__(self, setting: str, threads: int, repeats: int) -> None:
        names = {name for each in SETTINGS.values() for name in each}
        environment = {name: value for name, value in os.environ.items() if name not in names} | SETTINGS[setting]
        command = [sys.executable, __file__, "--worker", "--threads", str(threads), "--repeats", str(repeats)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, env=environment, **pipes)
        self._read()

    def start(self) -> None:
        """Begin to restore."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)

    def seconds(self) -> list[float]:
        """Wait for the end. Return the seconds of wall and CPU."""
        seconds: list[float] = json.loads(self._read())
        return seconds

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a worker ended early")
        return line


def measure(workers: list[Worker], repeats: int) -> dict[str, float]:
    """Seconds a picture: wall and CPU alone; wall of two in turn, and wall and CPU of two at once."""
    in_turn = []
    for worker in workers:
        worker.start()
        in_turn.append(worker.seconds())
    for worker in workers:
        worker.start()
    at_once = [worker.seconds() for worker in workers]
    return {
        "alone": statistics.mean(wall for wall, _ in in_turn) / repeats,
        "alone_cpu": statistics.mean(cpu for _, cpu in in_turn) / repeats,
        "two_in_turn": sum(wall for wall, _ in in_turn) / repeats,
        "two_at_once": max(wall for wall, _ in at_once) / repeats,
        "two_at_once_cpu": statistics.mean(cpu for _, cpu in at_once) / repeats,
    }


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/performance/busy_machine.json"))
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.threads, args.repeats)
        return
    load = load_average()
    workers = {name: [Worker(name, args.threads, args.repeats) for _ in range(2)] for name in SETTINGS}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in SETTINGS}
    for _ in range(args.rounds):
        for name, pair in workers.items():
            rounds[name].append(measure(pair, args.repeats))
    for pair in workers.values():
        for worker in pair:
            worker.close()
    record: dict[str, Any] = {
        "command": f"python scripts/benchmark_busy_machine.py --rounds {args.rounds} --repeats {args.repeats} "
        f"--threads {args.threads}",
        "seconds": {},
        "at_once_over_in_turn": {},
        "cores": os.cpu_count(),
        "load_before": load,
    }
    for name, measured in rounds.items():
        record["seconds"][name] = {key: round(statistics.median(m[key] for m in measured), 3) for key in measured[0]}
        ratios = [m["two_at_once"] / m["two_in_turn"] for m in measured]
        record["at_once_over_in_turn"][name] = round(statistics.median(ratios), 2)
    write_record(args.out, record)


if __name__ == "__main__":
    main()
