"""The photograph before it is restored: its preview, and the region that two clicks on it choose."""

import logging
import threading
from pathlib import Path
from typing import Any

import gradio as gr

from blinddiff.app.asked import Region, numbers_of, region_of
from blinddiff.app.figures import status
from blinddiff.app.files import Files
from blinddiff.app.limits import Limits
from blinddiff.app.pictures import preview, shown_size
from blinddiff.app.restoring import read_photograph
from blinddiff.app.saying import UNEXPECTED, sentence, shown_error
from blinddiff.errors import BlindDiffError

LOG = logging.getLogger("blinddiff.app")


class Looker:
    """Shows uploaded photographs.

    Args:
        limits: of their size.
        files: where previews go.
    """

    def __init__(self, limits: Limits, files: Files) -> None:
        self._limits = limits
        self._files = files
        self._one_at_a_time = threading.Lock()  # for the memory's sake

    def look(self, photograph: str | None, request: gr.Request) -> tuple[Any, Any, str, str]:
        """A new photograph: its preview, no region, and the status line."""
        if photograph is None:
            return gr.update(value=None, visible=False), None, "", status("")
        return self._shown(Path(photograph), "", None, request)

    def mark(
        self, photograph: str | None, region: str, event: gr.SelectData, request: gr.Request
    ) -> tuple[Any, Any, str, str]:
        """A click on the preview: the first chooses a corner of the region, the second the opposite one."""
        if photograph is None:
            raise shown_error("Choose a photograph first.")
        return self._shown(Path(photograph), region, (int(event.index[0]), int(event.index[1])), request)

    def _shown(
        self, path: Path, region: str, click: tuple[int, int] | None, request: gr.Request
    ) -> tuple[Any, Any, str, str]:
        visitor = str(request.session_hash)
        self._files.uses(visitor, path)
        try:
            with self._one_at_a_time:
                photograph = read_photograph(path, self._limits.pixels)
                height, width = photograph.pixels.shape[-2:]
                corner, chosen = None, None
                if click is not None:
                    factor = width / shown_size(photograph.pixels)[0]
                    x, y = (round(position * factor) for position in click)
                    corner, region = marked(region, min(x, width), min(y, height))
                if corner is None:
                    chosen = region_of(region, width, height)
                file = self._files.new_folder(visitor) / "preview.jpg"
                picture = preview(photograph, chosen, corner)
                # Pillow's writer of JPEG files does not look into the picture's `info`
                picture.save(file, quality=90, icc_profile=picture.info.get("icc_profile"))
        except BlindDiffError as error:
            raise shown_error(sentence(error)) from None
        except Exception:
            LOG.exception("a photograph could not be shown")
            raise shown_error(UNEXPECTED) from None
        words = f"{path.name}: {width} x {height} pixels"
        seen = gr.update(value=str(file), visible=True) if click is None else gr.skip()
        return seen, str(file), region, status(words)


def marked(region: str, x: int, y: int) -> tuple[tuple[int, int] | None, str]:
    """The region's text after a click at (x, y), and the corner if it is only that."""
    numbers = numbers_of(region)
    if len(numbers) != 2:
        return (x, y), f"{x}, {y}"
    left, top = min(numbers[0], x), min(numbers[1], y)
    return None, str(Region(left, top, abs(numbers[0] - x), abs(numbers[1] - y)))
