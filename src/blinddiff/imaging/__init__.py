"""Image files in and out, and pictures for people. Imports nothing of ours but the errors."""

from blinddiff.imaging.atomic import check_writable, write_file
from blinddiff.imaging.kernel_picture import kernel_picture
from blinddiff.imaging.photograph import Photograph
from blinddiff.imaging.pixels import from_picture, to_picture
from blinddiff.imaging.reading import read_image
from blinddiff.imaging.sheet import SheetFacts, comparison_sheet
from blinddiff.imaging.writing import check_output, write_image, write_picture

__all__ = [
    "Photograph",
    "SheetFacts",
    "check_output",
    "check_writable",
    "comparison_sheet",
    "from_picture",
    "kernel_picture",
    "read_image",
    "to_picture",
    "write_file",
    "write_image",
    "write_picture",
]
