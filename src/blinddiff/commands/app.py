"""`blinddiff app`: the page in a browser."""

import argparse

from blinddiff.commands.options import add_model_options, load_pipeline, whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff app`."""
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to be reached at; 0.0.0.0 for all (default: this machine only)"
    )
    parser.add_argument("--port", type=whole(1, 65535), help="default: the first free one from 7860")
    add_model_options(parser)
    parser.add_argument(
        "--max-megapixels",
        type=_above_zero,
        default=16.0,
        metavar="N",
        help="of one result, all samples together (default: 16)",
    )
    parser.add_argument("--max-upload", type=_above_zero, default=64.0, metavar="MB", help="of one file (default: 64)")
    parser.add_argument(
        "--queue", type=whole(1, 10000), default=16, metavar="N", help="visitors who may wait (default: 16)"
    )


def run(args: argparse.Namespace) -> int:
    """Serve the page until interrupted; 0."""
    import importlib.util
    import signal
    import threading

    from blinddiff.errors import BlindDiffError

    if importlib.util.find_spec("gradio") is None:
        raise BlindDiffError("the page needs more packages: pip install '.[ui]' in a copy of the repository")

    from blinddiff.app.limits import Limits
    from blinddiff.app.server import is_loopback, served

    limits = Limits(megapixels=args.max_megapixels, upload_megabytes=args.max_upload, queue=args.queue)
    try:
        with served(load_pipeline(args), args.host, args.port, limits) as address:
            # Asked to end in whatever way, it takes its files along.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            reach = "" if is_loopback(args.host) else " (whoever reaches this machine can use it: there is no password)"
            print(f"{address}{reach}; stop with Ctrl+C", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        print("stopped")
    return 0


def _above_zero(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1000000")
    return value
