"""What each part of the method is worth: the same thing without it, or with another in its place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

JOINT = "kernel and image refined by turns (MAP along the reverse process)"
GUIDANCE = "agreement with y between steps (the kernel-aware term)"
MODULATION = "modulation by the kernel (MCFormer)"
CONSTRAINT = "training with a kernel constraint"
STEPS = "number of steps"


@dataclass(frozen=True)
class Ablation:
    """One comparison.

    Attributes:
        method: what is measured, a name for `blinddiff.evaluation.methods.method`.
        against: the method that it is compared with.
        tests: the contribution that is in question.
        change: what was done to `against`.
    """

    method: str
    against: str
    tests: str
    change: str


ABLATIONS: tuple[Ablation, ...] = (
    Ablation("kernel-once", "fidelity", JOINT, "kernel estimated once, from y alone"),
    Ablation("kernel-undamped", "fidelity", JOINT, "the network's whole step for the kernel, instead of a part"),
    Ablation("kernel-refined", "fidelity", JOINT, "least squares for the kernel, given the image"),
    Ablation("perceptual-kernel-once", "perceptual", JOINT, "kernel estimated once, from y alone"),
    Ablation("no-image-step", "fidelity", GUIDANCE, "no data term"),
    Ablation("gradient", "fidelity", GUIDANCE, "gradient through the network instead of the closed form"),
    Ablation("perceptual-no-image-step", "perceptual", GUIDANCE, "no data term"),
    Ablation("perceptual-gradient", "perceptual", GUIDANCE, "gradient through the network instead of the closed form"),
    *(
        Ablation(f"{mode}@{steps}", f"{mode}@1", STEPS, f"{steps} steps instead of 1")
        for mode, counts in (("fidelity", (2, 5)), ("perceptual", (2, 5, 10, 20, 50)))
        for steps in counts
    ),
    Ablation("small-no-modulation", "small-full", MODULATION, "trained without the kernel in the modulation"),
    Ablation("small-no-kernel-loss", "small-full", CONSTRAINT, "trained without the kernel constraint"),
)

TRAINED = {
    "small-full": "full",
    "small-no-modulation": "no_modulation",
    "small-no-kernel-loss": "no_kernel_loss",
}
"""Methods that need a training of their own: name -> recipe in recipes/ablations, all of the same small budget."""


def ablation_methods(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(method, against) of the comparisons whose two methods are both among `names`."""
    return ((a.method, a.against) for a in ABLATIONS if a.method in names and a.against in names)


def trained_ablations(folder: Path) -> dict[str, Path]:
    """The trained methods whose weights are there: name -> folder, ``FOLDER/RECIPE`` or ``FOLDER/RECIPE/weights``."""
    found: dict[str, Path] = {}
    for name, recipe in TRAINED.items():
        for place in (folder / recipe / "weights", folder / recipe):
            if (place / "config.json").is_file():
                found.setdefault(name, place)
    return found


def all_ablation_methods(trained: Sequence[str]) -> list[str]:
    """Every method that takes part in a comparison that can be made, what others are compared with first."""
    possible = [a for a in ABLATIONS if all(n not in TRAINED or n in trained for n in (a.method, a.against))]
    return list(dict.fromkeys([*(a.against for a in possible), *(a.method for a in possible)]))
