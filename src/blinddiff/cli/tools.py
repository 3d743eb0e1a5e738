"""The commands `blinddiff demo`, `kernel`, `degrade` and `convert`; each returns 0."""

import argparse
import os
import shutil
from dataclasses import replace

import torch
from safetensors import SafetensorError
from tqdm import tqdm

from blinddiff.cli.options import (
    check_kernel_outputs,
    check_not_kernel,
    kernel_words,
    say,
)
from blinddiff.degradation import NOISES, DegradationOperator, bicubic_upsample, sample_kernels
from blinddiff.degradation.kernel_files import read_kernel, write_kernel
from blinddiff.degradation.kernel_measures import widths_and_angle
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.errors import OutputError, ParameterError, WeightsError
from blinddiff.files import make_folder
from blinddiff.imaging import (
    SheetFacts,
    check_output,
    comparison_sheet,
    from_picture,
    kernel_picture,
    visible_colours,
    write_image,
    write_picture,
)
from blinddiff.published.network import network_from_published, read_published
from blinddiff.restoring.photograph import RestoreSettings, load_pipeline, restore_photograph
from blinddiff.sampling.output import read_restorable
from blinddiff.sampling.pipeline import BlindDiffPipeline
from blinddiff.sampling.schedulers import default_scheduler

DEMO_SCALE = 4
DEMO_KERNEL = "kernel.csv"
DEMO_PICTURES = ("input.png", "bicubic.png", "result.png", "kernel.png", "sheet.png")
KERNEL_SIZE = 31
"""Side of the kernels that `blinddiff degrade` makes."""


def run_demo(args: argparse.Namespace) -> int:
    """Restore a photograph; write it, its kernel and a sheet that compares it with bicubic interpolation."""
    # Bad input is refused before the progress bar is shown, so that the error is one line.
    photograph = read_restorable(args.photograph)
    pipeline = load_pipeline(args.weights, args.device)
    make_folder(args.output)
    pixels = visible_colours(photograph)
    opaque = replace(photograph, pixels=pixels, alpha=None)
    for name in DEMO_PICTURES:
        check_output(args.output / name, opaque)
    check_kernel_outputs([args.output / DEMO_KERNEL], args.photograph)
    with tqdm(total=3, bar_format="{desc:<28} {bar} {n_fmt}/{total_fmt}") as bar:
        bar.set_description_str("restoring")
        result = restore_photograph(pipeline, opaque, RestoreSettings(scale=DEMO_SCALE))
        bar.update()
        bar.set_description_str("drawing the sheet")
        bicubic = bicubic_upsample(pixels, DEMO_SCALE).clamp(0, 1)
        major, minor, angle = (float(value) for value in widths_and_angle(result.kernel))
        facts = SheetFacts(
            scale=DEMO_SCALE,
            noise_level=result.noise_level,
            residual_rms=result.residual_rms,
            kernel_widths=(major, minor),
            kernel_angle=angle,
            seconds=result.seconds,
        )
        sheet = comparison_sheet(
            pixels, bicubic, result.pixels, result.kernel, result.residual / 255, facts, title=args.photograph.name
        )
        bar.update()
        bar.set_description_str("writing the folder")
        write_image(args.output / "input.png", pixels, opaque)
        write_image(args.output / "bicubic.png", bicubic, opaque)
        write_image(args.output / "result.png", result.pixels, opaque)
        write_picture(args.output / "kernel.png", kernel_picture(result.kernel))
        write_kernel(args.output / DEMO_KERNEL, result.kernel)
        # In the colours of the pictures on it; but a profile for grey does not describe its three channels.
        profile = None if opaque.grey else opaque.icc_profile
        like = replace(opaque, grey=False, bit_depth=8, icc_profile=profile, exif=None, xmp=None)
        write_image(args.output / "sheet.png", from_picture(sheet)[0], like)
        bar.update()
        bar.set_description_str("done")
    say(f"{args.output / 'sheet.png'}: input, bicubic and result side by side, with the kernel and the figures")
    return 0


def run_kernel(args: argparse.Namespace) -> int:
    """Estimate a photograph's kernel and noise level; write and print them."""
    photograph = read_restorable(args.photograph)
    check_kernel_outputs(args.output, args.photograph)
    pixels, pipeline = visible_colours(photograph), load_pipeline(args.weights, args.device)
    estimate = pipeline.estimate(pixels, args.scale)
    expected_error = float(pipeline.expected_kernel_error(pixels, args.scale)[0])
    for path in args.output:
        write_kernel(path, estimate.kernel[0])
    found = kernel_words(estimate.kernel[0], float(estimate.noise_level[0]), expected_error)
    say(f"{args.photograph}: {found} (kernel in pixels of the x{args.scale} result)")
    return 0


def run_degrade(args: argparse.Namespace) -> int:
    """Blur, reduce and add noise to a sharp photograph; write it, and the kernel."""
    photograph = read_restorable(args.photograph)
    opaque = replace(photograph, alpha=None)
    check_output(args.output, opaque)
    check_not_kernel(args.output, args.kernel)
    if args.save_kernel is not None:
        check_kernel_outputs([args.save_kernel], args.photograph, args.kernel, args.output)
    generator = torch.Generator().manual_seed(args.seed)
    if args.kernel is not None:
        kernel = read_kernel(args.kernel)
    elif args.sigma is not None:
        kernel = isotropic_gaussian(args.sigma, KERNEL_SIZE)
    else:
        kernel = sample_kernels({args.family: 1.0}, 1, args.scale, KERNEL_SIZE, generator)[0]
    height, width = (side // args.scale * args.scale for side in photograph.pixels.shape[-2:])
    # Grey is degraded as one channel: the mean of three would have less noise than was asked for.
    channels = 1 if photograph.grey else 3
    y = DegradationOperator(kernel, args.scale)(visible_colours(photograph)[None, :channels, :height, :width])
    y = NOISES["gaussian"].apply(y, torch.tensor([args.noise]), generator)
    if args.jpeg is not None:
        y = NOISES["jpeg"].apply(y, torch.tensor([float(args.jpeg)]), generator)
    write_image(args.output, y[0], opaque)
    if args.save_kernel is not None:
        write_kernel(args.save_kernel, kernel)
    say(f"{args.output}: {y.shape[-1]} x {y.shape[-2]}; {kernel_words(kernel, args.noise)}")
    return 0


def run_convert(args: argparse.Namespace) -> int:
    """Turn a checkpoint of the published code into a folder of weights."""
    if os.path.exists(args.folder):
        raise OutputError(f"{args.folder}: exists already")
    state = read_published(args.checkpoint)
    try:
        network = network_from_published(state, args.scale)
    except (ParameterError, WeightsError) as error:
        raise WeightsError(f"{args.checkpoint}: {error}") from error
    temporary = args.folder.with_name(f".{args.folder.name}.tmp")
    try:
        BlindDiffPipeline(network, default_scheduler(network)).save_pretrained(temporary)
        temporary.rename(args.folder)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{args.folder}: cannot be written: {getattr(error, 'strerror', None) or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    config = network.config
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    say(f"{args.folder}: dim {config.dim}, blocks {list(config.num_blocks)}, {millions:.1f} million parameters")
    return 0
