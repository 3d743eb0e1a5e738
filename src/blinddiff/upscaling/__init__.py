"""Photographs through the pipeline, one or folders of them, so that nothing of a file is lost and nothing breaks."""

from blinddiff.upscaling.folder import FolderReport, Listener, upscale_folder
from blinddiff.upscaling.ledger import LEDGER
from blinddiff.upscaling.plan import SAME, suffix_of_format
from blinddiff.upscaling.record import Record, facts_of
from blinddiff.upscaling.restoring import Upscaled, upscale_photograph
from blinddiff.upscaling.settings import UpscaleSettings

__all__ = [
    "LEDGER",
    "SAME",
    "FolderReport",
    "Listener",
    "Record",
    "UpscaleSettings",
    "Upscaled",
    "facts_of",
    "suffix_of_format",
    "upscale_folder",
    "upscale_photograph",
]
