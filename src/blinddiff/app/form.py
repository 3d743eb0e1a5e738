"""What the form requests: the plan, and the restoration of one photograph or of several."""

import json
import math
import time
import zipfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path, PurePath
from typing import Any

import gradio as gr

from blinddiff.app.jobs import Progress, Restored
from blinddiff.app.request import Request, parse_crop, parse_number, parse_size
from blinddiff.app.restorer import Restorer
from blinddiff.app.views import Answer, batch_table, download_links, page_error, progress_answer, result_html, status
from blinddiff.errors import ImageError, ParameterError
from blinddiff.restoring.photograph import RestoreSettings
from blinddiff.restoring.plan import duration

Outcome = tuple[str, Restored | str]
"""The name of a photograph, and its result or the reason for having none."""
ZIP_NAME = "blinddiff-results.zip"


def parse_settings(scale: float, size: str, mode: str, samples: float, steps: str, **others: Any) -> dict[str, Any]:
    """The settings in the fields of the form. Raises ParameterError, with the field's name, for a wrong text."""
    number = parse_number("steps", steps, 1, 1000, whole=True)
    return {"scale": scale, **parse_size(size), "mode": mode, "samples": int(samples), "steps": number, **others}


def write_zip(archive: Path, outcomes: Sequence[Outcome]) -> None:
    """Write the results, and estimates.json: the facts of each, or the error of a photograph without a result."""
    records, names = [], set[str]()
    with zipfile.ZipFile(archive, "w") as target:  # not compressed: image files are already
        for name, outcome in outcomes:
            if isinstance(outcome, str):
                records.append({"photograph": name, "error": outcome})
                continue
            path, number = PurePath(outcome.result.name), 2
            while path.name in names:  # photographs of one name from several folders
                path, number = path.with_name(f"{outcome.result.stem}-{number}{path.suffix}"), number + 1
            names.add(path.name)
            target.write(outcome.result, path.name)
            records.append({"result": path.name, **outcome.facts})
        target.writestr("estimates.json", json.dumps(records))


class Form:
    """Handlers of the form. Their arguments are the values of its fields; files are paths."""

    def __init__(self, restorer: Restorer) -> None:
        self._restorer, self._limits, self._files = restorer, restorer.limits, restorer.files

    async def plan(
        self,
        sizes: list[tuple[str, int, int]],
        crop: str,
        scale: float,
        size: str,
        mode: str,
        samples: float,
        steps: str,
    ) -> AsyncGenerator[str, None]:
        """The size of the result, then also the time to expect; or why the form cannot be restored as it is."""
        if not sizes or (len(sizes) == 1 and crop.count(",") == 1):
            yield status("Press the opposite corner of the part to restore." if sizes else "")
            return
        try:
            settings = RestoreSettings(**parse_settings(scale, size, mode, samples, steps))
            megapixels, results, parts = 0.0, "", []
            for name, height, width in sizes:
                if len(sizes) == 1 and (part := parse_crop(crop, width, height)):
                    height, width = part.height, part.width
                passes = settings.passes(height, width, self._restorer.pipeline)
                self._limits.check(name, width, height, math.prod(passes), settings.samples)
                rows, columns = settings.result_size(height, width)
                megapixels += rows * columns / 1e6
                results = f"Result: {columns} x {rows} pixels"
                parts.append((name, height, width))
            if len(sizes) > 1:
                results = f"{len(sizes)} results of {megapixels:.1f} megapixels"
            yield status(f"{results}; estimating the time")
            plans = [await self._restorer.plan(height, width, settings) for _, height, width in parts]
            for (name, _, _), plan in zip(parts, plans, strict=True):
                if plan.seconds > self._limits.seconds:
                    limit = duration(self._limits.seconds)
                    raise ParameterError(f"{name}: {plan.sentence()}; a restoration is stopped after {limit}")
            total = f"{results}; about {duration(sum(plan.seconds for plan in plans))}"
            yield status(total if len(plans) > 1 else f"Result: {plans[0].sentence()}")
        except Exception as error:  # noqa: BLE001  # logged, and reported to the visitor
            yield status(page_error(error).message, is_error=True)

    async def restore(
        self,
        photographs: list[str] | None,
        page: float | None,
        crop: str,
        scale: float,
        size: str,
        mode: str,
        samples: float,
        seed: float | None,
        file_format: str,
        noise_level: str,
        steps: str,
        kernel_map: bool,
        mask_file: str | None,
        kernel_file: str | None,
        kernel_numbers: str,
        region: str,
        request: gr.Request,
    ) -> AsyncGenerator[Answer, None]:
        """Restore the photographs: yield the progress, and each result."""
        visitor, several, started = str(request.session_hash), len(photographs or []) > 1, time.perf_counter()
        outcomes: list[Outcome] = []
        try:
            paths = [Path(name) for name in photographs or []]
            if not paths:
                raise ImageError("no photograph yet: choose one first")
            if len(paths) > self._limits.files:
                raise ParameterError(f"{len(paths)} photographs: at most {self._limits.files} at a time")
            if several and (crop.strip() or region.strip() or mask_file):
                raise ParameterError("a part, a region or a mask can be given for a single photograph only")
            noise = parse_number("noise level", noise_level, 0, 255)
            more = {"seed": int(seed or 0), "noise_level": noise, "kernel_map": kernel_map}
            settings = parse_settings(scale, size, mode, samples, steps, **more)
            rest: dict[str, Any] = {"file_format": file_format, "crop": crop, "page": None if several else page}
            rest["mask_file"] = mask_file
            rest |= {"kernel_file": kernel_file, "kernel_numbers": kernel_numbers, "region": region}
            jobs = [Request.checked(photograph=path, settings=settings, **rest) for path in paths]
            # The results of the previous restoration are hidden until there are new ones.
            yield Answer(status("Waiting for the machine"), gr.update(visible=False), None, "", None)
            for number, job in enumerate(jobs, 1):
                prefix = f"{number} of {len(jobs)}, {job.photograph.name}: " if several else ""
                try:
                    async with aclosing(self._restorer.restore(job, visitor)) as events:
                        async for event in events:
                            if isinstance(event, Progress):
                                yield progress_answer(event, prefix)
                            else:
                                outcomes.append((job.photograph.name, event))
                except Exception as error:
                    if not several:
                        raise
                    outcomes.append((job.photograph.name, page_error(error).message))
                for upload in paths[number:]:  # they may wait for longer than unused files are kept
                    self._files.keep_upload(visitor, upload)
                yield self._answer(outcomes, several)
            if several:
                archive = self._files.new_folder(visitor) / ZIP_NAME
                write_zip(archive, outcomes)
                done = sum(isinstance(outcome, Restored) for _, outcome in outcomes)
                failed = f"; {len(jobs) - done} failed" if done < len(jobs) else ""
                line = f"Done in {time.perf_counter() - started:.1f} seconds: {done} of {len(jobs)} restored{failed}"
                answer = self._answer(outcomes, several)
                figures = download_links([archive], self._files.url) + answer.figures
                yield answer._replace(status=status(line, 1), figures=figures)
        except Exception as error:  # noqa: BLE001  # logged, and reported to the visitor
            yield Answer(status(page_error(error).message, is_error=True))

    def _answer(self, outcomes: Sequence[Outcome], several: bool) -> Answer:
        """The results so far: all pictures of the only one, or a table of several."""
        results = [outcome for _, outcome in outcomes if isinstance(outcome, Restored)]
        url = self._files.url
        figures = batch_table(outcomes, url) if several else result_html(results[0], url)
        if not results:
            return Answer(gr.skip(), gr.update(visible=True), None, figures)
        last = results[-1]
        return Answer(
            status(f"Done in {last.facts['seconds']:.1f} seconds", 1),
            gr.update(visible=True),
            (str(last.pictures["before"]), str(last.pictures["after"])),
            figures,
            [result.facts for result in results] if several else last.facts,
        )
