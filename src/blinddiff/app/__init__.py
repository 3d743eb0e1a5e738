"""The web page and the service for programs. Need the extra `ui`; `blinddiff.app.server` starts both."""

import math
from dataclasses import dataclass

from blinddiff.errors import ParameterError


@dataclass(frozen=True)
class Limits:
    """The limits of a server, for the page and for programs."""

    megapixels: float = 16.0  # of one result, all samples together; memory and time grow with it
    upload_megabytes: float = 64.0  # of one file
    queue: int = 16  # waiting requests; further ones are refused
    seconds: float = 900.0  # of one restoration; for programs, waiting included
    files: int = 50  # photographs of one request

    @property
    def read_pixels(self) -> int:
        """Largest photograph that is read, in pixels; above `megapixels`, so that a part of it can be cropped."""
        return int(3e6 * self.megapixels)

    def check(self, name: str, width: int, height: int, scale: int, samples: int) -> None:
        """Raise ParameterError if restoring a photograph of ``width`` x ``height`` pixels would need too many pixels.

        ``scale`` is the product of the scales of all passes, see `RestoreSettings.passes`.
        """
        needed = width * height * scale**2 * samples
        if needed > 1e6 * self.megapixels:
            several, fewer = (f" with {samples} samples", ", fewer samples") if samples > 1 else ("", "")
            side = math.isqrt(int(1e6 * self.megapixels / scale**2 / samples))
            raise ParameterError(
                f"{name}: {width} x {height} pixels at scale {scale}{several} need {needed / 1e6:.1f} megapixels; the "
                f"limit of this server is {self.megapixels:g}: choose a smaller scale{fewer}, or crop the photograph "
                f"to a part such as {side} x {side} pixels"
            )
