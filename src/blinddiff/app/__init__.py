"""The web page: a form that runs the pipeline. Needs the extra `ui`; `blinddiff.app.server` starts it."""

from dataclasses import dataclass

from blinddiff.errors import ParameterError


@dataclass(frozen=True)
class Limits:
    """The limits of a page."""

    megapixels: float = 16.0  # of one result, all samples together; memory and time grow with it
    upload_megabytes: float = 64.0  # of one file
    queue: int = 16  # waiting requests; further ones are refused
    seconds: float = 900.0  # of one restoration

    def check(self, name: str, width: int, height: int, scale: int, samples: int) -> None:
        """Raise ParameterError if the result of a photograph of ``width`` x ``height`` pixels would be too large."""
        needed = width * height * scale**2 * samples
        if needed > 1e6 * self.megapixels:
            several, fewer = (f" with {samples} samples", " or fewer samples") if samples > 1 else ("", "")
            raise ParameterError(
                f"{name}: {width} x {height} pixels at scale {scale}{several} need {needed / 1e6:.1f} megapixels; the "
                f"limit of this page is {self.megapixels:g}: choose a smaller scale{fewer}, or crop the photograph"
            )
