"""`blinddiff upscale`: a photograph in, the sharp photograph out."""

import argparse
import time
from pathlib import Path

from blinddiff.commands.options import (
    add_model_options,
    add_scale_option,
    add_seed_option,
    check_kernel_outputs,
    load_pipeline,
    read_photograph,
    whole,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff upscale`."""
    parser.add_argument("photograph", type=Path, help="the image file to restore")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the file to write: .png, .jpg or .webp")
    add_scale_option(parser)
    parser.add_argument("--steps", type=whole(1, 1000), default=1, help="steps of the reverse diffusion (default: 1)")
    parser.add_argument(
        "--kernel", type=Path, help="the blur kernel, where it is known: .npy, .mat, .csv, .json or .png"
    )
    parser.add_argument("--noise-level", type=float, help="the noise in grey levels, where it is known")
    parser.add_argument("--save-kernel", type=Path, metavar="FILE", help="also write the kernel that was found")
    add_seed_option(parser, "of the noise that the diffusion starts from")
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Restore one photograph; 0."""
    import torch
    from tqdm import tqdm

    from blinddiff.commands.facts import kernel_words
    from blinddiff.degradation import bicubic_upsample
    from blinddiff.degradation.kernels import read_kernel, write_kernel
    from blinddiff.errors import KernelError
    from blinddiff.imaging import check_output, write_image

    photograph = read_photograph(args.photograph)
    check_output(args.output, photograph)
    if args.save_kernel is not None:
        check_kernel_outputs([args.save_kernel], args.photograph, args.output)
    kernel = None if args.kernel is None else read_kernel(args.kernel)
    pipeline = load_pipeline(args)
    started = time.perf_counter()
    # The delay keeps the bar away until the arguments have been found good: what is wrong is said in one line.
    with tqdm(total=args.steps, desc=args.photograph.name, unit="step", delay=0.1) as bar:
        try:
            out = pipeline(
                photograph.pixels,
                scale=args.scale,
                num_inference_steps=args.steps,
                kernel=kernel,
                noise_level=args.noise_level,
                generator=torch.Generator().manual_seed(args.seed),
                output_type="pt",
                callback_on_step_end=lambda *_: (bar.update(), None)[1],
            )
        except KernelError as error:
            raise KernelError(f"{args.kernel}: {error}") from error
    seconds = time.perf_counter() - started
    alpha = None if photograph.alpha is None else bicubic_upsample(photograph.alpha, args.scale).clamp(0, 1)
    write_image(args.output, out.images[0], photograph, alpha)
    if args.save_kernel is not None:
        write_kernel(args.save_kernel, out.kernels[0])
    residual = float(out.residuals[0].square().mean().sqrt())
    height, width = out.images.shape[-2:]
    found = kernel_words(out.kernels[0], float(out.noise_levels[0]))
    print(f"{args.output}: {width} x {height}; {found}; residual {residual:.2f} grey levels; {seconds:.1f} s")
    return 0
