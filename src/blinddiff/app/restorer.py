"""What happens when something on the page is pressed: each visitor's wish, in the one worker's turn."""

import logging
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

import gradio as gr

from blinddiff.app.answer import Answer, answer_of_result, answer_of_step, cleared
from blinddiff.app.asked import Asked
from blinddiff.app.figures import status
from blinddiff.app.files import Files
from blinddiff.app.job import events_of
from blinddiff.app.limits import Limits
from blinddiff.app.memory import give_back_memory
from blinddiff.app.restoring import restore
from blinddiff.app.saying import UNEXPECTED, sentence, shown_error
from blinddiff.app.stopping import watch
from blinddiff.errors import BlindDiffError, ImageError, ParameterError
from blinddiff.sampling.pipeline import BlindDiffPipeline

LOG = logging.getLogger("blinddiff.app")
_TICK = 1.0  # seconds between two signs of life
Given = TypeVar("Given")


class Restorer:
    """Restores one visitor's photograph after the other.

    Args:
        pipeline: holds the weights.
        limits: of what is asked.
        files: where results go.
    """

    def __init__(self, pipeline: BlindDiffPipeline, limits: Limits, files: Files) -> None:
        self._pipeline = pipeline
        self._limits = limits
        self._files = files
        self._worker = ThreadPoolExecutor(1, "restoring")
        watch(pipeline.network)

    async def restore(
        self,
        photograph: str | None,
        scale: int | None,
        mode: str | None,
        samples: float,
        seed: float | None,
        file_format: str,
        noise_level: float | None,
        steps: float | None,
        kernel_file: str | None,
        kernel_numbers: str | None,
        region: str | None,
        request: gr.Request,
    ) -> AsyncGenerator[Answer, None]:
        """Restore a photograph: an answer after each step, and at the end the whole one.

        Args:
            photograph: the uploaded file.
            scale: 1, 2, 3 or 4.
            mode: "fidelity", "fast", "perceptual" or "paper".
            samples: with more than one, the result is their mean, and there is an uncertainty map.
            seed: of the random noise; empty for 0.
            file_format: of the result: png, tif, jpg, webp or avif.
            noise_level: in grey levels, where it is known.
            steps: of the sampler; empty for the mode's own.
            kernel_file: the blur kernel where it is known: .csv, .txt, .json, .npy or .png.
            kernel_numbers: the same, typed: a row of numbers on each line.
            region: what the kernel is estimated from: left, top, width, height in pixels; empty for all.
        """
        try:
            if photograph is None:
                raise ImageError("no photograph yet: choose one first")
            asked = Asked(
                photograph=Path(photograph),
                scale=int(_given("scale", scale)),
                mode=_given("mode", mode),
                samples=int(samples),
                seed=int(seed or 0),
                file_format=file_format,
                noise_level=noise_level,
                steps=None if steps is None else int(steps),
                kernel_file=None if kernel_file is None else Path(kernel_file),
                kernel_numbers=kernel_numbers or "",
                region=region or "",
            )
            yield cleared("Waiting for the machine")
            async with aclosing(self._answers(asked, str(request.session_hash))) as answers:
                async for answer in answers:
                    yield answer
        except BlindDiffError as error:
            yield Answer(status(sentence(error), wrong=True))
            raise shown_error(sentence(error)) from None
        except Exception:  # whatever it is, the visitor is told no more than this
            LOG.exception("a restoration failed")
            yield Answer(status(UNEXPECTED, wrong=True))
            raise shown_error(UNEXPECTED) from None

    async def _answers(self, asked: Asked, visitor: str) -> AsyncGenerator[Answer, None]:
        for upload in (asked.photograph, asked.kernel_file):
            if upload is not None:
                self._files.uses(visitor, upload)
        folder = self._files.new_folder(visitor)
        words, started, answer = "Working", time.perf_counter(), None

        def work(tell: Callable[[Answer], None]) -> None:
            try:
                done = restore(self._pipeline, asked, self._limits, lambda step: tell(answer_of_step(step, folder)))
                tell(answer_of_result(done, asked.file_format, folder))
                del done
            finally:
                give_back_memory()

        try:
            async with aclosing(events_of(self._worker, work, _TICK)) as events:
                async for answer in events:
                    seconds = time.perf_counter() - started
                    if seconds > self._limits.seconds:
                        raise ParameterError(
                            f"the restoration took more than {self._limits.seconds:g} seconds and was stopped: choose "
                            "a smaller scale, fewer samples or steps, or cut out a part of the photograph"
                        )
                    # A sign of life; and by it the framework finds out that a visitor has gone.
                    yield Answer(status(f"{words}, {seconds:.0f} s")) if answer is None else answer
        except BaseException:
            self._files.remove(folder)
            raise


def _given(name: str, value: Given | None) -> Given:
    """What a call holds; refused where it is empty, which only a program's can be."""
    if value is None:
        raise ParameterError(f"{name}: it is empty, and has to be given")
    return value
