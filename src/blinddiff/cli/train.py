"""`blinddiff train`: train a network by a recipe, or resume a run."""

import argparse
import math
from pathlib import Path

from blinddiff.cli.options import make_folder
from blinddiff.cli.streams import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff train`."""
    parser.add_argument("recipe", type=Path, help="a YAML file, such as those in the folder recipes")
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="FOLDER",
        help="folders of training photographs (default: the recipe's, or the environment variable BLINDDIFF_DATA)",
    )
    parser.add_argument("-o", "--output", type=Path, help="folder of the run (default: runs/ and the recipe's name)")
    parser.add_argument("--resume", action="store_true", help="continue from the folder's last checkpoint")
    parser.add_argument(
        "--max-minutes", type=float, default=math.inf, metavar="N", help="stop with a checkpoint after N minutes"
    )
    parser.add_argument("--device", choices=("cpu",), help="keep from using an accelerator")


def run(args: argparse.Namespace) -> int:
    """Train; 0."""
    from blinddiff.training.recipe import load_recipe
    from blinddiff.training.trainer import train

    recipes = load_recipe(args.recipe, args.data)
    folder = args.output or Path("runs") / args.recipe.stem
    if not args.resume:
        make_folder(folder)
    weights = train(recipes, folder, resume=args.resume, max_minutes=args.max_minutes, device=args.device)
    say(f"weights: {weights}")
    return 0
