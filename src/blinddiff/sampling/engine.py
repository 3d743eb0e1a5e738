"""The interface of what restores images: the pipeline of torch, and the light engine; without torch."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray


class Needs(NamedTuple):
    """What a restoration needs.

    Attributes:
        tiles: number of tiles, of all samples together.
        pixels: of all tiles, of all samples, in pixels of the result.
        memory: peak in bytes, without the weights and the file.
    """

    tiles: int
    pixels: int
    memory: int


class Engine(Protocol):
    """Restores images, and estimates kernel and noise.

    The fields of outputs and estimates are those of `BlindDiffOutput` and `Degradation`, as tensors on the CPU or as
    arrays; `numpy.asarray` makes arrays of both.
    """

    @property
    def scales(self) -> list[int]:
        """The scales that it can restore."""

    @property
    def modes(self) -> list[str]:
        """Names of the `MODES` that it can run, the default first."""

    @property
    def is_fixed(self) -> bool:
        """Whether the steps are fixed: another number of steps, samples, a given kernel or noise level are refused."""

    @property
    def device(self) -> Any:
        """Where it computes: its text is "cpu", or the name of an accelerator."""

    def needs(self, size: tuple[int, int], scale: int, mode: str, samples: int, max_memory: int | None) -> Needs:
        """What the restoration of an image of a size (height, width) needs; max_memory as for a call."""

    def check_mode(self, mode: str) -> None:
        """Raise ParameterError if a mode is not one of `modes`."""

    def check_fixed(self, **options: Any) -> None:
        """Raise ParameterError if an option is given, not None, that is fixed."""

    def check_scale(self, scale: int) -> int:
        """Return the scale as int. Raises ParameterError if it is not one of `scales`."""

    def generator(self, seed: int) -> Any:
        """A random generator for calls; None if there is no noise."""

    def estimate(self, image: NDArray[Any], scale: int = 4, jpeg_step: float = 0.0) -> Any:
        """Estimate kernel and noise of an image (3, h, w) or (h, w, 3)."""

    def __call__(
        self,
        image: NDArray[Any],
        scale: int = 4,
        mode: str = "fidelity",
        num_inference_steps: int | None = None,
        num_samples: int = 1,
        kernel: NDArray[Any] | None = None,
        noise_level: float | None = None,
        *,
        generator: Any = None,
        output_type: Any = "np",
        max_memory: int | None = None,
        jpeg_step: float = 0.0,
        as_is: bool = False,
        on_step: Any = None,
        on_tile: Callable[[int, int], object] = lambda *_: None,
    ) -> Any:
        """Restore an image (3, h, w) or (h, w, 3), see `BlindDiffPipeline`."""
