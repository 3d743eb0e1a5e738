"""One file of a folder: read, restored, written."""

import hashlib
from dataclasses import replace
from typing import Any

from blinddiff.degradation.kernel_files import read_kernel
from blinddiff.errors import BlindDiffError, OutputError
from blinddiff.files import write_file
from blinddiff.imaging import Photograph, check_output, encode_image, read_bytes, read_image
from blinddiff.restoring.photograph import Done, RestoreSettings, restore_photograph
from blinddiff.restoring.plan import Job
from blinddiff.sampling.pipeline import BlindDiffPipeline


class FileRestorer:
    """The pipeline, loaded once for many files."""

    def __init__(self, settings: RestoreSettings) -> None:
        """Load weights and kernel.

        Raises:
            WeightsError, KernelError, ParameterError: they cannot be used, or are not of the scale.
        """
        self._settings = settings
        self._pipeline = BlindDiffPipeline.from_pretrained(settings.weights, settings.device)
        self._pipeline.check_scale(settings.scale)
        self._kernel = None if settings.kernel is None else read_kernel(settings.kernel)

    def __call__(self, job: Job) -> Done:
        """Do one file.

        Raises:
            BlindDiffError: it cannot be read, restored or written; the file is named.
        """
        # One reading serves hash and pixels: what the ledger says is of the very bytes that were restored.
        data = read_bytes(job.source, self._settings.max_pixels)
        photograph = read_image(data, self._settings.max_pixels, name=str(job.source))
        try:
            data_out, facts = self._write(job, replace(photograph, path=job.source))
        except BlindDiffError as error:  # may name the result or the kernel, the same for many
            raise type(error)(f"{job.source}: {error}") from error
        return Done(hashlib.sha256(data).hexdigest(), hashlib.sha256(data_out).hexdigest(), facts)

    def _write(self, job: Job, photograph: Photograph) -> tuple[bytes, dict[str, Any]]:
        """Restore a photograph; the file that was written, and the facts."""
        _make_target_folder(job)
        height, width = (self._settings.scale * side for side in photograph.pixels.shape[-2:])
        check_output(job.target, photograph, (width, height))
        result = restore_photograph(self._pipeline, photograph, self._settings, self._kernel)
        data = encode_image(job.target, result.pixels, photograph, result.alpha)
        write_file(job.target, data)
        return data, result.facts(job.target)


def _make_target_folder(job: Job) -> None:
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{job.target.parent}: cannot be made: {error.strerror}") from error
