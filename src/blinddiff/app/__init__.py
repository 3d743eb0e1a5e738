"""The web page: the pipeline behind a form. Needs the extra `ui`; `blinddiff.app.server` starts it."""

from dataclasses import dataclass

from blinddiff.errors import ParameterError


@dataclass(frozen=True)
class Limits:
    """What one page accepts.

    Attributes:
        megapixels: of one result, all samples together; memory and time grow with it.
        upload_megabytes: of one file.
        queue: requests that may wait; further ones are refused.
        seconds: that one restoration may take.
    """

    megapixels: float = 16.0
    upload_megabytes: float = 64.0
    queue: int = 16
    seconds: float = 900.0

    def check(self, name: str, width: int, height: int, scale: int, samples: int) -> None:
        """Refuse a photograph of ``width`` x ``height`` pixels whose result would be too large.

        Raises:
            ParameterError: it would be; the message says what to change.
        """
        needed = width * height * scale**2 * samples
        if needed > 1e6 * self.megapixels:
            several, fewer = (f", {samples} samples,", " or fewer samples") if samples > 1 else ("", "")
            raise ParameterError(
                f"{name}: {width} x {height} pixels times {scale}{several} make {needed / 1e6:.1f} megapixels, and "
                f"this page takes {self.megapixels:g}: choose a smaller scale{fewer}, or cut out a part of the "
                "photograph"
            )
