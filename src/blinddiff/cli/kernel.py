"""`blinddiff kernel`: the blur kernel and the noise level of a photograph."""

import argparse
from pathlib import Path

from blinddiff.cli.options import (
    KERNEL_FORMATS,
    add_model_options,
    add_scale_option,
    check_kernel_outputs,
    load_pipeline,
    read_photograph,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff kernel`."""
    parser.add_argument("photograph", type=Path, help="the image file")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        action="append",
        default=[],
        help=f"write the kernel there: {KERNEL_FORMATS}, as the ending says; may be repeated",
    )
    add_scale_option(parser)
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Estimate, write and print; 0."""
    from blinddiff.cli.options import kernel_words
    from blinddiff.cli.streams import say
    from blinddiff.degradation.kernel_files import write_kernel
    from blinddiff.imaging import visible_colours

    photograph = read_photograph(args.photograph)
    check_kernel_outputs(args.output, args.photograph)
    pixels, pipeline = visible_colours(photograph), load_pipeline(args)
    estimate = pipeline.estimate(pixels, args.scale)
    expected_error = float(pipeline.expected_kernel_error(pixels, args.scale)[0])
    for path in args.output:
        write_kernel(path, estimate.kernel[0])
    found = kernel_words(estimate.kernel[0], float(estimate.noise_level[0]), expected_error)
    say(f"{args.photograph}: {found} (kernel in pixels of the x{args.scale} result)")
    return 0
