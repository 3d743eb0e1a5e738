"""`blinddiff degrade`: a sharp photograph in, a blurred, smaller and noisy one out, with its kernel."""

import argparse
from dataclasses import replace
from pathlib import Path

from blinddiff.cli.options import (
    KERNEL_FORMATS,
    add_scale_option,
    add_seed_option,
    check_kernel_outputs,
    check_not_kernel,
    read_photograph,
    whole,
)
from blinddiff.cli.streams import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff degrade`."""
    parser.add_argument("photograph", type=Path, help="the sharp image file")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="the degraded file to write: .png, .tif, .jpg, .webp or .avif; grey, bits of a channel, colour profile, "
        "EXIF and XMP stay as the photograph's where the format holds them, transparency does not",
    )
    add_scale_option(parser)
    blur = parser.add_mutually_exclusive_group(required=True)
    blur.add_argument("--sigma", type=float, help="Gaussian blur of this width, in pixels of the sharp photograph")
    blur.add_argument("--kernel", type=Path, metavar="FILE", help=f"blur kernel: {KERNEL_FORMATS}")
    blur.add_argument("--family", help="a random kernel of a family, such as isotropic, anisotropic, motion or disk")
    parser.add_argument(
        "--noise", type=float, default=0.0, metavar="SIGMA", help="Gaussian noise in grey levels (default: 0)"
    )
    parser.add_argument("--jpeg", type=whole(1, 100), metavar="QUALITY", help="compress before writing")
    add_seed_option(parser, "of the noise and the random kernel")
    parser.add_argument("--save-kernel", type=Path, metavar="FILE", help=f"also write the kernel: {KERNEL_FORMATS}")


def run(args: argparse.Namespace) -> int:
    """Degrade one photograph; 0."""
    import torch

    from blinddiff.cli.options import kernel_words
    from blinddiff.degradation import NOISES, DegradationOperator, sample_kernels
    from blinddiff.degradation.kernel_files import read_kernel, write_kernel
    from blinddiff.degradation.kernels import isotropic_gaussian
    from blinddiff.imaging import check_output, visible_colours, write_image

    size = 31
    photograph = read_photograph(args.photograph)
    kept = replace(photograph, alpha=None)  # all but transparency
    check_output(args.output, kept)
    check_not_kernel(args.output, args.kernel)
    if args.save_kernel is not None:
        check_kernel_outputs([args.save_kernel], args.photograph, args.kernel, args.output)
    generator = torch.Generator().manual_seed(args.seed)
    if args.kernel is not None:
        kernel = read_kernel(args.kernel)
    elif args.sigma is not None:
        kernel = isotropic_gaussian(args.sigma, size)
    else:
        kernel = sample_kernels({args.family: 1.0}, 1, args.scale, size, generator)[0]
    height, width = (side // args.scale * args.scale for side in photograph.pixels.shape[-2:])
    # Grey is one channel: the mean of three would have less noise than was asked for.
    channels = 1 if photograph.grey else 3
    y = DegradationOperator(kernel, args.scale)(visible_colours(photograph)[None, :channels, :height, :width])
    y = NOISES["gaussian"].apply(y, torch.tensor([args.noise]), generator)
    if args.jpeg is not None:
        y = NOISES["jpeg"].apply(y, torch.tensor([float(args.jpeg)]), generator)
    write_image(args.output, y[0], kept)
    if args.save_kernel is not None:
        write_kernel(args.save_kernel, kernel)
    say(f"{args.output}: {y.shape[-1]} x {y.shape[-2]}; {kernel_words(kernel, args.noise)}")
    return 0
