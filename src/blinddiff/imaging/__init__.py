"""Reads and writes image files with bit depth, colour profile and metadata; draws kernels, spectra and residuals."""

from blinddiff.imaging.drawing import SheetFacts, comparison_sheet, kernel_map_picture, kernel_picture, spectrum_picture
from blinddiff.imaging.formats import FORMATS, SIGNATURE_BYTES, has_image_name, has_raw_name, image_format
from blinddiff.imaging.photograph import Photograph, from_picture, reduce_image, resample, to_picture, visible_colours
from blinddiff.imaging.read import MAX_PIXELS, largest_file, read_8bit, read_bytes, read_image
from blinddiff.imaging.write import (
    OUTPUT_FORMATS,
    check_format,
    check_output,
    encode_image,
    encoder_options,
    left_out,
    write_image,
    write_picture,
)

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "OUTPUT_FORMATS",
    "SIGNATURE_BYTES",
    "Photograph",
    "SheetFacts",
    "check_format",
    "check_output",
    "comparison_sheet",
    "encode_image",
    "encoder_options",
    "from_picture",
    "has_image_name",
    "has_raw_name",
    "image_format",
    "kernel_map_picture",
    "kernel_picture",
    "largest_file",
    "left_out",
    "read_8bit",
    "read_bytes",
    "read_image",
    "reduce_image",
    "resample",
    "spectrum_picture",
    "to_picture",
    "visible_colours",
    "write_image",
    "write_picture",
]
