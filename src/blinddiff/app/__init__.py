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

    @property
    def upload_bytes(self) -> int:
        """`upload_megabytes` in bytes."""
        return int(self.upload_megabytes * 1e6)

    @property
    def all_uploads_bytes(self) -> int:
        """Once the stored uploads of all visitors exceed this, further ones are refused: the disk must not fill up."""
        return 32 * self.upload_bytes

    @property
    def pixels(self) -> int:
        """`megapixels` in pixels."""
        return int(self.megapixels * 1e6)

    def check(self, name: str, width: int, height: int, scale: int, samples: int) -> None:
        """Refuse a photograph of ``width`` x ``height`` pixels whose result would be too large.

        Raises:
            ParameterError: it would be; the message says what to change.
        """
        needed = width * height * scale**2 * samples
        if needed <= self.pixels:
            return
        several = f", {samples} samples," if samples > 1 else ""
        fewer = " or fewer samples" if several else ""
        raise ParameterError(
            f"{name}: {width} x {height} pixels times {scale}{several} make {needed / 1e6:.1f} megapixels, and this "
            f"page takes {self.megapixels:g}: choose a smaller scale{fewer}, or cut out a part of the photograph"
        )
