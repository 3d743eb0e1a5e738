"""Training recipes: the keys of the YAML files, checked by pydantic, and functions that read the files."""

import difflib
import os
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic_core import ErrorDetails
from typing_extensions import TypedDict

from blinddiff.degradation import NOISES, SCALES
from blinddiff.degradation.kernels import FAMILIES, SETTINGS
from blinddiff.errors import RecipeError
from blinddiff.published.network import ARCHITECTURES

DATA_VARIABLE = "BLINDDIFF_PHOTOGRAPHS"
"""Environment variable with the folders of photographs, separated as in PATH."""
CONFIG = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)
"""Configuration of every section: no unknown keys, no conversion of types."""

Share = Annotated[float, Field(ge=0, le=1)]
Shares = dict[str, NonNegativeFloat]

if TYPE_CHECKING:
    ModelArguments = dict[str, Any]
else:
    ModelArguments = TypedDict(
        "ModelArguments",
        {
            name: hint
            for network in ARCHITECTURES.values()
            for name, hint in typing.get_type_hints(network.__init__).items()
            if name != "return"
        },
        total=False,
    )
    ModelArguments.__pydantic_config__ = CONFIG


def _allowed_keys(known: Iterable[Any]) -> Any:
    """The keys that the JSON schema allows in a mapping."""
    return Field(json_schema_extra={"propertyNames": {"enum": [str(name) for name in known]}})


class _Section(BaseModel):
    model_config = CONFIG


class DataRecipe(_Section):
    """Photographs, crops and batches."""

    folders: Annotated[list[str], Field(min_length=1)] = Field(
        default_factory=lambda: list(filter(None, os.environ.get(DATA_VARIABLE, "").split(os.pathsep)))
    )
    """Folders of images (searched recursively) or of tile sheets (with a tiles.csv); usually given by --data."""
    held_out: list[str] = []
    """Photographs to exclude from training: endings of their paths, such as ``gb82/cat.webp``."""
    context: PositiveInt = 256
    """HR side of the crop from which kernel and noise level are estimated."""
    patch: Annotated[int, Field(ge=16)] = 128
    """HR side of the crop inside the context on which the network is trained; the coarsest level is 1/16 of it."""
    reduced: Share = 0.0
    """Share of the crops that are cut from photographs downscaled by a factor of up to 2."""
    batch: PositiveInt = 8
    """Number of crops per step and process."""
    replayed: NonNegativeInt = 0
    """Number of earlier examples added to each batch by the stages ``estimator``, ``confidence`` and ``correction``."""

    @model_validator(mode="after")
    def _check_patch(self) -> "DataRecipe":
        if self.context < self.patch:
            raise ValueError(f"patch {self.patch} is larger than context {self.context}")
        return self


class DegradationRecipe(_Section):
    """Random degradations with their shares. Shares need not sum to 1."""

    scales: Annotated[dict[int, NonNegativeFloat], _allowed_keys(SCALES)] = {1: 0.15, 2: 0.2, 3: 0.15, 4: 0.5}
    """Scales; one is drawn for each batch."""
    kernels: Annotated[Shares, _allowed_keys([*FAMILIES, *SETTINGS])] = {
        "isotropic": 0.4,
        "anisotropic": 0.4,
        "motion": 0.2,
    }
    """Kernel families, or settings of the paper."""
    noise: Annotated[Shares, _allowed_keys(["none", *NOISES])] = {"none": 0.4, "gaussian": 0.6}
    """Kinds of noise and compression."""
    processing: list[Annotated[Shares, _allowed_keys(["none", *NOISES])]] = []
    """Mixtures applied in order after the noise: sharpening, compression, and so on."""
    decimated: Share = 0.0
    """Share of the images that are subsampled without the antialiasing of MATLAB's bicubic downsampling."""
    grey: Share = 0.0
    """Share of the images that are black and white."""

    @property
    def mixtures(self) -> list[dict[str, float]]:
        """Noise and processing, in the order in which they are applied."""
        return [self.noise, *self.processing]

    @field_validator("scales", "kernels", "noise", "processing")
    @classmethod
    def _check_shares(cls, given: Any, info: ValidationInfo) -> Any:
        known = {"scales": SCALES, "kernels": (*FAMILIES, *SETTINGS)}.get(str(info.field_name), ("none", *NOISES))
        for shares in given if isinstance(given, list) else [given]:
            if unknown := [repr(name) for name in shares if name not in known]:
                raise ValueError(f"{', '.join(unknown)}: not one of {', '.join(map(str, known))}")
            if sum(shares.values()) <= 0:
                raise ValueError("no share is above 0")
        return given


class LossRecipe(_Section):
    """Weights of the constraints, and the degradations on which the network is conditioned."""

    noise: NonNegativeFloat = 1.0
    logarithmic: bool = False
    """In the noise loss, average the logarithms of the images' errors, so that all images have equal weight."""
    kernel: NonNegativeFloat = 0.02
    bound: NonNegativeFloat = 0.001
    """In stage ``paper``: weight of the variational bound, by which the variance is learned."""
    noise_level: NonNegativeFloat = 0.02
    noise_spectrum: NonNegativeFloat = 0.02
    restoration: NonNegativeFloat = 0.0
    """In stage ``correction``: weight of the PSNR loss, in dB, of the closed form due to the kernel's error."""
    confidence: NonNegativeFloat = 1.0
    picture: NonNegativeFloat = 1.0
    true_kernel_share: Share = 0.3
    """Share of the examples conditioned on the true kernel and noise level, for non-blind restoration."""
    own_kernel_share: Share = 0.0
    """Share of the examples conditioned on the estimate. The rest use a random mixture of truth and estimate."""
    pure_noise_share: Share = 0.5
    """Share of the examples at the last timestep, where sampling starts. The others are uniform in t."""

    @model_validator(mode="after")
    def _check_kernel_shares(self) -> "LossRecipe":
        if (total := self.true_kernel_share + self.own_kernel_share) > 1:
            raise ValueError(f"the sum of true_kernel_share and own_kernel_share is {total:g}, above 1")
        return self


class Recipe(_Section):
    """One training stage."""

    data: DataRecipe = Field(default_factory=DataRecipe)
    stage: Literal["estimator", "noise_gate", "confidence", "classifier", "network", "correction", "joint", "paper"] = (
        "joint"
    )
    """The trained part: the kernel and noise estimator; its noise gate; its confidence head; the classifier of
    pictures; the image network; the estimator's correction during sampling; or jointly all but confidence head and
    classifier. Stage ``paper`` trains the paper's network, for mode ``paper``."""
    model: ModelArguments = {}
    """Arguments of the network that differ from its defaults."""
    init: str | None = None
    """Folder of weights to start from."""
    init_estimator: str | None = None
    """Folder of weights to start the estimator from."""
    degradation: DegradationRecipe = DegradationRecipe()
    loss: LossRecipe = LossRecipe()
    steps: PositiveInt = 10000
    learning_rate: PositiveFloat = 1e-3
    final_rate: Share = 0.0
    """Learning rate at the last step, relative to the maximum; it decreases along half a cosine."""
    warmup: NonNegativeInt = 200
    """Number of steps over which the learning rate increases from 0."""
    weight_decay: NonNegativeFloat = 0.01
    clip: PositiveFloat = 1.0
    """Maximum norm of the gradient."""
    ema: Share = 0.999
    """Decay of the exponential moving average of the weights."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the network's blocks; weights, kernels and the closed form stay in float32."""
    seed: NonNegativeInt = 0
    checkpoint_minutes: NonNegativeFloat = 3.0
    """Minutes between checkpoints."""
    sheet_steps: PositiveInt = 1000
    """Number of steps between sheets of sample images."""

    @model_validator(mode="after")
    def _check_model(self) -> "Recipe":
        scales = self.model.get("scales", SCALES)
        if missing := [scale for scale in self.degradation.scales if scale not in scales]:
            raise ValueError(f"degradation: scales: {missing[0]} is not one of the model's: {scales}")
        return self


class RecipeFile(Recipe):
    """A training recipe of blinddiff: the settings of one stage, or of several."""

    like: str | None = None
    """A recipe in the same folder, from which this file lists only the differences."""
    stages: list[Recipe] = []
    """Stages in order. Each lists only differences from the other settings, and starts from the previous weights."""


def recipe_schema() -> dict[str, Any]:
    """The JSON schema of recipe files, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **RecipeFile.model_json_schema()}


def load_recipe(path: Path, folders: Sequence[str] | None = None) -> list[Recipe]:
    """Read and check a YAML recipe. Return its stages in order, one for a recipe without ``stages``.

    `folders` of photographs replace those of the recipe or the environment. Raises RecipeError if the file cannot be
    read, or with all its unknown keys and invalid values.
    """
    content, names = _read(path, ())
    recipes = parse_recipe(content, names)
    if not folders:
        return recipes
    new = {"folders": list(folders)}
    return [recipe.model_copy(update={"data": recipe.data.model_copy(update=new)}) for recipe in recipes]


def _read(path: Path, referrers: tuple[Path, ...]) -> tuple[Any, str]:
    """The content of a file, merged into the recipe named by ``like``, and the names of both files, for errors."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as a recipe: {error}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or "like" not in content:
        return content, str(path)
    other = content.pop("like")
    if not isinstance(other, str):
        raise RecipeError(f"{path}: like: should be the name of a recipe, not {other!r}")
    if path.resolve() in referrers:
        raise RecipeError(f"{path}: like: refers to itself, through {', '.join(map(str, referrers))}")
    base, names = _read(path.parent / other, (*referrers, path.resolve()))
    # `parse_recipe` reports a base that is not a mapping.
    return (_merge(base, content) if isinstance(base, dict) else base), f"{path}, like {names}"


def _merge(base: dict[Any, Any], changes: dict[Any, Any]) -> dict[Any, Any]:
    """Merge two levels of keys. Mappings inside sections, such as the shares of kernels, are replaced as a whole."""
    sections = [key for key in changes if isinstance(changes[key], dict) and isinstance(base.get(key), dict)]
    return {**base, **changes, **{key: {**base[key], **changes[key]} for key in sections}}


def parse_recipe(content: Any, name: str) -> list[Recipe]:
    """Check a recipe given as nested mappings, and return its stages. ``name`` is used in errors.

    Raises RecipeError for unknown keys and invalid values, with one argument for each.
    """
    common, sections = content, [dict[Any, Any]()]
    if isinstance(content, dict) and "stages" in content:
        common = {key: value for key, value in content.items() if key != "stages"}
        sections = content["stages"]
        if not (isinstance(sections, list) and sections and all(isinstance(section, dict) for section in sections)):
            raise RecipeError(f"{name}: stages: should be a list of mappings, not {sections!r}")
    recipes, errors = [], []
    for number, section in enumerate(sections, 1):
        if number > 1:
            inits = [key for key in ("init", "init_estimator") if key in section]
            reason = "cannot be set, because the stage starts from the weights of the stage before"
            errors += [f"stages: {number}: {key}: {reason}" for key in inits]
        try:
            recipes.append(Recipe.model_validate(_merge(common, section) if section else common))
        except ValidationError as invalid:
            for item in invalid.errors():
                inside = section and (not item["loc"] or item["loc"][0] in section)
                errors.append((f"stages: {number}: " if inside else "") + _describe(item))
    if errors:
        raise RecipeError(*dict.fromkeys(f"{name}: {item}" for item in errors))
    return recipes


def _describe(error: ErrorDetails) -> str:
    """Turn one of pydantic's errors into ``KEY: reason``."""
    kind, value = error["type"], error["input"]
    place = [part for part in error["loc"] if part != "[key]"]
    message = error["msg"].removeprefix("Input ")
    if kind in ("extra_forbidden", "invalid_key"):
        *place, key = place
        section: Any = Recipe
        for part in place:
            section = section.model_fields[part].annotation
        close = difflib.get_close_matches(str(key), list(section.__annotations__), 1)
        message = f"unknown key {key!r}" + (f"; did you mean {close[0]!r}?" if close else "")
    elif kind == "value_error":
        message = str(error["ctx"]["error"])
    else:
        message = "should be a mapping" if kind in ("model_type", "dict_type") else message
        message += f", not {value!r}"
    if kind == "float_type" and isinstance(value, str):
        message += f" (write {value} as a decimal number, such as 0.001)"
    return ": ".join([*map(str, place), message])
