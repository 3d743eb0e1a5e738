"""Displays the chosen photographs, and the crop and region that the visitor selects by presses on the picture."""

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from blinddiff.app import Limits
from blinddiff.app.pictures import CROP_COLOUR, REGION_COLOUR, display_size, draw_preview
from blinddiff.app.request import Region, add_corner, number_of_pages, parse_crop, parse_region, read_photograph
from blinddiff.app.views import page_error, status
from blinddiff.app.visitor_files import VisitorFiles
from blinddiff.errors import ImageError, ParameterError


class Preview:
    """Handlers of the form. Their arguments are the values of its fields; files are paths."""

    def __init__(self, limits: Limits, files: VisitorFiles) -> None:
        self._limits, self._files = limits, files
        self._lock = threading.Lock()  # one photograph in memory at a time

    def show(self, photographs: list[str] | None, page: float | None, request: gr.Request) -> tuple[Any, ...]:
        """Display a photograph: picture, field for the page, names with sizes, crop, region, text, and empty status.

        Several photographs have no picture: each is restored as a whole.
        """
        picture, pages = gr.update(value=None, visible=False), 1
        sizes: list[tuple[str, int, int]] = []
        try:
            paths, number = [Path(name) for name in photographs or []], int(page or 1)
            for path in paths:
                self._files.keep_upload(str(request.session_hash), path)
            text = f"{len(paths)} photographs" if paths else ""
            if len(paths) == 1:
                pages = number_of_pages(paths[0])
                file, _, sizes, notes = self._draw(paths[0], number, {}, None, request)
                picture = gr.update(value=file, visible=True)
                [(name, height, width)] = sizes
                which = [f"page {number} of {pages}"] if pages > 1 else []
                text = "; ".join([f"{name}: {width} x {height} pixels", *which, *notes])
            for path in paths if len(paths) > 1 else ():
                # What cannot be opened here is read, or reported, when it is restored.
                with suppress(Exception), Image.open(path) as stored:
                    sizes.append((path.name, stored.height, stored.width))
            about = status(text)
        except Exception as error:  # noqa: BLE001  # logged, and reported to the visitor
            about = status(page_error(error).message, is_error=True)
        crop = gr.update(value="", visible=len(sizes) == 1)
        return picture, gr.update(value=int(page or 1), visible=pages > 1), sizes, crop, "", about, status("")

    def click(
        self,
        photographs: list[str] | None,
        page: float | None,
        crop: str,
        region: str,
        for_region: bool,
        event: gr.SelectData,
        request: gr.Request,
    ) -> tuple[str, str, str]:
        """Handle a press on the picture: the first sets a corner of the crop or the region, the second the opposite.

        Returns the picture, and the texts of crop and region.
        """
        try:
            if not photographs:
                raise ImageError("choose a photograph first")
            press = REGION_COLOUR if for_region else CROP_COLOUR, int(event.index[0]), int(event.index[1])
            texts = {CROP_COLOUR: crop, REGION_COLOUR: region}
            file, texts, *_ = self._draw(Path(photographs[0]), int(page or 1), texts, press, request)
        except Exception as error:  # noqa: BLE001  # logged, and reported to the visitor
            raise page_error(error) from None
        return file, texts[CROP_COLOUR], texts[REGION_COLOUR]

    def _draw(
        self, path: Path, page: int, texts: dict[str, str], press: tuple[str, int, int] | None, request: gr.Request
    ) -> tuple[str, dict[str, str], list[tuple[str, int, int]], tuple[str, ...]]:
        """Draw a photograph with crop and region, whose texts are given by colour; ``press`` adds a corner to one.

        Returns the picture's file, the texts, the name with height and width, and the photograph's notes.
        """
        with self._lock:
            photograph = read_photograph(path, self._limits, page)
            height, width = photograph.pixels.shape[-2:]
            corner, pressed = None, None
            rectangles: dict[str, Region] = {}
            if press is not None:
                pressed, *position = press
                factor = width / display_size(photograph.pixels)[1]
                x, y = (round(value * factor) for value in position)
                corner, text = add_corner(texts[pressed], min(x, width), min(y, height))
                texts = {**texts, pressed: text}
            for colour, parse in ((CROP_COLOUR, parse_crop), (REGION_COLOUR, parse_region)):
                try:
                    rectangle = parse(texts.get(colour, ""), width, height)
                except ParameterError:  # one corner so far, or a text that is reported with the plan
                    if colour == pressed and corner is None:
                        raise
                else:
                    rectangles |= {} if rectangle is None else {colour: rectangle}
            file = self._files.new_folder(str(request.session_hash)) / "preview.jpg"
            picture = draw_preview(photograph, rectangles, corner)
            picture.save(file, quality=90, icc_profile=picture.info.get("icc_profile"))
        return str(file), texts, [(path.name, height, width)], photograph.notes
