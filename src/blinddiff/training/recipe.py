"""A training recipe: one small YAML file, checked on load."""

import dataclasses
import difflib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from blinddiff.degradation import NOISES, SCALES
from blinddiff.degradation.kernels import FAMILIES
from blinddiff.errors import RecipeError

LIKE = "like"
LEAST_PATCH = 16
"""HR side below which a network's coarse levels would have nothing to see."""


@dataclass(frozen=True)
class DataRecipe:
    """Which photographs, and how much of them at a time."""

    folders: list[str]
    """Folders of images (searched through) or of tile sheets (with a tiles.csv); relative to where the command runs."""
    held_out: list[str] = field(default_factory=list)
    """Photographs to keep out of training: endings of their paths, such as ``gb82/cat.webp``."""
    context: int = 256
    """HR side of the crop from which kernel and noise level are estimated."""
    patch: int = 128
    """HR side of the crop on which the network is trained, inside the context."""
    reduced: float = 0.0
    """Share of the crops that are cut from photographs made smaller, by up to 2."""
    batch: int = 8
    replayed: int = 0
    """Earlier examples that a step of stages ``estimator``, ``confidence`` and ``correction`` also learns from."""


@dataclass(frozen=True)
class DegradationRecipe:
    """The degradations drawn, each with its share."""

    scales: dict[int, float] = field(default_factory=lambda: {1: 0.15, 2: 0.2, 3: 0.15, 4: 0.5})
    kernels: dict[str, float] = field(default_factory=lambda: {"isotropic": 0.4, "anisotropic": 0.4, "motion": 0.2})
    noise: dict[str, float] = field(default_factory=lambda: {"none": 0.4, "gaussian": 0.6})
    decimated: float = 0.0
    """Share of the images thinned out by direct decimation, whose aliases differ, instead of MATLAB's bicubic."""


@dataclass(frozen=True)
class LossRecipe:
    """Weights of the constraints."""

    noise: float = 1.0
    logarithmic: bool = False
    """Average the logs of the images' errors in the noise constraint, so that easy images count as hard ones do."""
    kernel: float = 0.02
    noise_level: float = 0.02
    restoration: float = 0.0
    """Of stage ``correction``: the decibels that the kernel's error costs the closed-form image."""
    confidence: float = 1.0
    true_kernel_share: float = 0.3
    """Share of the examples modulated by the true kernel and noise level, so that non-blind mode works."""
    own_kernel_share: float = 0.0
    """Share modulated by the estimate as it is; the rest by a random mixture of both."""
    pure_noise_share: float = 0.5
    """Share of the examples at the last timestep, where sampling begins; the rest are uniform in t."""


@dataclass(frozen=True)
class Recipe:
    """A whole training run."""

    data: DataRecipe
    stage: Literal["estimator", "confidence", "network", "correction", "joint"] = "joint"
    """What learns: the estimator alone; only what it expects its own error to be; the network with the estimator fixed;
    only the estimator's correction; or network, estimator and correction."""
    model: dict[str, Any] = field(default_factory=dict)
    """Arguments of `MCFormer`; its defaults where absent."""
    init: str | None = None
    """Folder of weights to start from."""
    init_estimator: str | None = None
    """Folder of weights of which only the estimator is taken."""
    degradation: DegradationRecipe = field(default_factory=DegradationRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)
    steps: int = 10000
    learning_rate: float = 1e-3
    final_rate: float = 0.0
    """Share of the learning rate left at the last step, to which it falls along half a cosine."""
    warmup: int = 200
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the network's blocks compute in; weights, kernels and closed-form images stay in single precision."""
    seed: int = 0
    checkpoint_minutes: float = 3.0
    sheet_steps: int = 1000
    """Steps between sheets of samples."""


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    One that begins with ``like: OTHER.yaml``, a file beside it, is that recipe but for what it says itself.

    Raises:
        RecipeError: unreadable, not YAML, or an unknown key, missing key or impossible value, which is named.
    """
    content, names = _read(path, ())
    return parse_recipe(content, names)


def _read(path: Path, liked_by: tuple[Path, ...]) -> tuple[Any, str]:
    """What the file says, laid over what the recipe says that it is like; and the names of all, for errors."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as a recipe: {error}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or LIKE not in content:
        return content, str(path)
    other = content.pop(LIKE)
    if not isinstance(other, str):
        raise RecipeError(f"{path}: {LIKE}: should be the name of a recipe, not {other!r}")
    if path.resolve() in liked_by:
        raise RecipeError(f"{path}: is like itself, by way of {', '.join(map(str, liked_by))}")
    whole, names = _read(path.parent / other, (*liked_by, path.resolve()))
    if not isinstance(whole, dict):
        return whole, names  # no recipe, as `parse_recipe` will say
    for key, value in content.items():
        # A section is changed key by key; what is in it, such as the shares of all kernels, as a whole.
        sections = isinstance(value, dict) and isinstance(whole.get(key), dict)
        whole[key] = {**whole[key], **value} if sections else value
    return whole, f"{path}, like {names}"


def parse_recipe(content: Any, where: str) -> Recipe:
    """Check a recipe given as nested mappings; ``where`` names it in errors."""
    recipe: Recipe = _build(Recipe, content, where)
    _check_values(recipe, where)
    _check_model(recipe, where)
    return recipe


def _build(kind: Any, content: Any, where: str) -> Any:
    """An instance of dataclass ``kind`` from a mapping, every key known and every value of its type."""
    if not isinstance(content, Mapping):
        raise RecipeError(f"{where}: should be a mapping of keys, not {type(content).__name__}")
    hints = typing.get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]
    _check_known(content, names, where)
    for f in dataclasses.fields(kind):
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and f.name not in content:
            raise RecipeError(f"{where}: key {f.name!r} is missing")
    return kind(**{key: _value(hints[key], value, f"{where}: {key}") for key, value in content.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where)
    if origin is Literal:
        if value not in arguments:
            raise RecipeError(f"{where}: {value!r} is not one of {', '.join(map(repr, arguments))}")
        return value
    if origin is dict:
        if not isinstance(value, Mapping):
            raise RecipeError(f"{where}: should be a mapping, not {value!r}")
        return {_value(arguments[0], k, where): _value(arguments[1], v, f"{where}: {k}") for k, v in value.items()}
    if origin in (list, Sequence):
        if not isinstance(value, list):
            raise RecipeError(f"{where}: should be a list, not {value!r}")
        return [_value(arguments[0], v, where) for v in value]
    if type(None) in arguments:
        return None if value is None else _value(arguments[0], value, where)
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        hinted = f" (write {value} as a decimal number, such as 0.001)" if hint is float else ""
        raise RecipeError(f"{where}: should be {hint.__name__}, not {value!r}{hinted}")
    return value


def _check_model(recipe: Recipe, where: str) -> None:
    """The model's arguments, by MCFormer's own signature, and what training asks of them."""
    from blinddiff.models.mcformer import MCFormer

    hints = typing.get_type_hints(MCFormer.__init__)
    _check_known(recipe.model, [name for name in hints if name != "return"], f"{where}: model")
    for name, value in recipe.model.items():
        _value(hints[name], value, f"{where}: model: {name}")
    scales = recipe.model.get("scales", SCALES)
    for scale in recipe.degradation.scales:
        if scale not in scales:
            raise RecipeError(f"{where}: degradation: scales: {scale} is not one of the model's: {scales}")


def _check_known(content: Mapping[Any, Any], names: list[str], where: str) -> None:
    for key in content:
        if key not in names:
            close = difflib.get_close_matches(str(key), names, 1)
            raise RecipeError(f"{where}: unknown key {key!r}" + (f"; did you mean {close[0]!r}?" if close else ""))


def _check_values(recipe: Recipe, where: str) -> None:
    degradation = recipe.degradation
    for key, shares, known in (
        ("scales", degradation.scales, list(SCALES)),
        ("kernels", degradation.kernels, list(FAMILIES)),
        ("noise", degradation.noise, ["none", *NOISES]),
    ):
        for name, share in shares.items():
            if name not in known:
                raise RecipeError(f"{where}: degradation: {key}: {name!r} is not one of {', '.join(map(str, known))}")
            if not 0 <= share < float("inf"):
                raise RecipeError(f"{where}: degradation: {key}: {name}: a share of {share} is not 0 or more")
        if sum(shares.values()) <= 0:
            raise RecipeError(f"{where}: degradation: {key}: no share is above 0")
    positive = {
        "steps": recipe.steps,
        "learning_rate": recipe.learning_rate,
        "clip": recipe.clip,
        "data: batch": recipe.data.batch,
        "data: patch": recipe.data.patch,
        "sheet_steps": recipe.sheet_steps,
    }
    for name, number in positive.items():
        if not 0 < number < float("inf"):
            raise RecipeError(f"{where}: {name}: {number} is not above 0")
    not_negative = {
        "data: replayed": recipe.data.replayed,
        "loss: noise": recipe.loss.noise,
        "loss: kernel": recipe.loss.kernel,
        "loss: noise_level": recipe.loss.noise_level,
        "loss: restoration": recipe.loss.restoration,
        "loss: confidence": recipe.loss.confidence,
        "warmup": recipe.warmup,
        "weight_decay": recipe.weight_decay,
        "seed": recipe.seed,
        "checkpoint_minutes": recipe.checkpoint_minutes,
    }
    for name, number in not_negative.items():
        if not 0 <= number < float("inf"):
            raise RecipeError(f"{where}: {name}: {number} is not 0 or more")
    shares_of_one = {
        "degradation: decimated": degradation.decimated,
        "data: reduced": recipe.data.reduced,
        "loss: true_kernel_share": recipe.loss.true_kernel_share,
        "loss: own_kernel_share": recipe.loss.own_kernel_share,
        "loss: pure_noise_share": recipe.loss.pure_noise_share,
        "ema": recipe.ema,
        "final_rate": recipe.final_rate,
    }
    for name, share in shares_of_one.items():
        if not 0 <= share <= 1:
            raise RecipeError(f"{where}: {name}: {share} is not between 0 and 1")
    if (modulated := recipe.loss.true_kernel_share + recipe.loss.own_kernel_share) > 1:
        raise RecipeError(f"{where}: loss: true_kernel_share and own_kernel_share are {modulated:g} together, above 1")
    if not recipe.data.folders:
        raise RecipeError(f"{where}: data: folders: names no folder")
    if recipe.data.patch < LEAST_PATCH:
        raise RecipeError(f"{where}: data: patch: {recipe.data.patch} is less than {LEAST_PATCH}")
    if recipe.data.batch < 2 and recipe.stage != "network":
        raise RecipeError(f"{where}: data: batch: stage {recipe.stage} needs 2 or more, for statistics over the batch")
    if recipe.data.context < recipe.data.patch:
        raise RecipeError(f"{where}: data: patch {recipe.data.patch} is larger than context {recipe.data.context}")
