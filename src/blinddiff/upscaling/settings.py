"""What a restoration of files is asked to be."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from blinddiff import __version__
from blinddiff.degradation.noise.level import check_noise_level
from blinddiff.errors import KernelError, WeightsError
from blinddiff.imaging import MAX_PIXELS
from blinddiff.weights import DEFAULT_WEIGHTS


@dataclass(frozen=True)
class UpscaleSettings:
    """The same for every file of a run; small and plain, for it goes to the processes that do the work.

    Attributes:
        weights: folder or hub repository; None for the weights in the package.
        device: as for `BlindDiffPipeline.from_pretrained`.
        scale: 1, 2, 3 or 4.
        mode: a name of `MODES`: ``"fidelity"``, ``"fast"``, ``"perceptual"`` or ``"paper"``.
        steps: of the reverse diffusion; the mode's own where None.
        seed: of the noise, the same for every file: a file's result does not depend on its neighbours.
        kernel: file of the blur kernel, where it is known.
        noise_level: in grey levels, where it is known.
        max_pixels: limit of an input image, against decompression bombs.
        max_memory: bytes that the restorations may take together, see `BlindDiffPipeline`; None: half of what is free.

    Raises:
        ParameterError: the noise level is not between 0 and 255.
    """

    weights: str | None = None
    device: str | None = None
    scale: int = 4
    mode: str = "fidelity"
    steps: int | None = None
    seed: int = 0
    kernel: Path | None = None
    noise_level: float | None = None
    max_pixels: int = MAX_PIXELS
    max_memory: int | None = None

    def __post_init__(self) -> None:
        """Refuse now what would fail for every file."""
        if self.noise_level is not None:
            check_noise_level(self.noise_level)

    def fingerprint(self) -> str:
        """Return a hash that changes with everything that changes results: settings, weights, kernel, version.

        Raises:
            WeightsError: the folder of weights cannot be read.
            KernelError: the kernel cannot be read.
        """
        facts = asdict(self)
        # The same image but for rounding; none, or the same; the same but for what tiles change, which is not seen.
        del facts["device"], facts["max_pixels"], facts["max_memory"]
        facts["kernel"] = None if self.kernel is None else _kernel_hash(self.kernel)
        facts["weights"] = _weights_hash(DEFAULT_WEIGHTS if self.weights is None else self.weights)
        facts["version"] = __version__
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _kernel_hash(kernel: Path) -> str:
    try:
        return hashlib.sha256(kernel.read_bytes()).hexdigest()
    except OSError as error:
        raise KernelError(f"{kernel}: cannot be read: {error.strerror}") from error


def _weights_hash(weights: str | Path) -> str:
    """Hash of a folder's files; of the name of a repository on the hub."""
    digest = hashlib.sha256()
    folder = Path(weights)
    try:
        if not folder.is_dir():
            return str(weights)
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".json", ".safetensors"):
                digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    except OSError as error:
        raise WeightsError(f"{weights}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()
