"""Where the weights of a network lie."""

import os
import re
from pathlib import Path

from blinddiff.errors import WeightsError


def weights_folder(weights: str | Path) -> Path | None:
    """The folder that holds a network: the one named, or the part of a pipeline's; None for a repository of the hub.

    Raises:
        WeightsError: there is no such folder, or no weights in it.
    """
    folder = Path(weights)
    # os.path, for what cannot be a name is no folder: Path raises. A name below a folder that exists is a mistyped
    # folder, not a repository.
    if not os.path.exists(folder.parent) and re.fullmatch(r"[\w.-]+/[\w.-]+", str(weights)) is not None:
        return None
    if not os.path.isdir(folder):
        raise WeightsError(f"{weights}: no such folder of weights")
    folder = folder / "network" if os.path.isdir(folder / "network") else folder
    if not os.path.isfile(folder / "config.json"):
        raise WeightsError(f"{weights}: holds no weights: config.json is missing")
    return folder
