"""The command `blinddiff degrade`."""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from blinddiff import imaging
from blinddiff.cli import inputs
from blinddiff.cli.options import print_line
from blinddiff.cli.photographs import check_kernel_outputs, check_not_kernel, describe_kernel
from blinddiff.degradation import NOISES, DegradationOperator, sample_kernels
from blinddiff.degradation.kernel_files import read_kernel, write_kernel
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.files import make_folder

KERNEL_SIZE = 31  # side of the generated kernels


def run_degrade(args: argparse.Namespace) -> None:
    """Blur and reduce a sharp photograph, add noise, and write the result and the kernel."""
    photograph = inputs.read_photograph(args.photograph)
    opaque, output = replace(photograph, alpha=None), Path(args.output)
    if inputs.is_folder(args.output):
        output /= f"{args.photograph.stem}_degraded.png"
    height, width = (side // args.scale * args.scale for side in photograph.pixels.shape[-2:])
    new_folder = inputs.is_new_folder(args.output, output)
    check = imaging.check_format if new_folder else imaging.check_output
    check(output, opaque, (width // args.scale, height // args.scale))
    check_not_kernel(output, args.kernel)
    if args.save_kernel is not None:
        check_kernel_outputs([args.save_kernel], args.photograph, args.kernel, output)
    generator = torch.Generator().manual_seed(args.seed)
    if args.kernel is not None:
        kernel = torch.from_numpy(read_kernel(args.kernel))
    elif args.sigma is not None:
        kernel = isotropic_gaussian(args.sigma, KERNEL_SIZE)
    else:
        kernel = sample_kernels({args.family: 1.0}, 1, args.scale, KERNEL_SIZE, generator)[0]
    # Greyscale is degraded as one channel: the mean of three would have less noise than requested.
    channels = 1 if photograph.grey else 3
    x = torch.from_numpy(imaging.visible_colours(photograph))[None, :channels, :height, :width]
    y = DegradationOperator(kernel, args.scale)(x)
    y = NOISES["gaussian"].apply(y, torch.tensor([args.noise]), generator)
    if args.jpeg is not None:
        y = NOISES["jpeg"].apply(y, torch.tensor([float(args.jpeg)]), generator)
    if new_folder:
        make_folder(output.parent)
    imaging.write_image(output, y[0], opaque)
    inputs.print_notes(str(args.photograph), imaging.left_out(output, opaque))
    if args.save_kernel is not None:
        write_kernel(args.save_kernel, kernel)
    print_line(f"{output}: {y.shape[-1]} x {y.shape[-2]}; {describe_kernel(kernel.numpy(), args.noise)}")
