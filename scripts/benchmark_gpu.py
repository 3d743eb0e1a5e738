"""Time the modes on a device: for each size and precision, seconds, peak memory (CUDA) and the difference from the CPU.

python scripts/benchmark_gpu.py [--device cuda] [--sizes 256 1024] [--scale 4] [--out results/performance/gpu.json]

Each row restores a picture of random values several times, after one call that warms up. Times include the transfer of
input and result. The difference is that of the same call in float32 on the CPU, for sizes up to `--compare-up-to`.
"""

import argparse
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from benchmark_record import load_average, write_record
from torch import Tensor

from blinddiff import BlindDiffPipeline

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
MODES = ("fidelity", "fast", "perceptual")


def device_name(device: torch.device) -> str:
    """The name of the device's model, as its driver reports it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished all work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def peak_mib(device: torch.device) -> int | None:
    """Peak memory of tensors in MiB since the last reset; None on devices that do not report it."""
    return torch.cuda.max_memory_allocated(device) >> 20 if device.type == "cuda" else None


def restore(pipeline: BlindDiffPipeline, image: Tensor, scale: int, mode: str) -> Tensor:
    """One restoration with fixed noise: (1, 3, H, W) on the CPU."""
    generator = torch.Generator().manual_seed(0)
    images: Tensor = pipeline(image, scale, mode, generator=generator, output_type="pt", as_is=True).images
    return images


def measure(
    pipeline: BlindDiffPipeline, image: Tensor, scale: int, mode: str, repeats: int
) -> tuple[dict[str, Any], Tensor]:
    """Median, least and largest seconds of a call, its peak memory, and its result."""
    device = pipeline.device
    result = restore(pipeline, image, scale, mode)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(repeats):
        synchronize(device)
        started = time.perf_counter()
        result = restore(pipeline, image, scale, mode)
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    times = {"seconds": statistics.median(seconds), "least": min(seconds), "largest": max(seconds)}
    return {**{name: round(value, 4) for name, value in times.items()}, "peak_mib": peak_mib(device)}, result


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="cuda, mps or cpu; default: the first available")
    parser.add_argument("--weights", help="default: the included weights")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=[256, 512, 1024, 2048], help="sides of the result, in pixels"
    )
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compare-up-to", type=int, default=512, metavar="SIDE")
    parser.add_argument("--compile", action="store_true", help="compile the image network with torch.compile")
    parser.add_argument("--out", type=Path, default=Path("results/performance/gpu.json"))
    args = parser.parse_args()
    reference = BlindDiffPipeline.from_pretrained(args.weights, "cpu")
    rows: list[dict[str, Any]] = []
    load = load_average()
    for dtype in args.dtypes:
        pipeline = BlindDiffPipeline.from_pretrained(args.weights, args.device, torch_dtype=DTYPES[dtype])
        for each in (pipeline, reference):
            each.set_progress_bar_config(disable=True)  # type: ignore[no-untyped-call]
        if args.compile:
            pipeline.network.unet.compile()
        for size in args.sizes:
            side = size // args.scale
            image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(size))
            for mode in args.modes:
                row, result = measure(pipeline, image, args.scale, mode, args.repeats)
                if size <= args.compare_up_to:
                    difference = result - restore(reference, image, args.scale, mode)
                    row["rms_difference_grey_levels"] = round(255 * float(difference.square().mean().sqrt()), 4)
                rows.append({"mode": mode, "size": side * args.scale, "dtype": dtype, **row})
                print(rows[-1], flush=True)
    options = {"scale": args.scale, "repeats": args.repeats, "compiled": args.compile, "load_average": load}
    device = {"device": pipeline.device.type, "name": device_name(pipeline.device), "cuda": torch.version.cuda}
    write_record(args.out, {**device, **options, "rows": rows})


if __name__ == "__main__":
    main()
