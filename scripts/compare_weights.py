"""Draw what two sets of weights make of a folder of photographs: bicubic, before and after, side by side.

python scripts/compare_weights.py BEFORE AFTER FOLDER [-o sheet.png] [--scale 4] [--side 360]

BEFORE and AFTER are folders of weights; "included" stands for those of the package. Each photograph is restored whole,
and the middle of each result is shown pixel for pixel. Under it are kernel width and noise of both estimates.
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from blinddiff.degradation.kernel_measures import widths_and_angle
from blinddiff.evaluation.data import images_in
from blinddiff.imaging import read_image, to_picture, visible_colours
from blinddiff.imaging.photograph import Planes, enlarge
from blinddiff.restoring.engines import load_pipeline
from blinddiff.restoring.photograph import RestoreSettings, Result, restore_photograph

CAPTION, GAP = 22, 6
COLUMNS = 2  # of photographs, three pictures each


def middle(image: Planes, side: int) -> Image.Image:
    """The central square of (3, H, W), at most `side` pixels wide."""
    top, left = (max(0, (length - side) // 2) for length in image.shape[-2:])
    return to_picture(image[:, top : top + side, left : left + side])


def caption(label: str, result: Result) -> str:
    """The estimates of a result in a few words."""
    width = float(widths_and_angle(result.kernel)[0])
    sharpened = ", sharpened" if result.sharpness.sharpened else ""
    return f"{label}: kernel {width:.1f}{sharpened}; {result.kind_of_noise} {result.noise_level:.1f}"


def main() -> None:
    """Restore all photographs with both weights, and write one sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/weights.png"))
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--side", type=int, default=360)
    args = parser.parse_args()
    weights = [None if name == "included" else Path(name) for name in (args.before, args.after)]
    pipelines = [load_pipeline(each) for each in weights]
    settings = RestoreSettings(scale=args.scale)
    files = images_in(args.folder)
    tile = args.side + GAP, args.side + CAPTION + GAP
    sheet = Image.new("RGB", (3 * COLUMNS * tile[0], -(-len(files) // COLUMNS) * tile[1]), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for number, path in enumerate(files):
        photograph = read_image(path)
        enlarged = enlarge(visible_colours(photograph), args.scale).clip(0, 1)
        shown = [(enlarged, path.stem)]
        for label, pipeline in zip(("before", "after"), pipelines, strict=True):
            result = restore_photograph(pipeline, photograph, settings)
            shown.append((result.pixels, caption(label, result)))
        print("; ".join(text for _, text in shown), flush=True)
        row, column = divmod(number, COLUMNS)
        for index, (image, text) in enumerate(shown):
            corner = (3 * column + index) * tile[0], row * tile[1]
            sheet.paste(middle(image, args.side), corner)
            draw.text((corner[0] + 2, corner[1] + args.side + 3), text, fill="black", font=font)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(args.output)


if __name__ == "__main__":
    main()
