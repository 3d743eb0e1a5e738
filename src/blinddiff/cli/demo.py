"""`blinddiff demo`: the main job on a photograph that ships with the package."""

import argparse
from dataclasses import replace
from pathlib import Path

from blinddiff.cli.options import add_model_options, check_kernel_outputs, load_pipeline, make_folder, read_photograph
from blinddiff.cli.streams import say

SAMPLE = Path(__file__).parents[1] / "samples" / "flowers.jpg"
SCALE = 4
KERNEL = "kernel.csv"
PICTURES = ("input.png", "bicubic.png", "result.png", "kernel.png", "sheet.png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff demo`."""
    parser.add_argument(
        "photograph", type=Path, nargs="?", default=SAMPLE, help="another image file (default: the sample)"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("demo"),
        help="folder to write (default: demo); input, bicubic and result keep the photograph's grey, bits of a "
        "channel, colour profile, EXIF and XMP, but not its transparency",
    )
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Restore, write the folder and say what is in it; 0."""
    from tqdm import tqdm

    from blinddiff.degradation import bicubic_upsample
    from blinddiff.degradation.kernel_files import write_kernel
    from blinddiff.degradation.kernel_measures import widths_and_angle
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
    from blinddiff.restoring.photograph import RestoreSettings, restore_photograph

    # What can be wrong is found before the bar is shown: it is said in one line.
    photograph = read_photograph(args.photograph)
    pipeline = load_pipeline(args)
    make_folder(args.output)
    pixels = visible_colours(photograph)
    kept = replace(photograph, pixels=pixels, alpha=None)  # all but transparency
    for name in PICTURES:
        check_output(args.output / name, kept)
    check_kernel_outputs([args.output / KERNEL], args.photograph)

    with tqdm(total=3, bar_format="{desc:<28} {bar} {n_fmt}/{total_fmt}") as bar:

        def stage(what: str) -> None:
            bar.set_description_str(what)

        stage("restoring")
        result = restore_photograph(pipeline, kept, RestoreSettings(scale=SCALE))
        bar.update()
        stage("drawing the sheet")
        bicubic = bicubic_upsample(pixels, SCALE).clamp(0, 1)
        major, minor, angle = (float(value) for value in widths_and_angle(result.kernel))
        facts = SheetFacts(
            scale=SCALE,
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
        stage("writing the folder")
        write_image(args.output / "input.png", pixels, kept)
        write_image(args.output / "bicubic.png", bicubic, kept)
        write_image(args.output / "result.png", result.pixels, kept)
        write_picture(args.output / "kernel.png", kernel_picture(result.kernel))
        write_kernel(args.output / KERNEL, result.kernel)
        # In the colours of the pictures beside it; a profile for grey does not describe its three channels.
        profile = None if kept.grey else kept.icc_profile
        shown = replace(kept, grey=False, bit_depth=8, icc_profile=profile, exif=None, xmp=None)
        write_image(args.output / "sheet.png", from_picture(sheet)[0], shown)
        bar.update()
        stage("done")
    say(f"{args.output / 'sheet.png'}: input, bicubic and result side by side, with the kernel and the figures")
    return 0
