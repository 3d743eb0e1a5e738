"""What one visitor may ask of the machine."""

from dataclasses import dataclass

from blinddiff.errors import ParameterError

LARGEST_KERNEL_FILE = 1 << 20
"""Bytes: a million of numbers fit, and no bomb that unpacks to gigabytes."""
LARGEST_KERNEL_SIDE = 1024
KEPT_UPLOADS = 32
"""How many uploads of the largest size there may be at once, of all visitors: they must not fill the disk."""


@dataclass(frozen=True)
class Limits:
    """The bounds of one page.

    Attributes:
        megapixels: of all samples of a result together: what memory and time grow with.
        upload_megabytes: of one file.
        queue: how many may wait; who comes then is refused.
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
        """What the uploads of all visitors together may come to before the next is refused."""
        return KEPT_UPLOADS * self.upload_bytes

    @property
    def pixels(self) -> int:
        """`megapixels` in pixels."""
        return int(self.megapixels * 1e6)

    def check(self, name: str, width: int, height: int, scale: int, samples: int) -> None:
        """Refuse a photograph whose result would be too large.

        Raises:
            ParameterError: it would; the sentence says what helps.
        """
        asked = width * height * scale**2 * samples
        if asked <= self.pixels:
            return
        several = f", {samples} samples," if samples > 1 else ""
        fewer = " or fewer samples" if several else ""
        raise ParameterError(
            f"{name}: {width} x {height} pixels times {scale}{several} make {asked / 1e6:.1f} megapixels, and this "
            f"page takes {self.megapixels:g}: choose a smaller scale{fewer}, or cut out a part of the photograph"
        )
