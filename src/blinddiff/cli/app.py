"""`blinddiff app`: the page in a browser."""

import argparse

from blinddiff.app import Limits
from blinddiff.cli.options import above_zero, add_model_options, load_pipeline, whole
from blinddiff.cli.streams import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff app`."""
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to be reached at; 0.0.0.0 for all (default: this machine only)"
    )
    parser.add_argument("--port", type=whole(1, 65535), help="default: the first free one from 7860")
    add_model_options(parser)
    parser.add_argument(
        "--max-megapixels",
        type=above_zero,
        default=Limits.megapixels,
        metavar="N",
        help="of one result, all samples together (default: %(default)g)",
    )
    parser.add_argument(
        "--max-upload",
        type=above_zero,
        default=Limits.upload_megabytes,
        metavar="MB",
        help="of one file (default: %(default)g)",
    )
    parser.add_argument(
        "--queue",
        type=whole(1, 10000),
        default=Limits.queue,
        metavar="N",
        help="visitors who may wait (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve the page until interrupted; 0."""
    import importlib.util
    import signal
    import threading

    from blinddiff.errors import BlindDiffError

    if importlib.util.find_spec("gradio") is None:
        raise BlindDiffError("the page needs more packages: pip install '.[ui]' in a copy of the repository")

    from blinddiff.app.server import is_loopback, served

    limits = Limits(megapixels=args.max_megapixels, upload_megabytes=args.max_upload, queue=args.queue)
    # Asked to end in whatever way, it takes its files along; a closed terminal counts unless told otherwise (nohup).
    for name in ("SIGTERM", "SIGHUP"):
        end = getattr(signal, name, None)  # Windows has no SIGHUP
        if end is not None and signal.getsignal(end) is signal.SIG_DFL:
            signal.signal(end, signal.default_int_handler)
    try:
        with served(load_pipeline(args), args.host, args.port, limits) as address:
            reach = "" if is_loopback(args.host) else " (whoever reaches this machine can use it: there is no password)"
            say(f"{address}{reach}; stop with Ctrl+C")
            threading.Event().wait()
    except KeyboardInterrupt:
        say("stopped")
    return 0
