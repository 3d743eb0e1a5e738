"""The training loop."""

import csv
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator, PartialState
from accelerate.utils import ProjectConfiguration, broadcast, is_tensorboard_available
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from blinddiff.degradation import Observation, bicubic_upsample
from blinddiff.errors import RecipeError, TrainingError, WeightsError
from blinddiff.files import make_folder, recover_folder, replace_folder, write_file
from blinddiff.imaging import to_picture, write_picture
from blinddiff.models.denoiser import add_noise
from blinddiff.models.loading import load_network
from blinddiff.models.unet import ModulatedNetwork
from blinddiff.published.network import ARCHITECTURES, architecture_name
from blinddiff.training.data import MARGIN, MAX_KERNEL_SIZE, ImagePool, Pairs, Pixels, aligned, degrade, draw_scale
from blinddiff.training.recipe import Recipe
from blinddiff.training.stages import STAGES

LOG_STEPS = 20
ESTIMATOR_ARGUMENTS = ("scales", "kernel_size")
IMAGE_ARGUMENTS = (
    "noise_schedule",
    "image_mean",
    "image_std",
    "residual_std",
    "heads",
    "kernel_modulation",
    "predicts",
)
"""Arguments of a network that must agree when weights are copied: for the estimator, and for the image network."""
NETWORKS = {network.default_mode: network for network in ARCHITECTURES.values()}
"""The networks by the modes that they are trained for."""


def averaged(network: nn.Module, decay: float, device: torch.device | None = None) -> AveragedModel:
    """An exponential moving average of a network's weights; call its ``update_parameters`` after each step.

    The decay at step n is min(decay, (1 + n) / (10 + n)), so that the initial weights fade. Buffers are copied.
    """

    def update(average: Any, current: Any, n: Tensor | int) -> None:
        torch._foreach_lerp_(average, current, 1 - min(decay, (1 + int(n)) / (10 + int(n))))

    model = AveragedModel(network, device, multi_avg_fn=update)
    model.update_parameters(network)  # the first call only copies; after it, n counts the steps
    return model


@torch.no_grad()
def write_sheet(path: Path, network: Any, pairs: Pairs) -> None:
    """Write a picture with one row per example: bicubic y, the closed form, x0_hat from pure noise, and x."""
    network.eval()
    observation = Observation(pairs.y, pairs.scale)
    degradation = network.initial_estimate(observation)
    x_y = degradation.closed_form(observation)
    noise = torch.randn(x_y.shape, generator=torch.Generator().manual_seed(0)).to(x_y)
    t = torch.full((len(x_y),), len(network.alpha_bar) - 1, device=x_y.device)
    x_t = add_noise(network, x_y, t[0], noise)
    x0_hat = network(x_t, t, observation, degradation).x0_hat
    rows = torch.cat([bicubic_upsample(pairs.y, pairs.scale), x_y, x0_hat, pairs.x], 3)
    write_picture(path, to_picture(torch.cat(list(rows.nan_to_num()), 1).cpu()))  # a diverged network may give NaN


def train(
    recipes: Recipe | Sequence[Recipe],
    folder: Path,
    *,
    resume: bool = False,
    max_minutes: float = math.inf,
    device: str | None = None,
    on_stop: Callable[[str], object] = lambda _: None,
) -> Path:
    """Run or resume a recipe. Return the folder of the averaged weights of the stage that ran last.

    Writes into ``folder``: ``weights/`` (the averaged weights, for `BlindDiffPipeline`), ``checkpoint/`` (to
    resume), ``losses.csv``, TensorBoard's events if it is installed, and ``sheet_*.png``. Each of several stages writes
    into a subfolder, such as ``02-network``, and starts from the weights of the previous stage.

    The random numbers of a step depend only on the recipe's seed and the step, so that a resumed run gives the same
    weights as an uninterrupted one. With several processes this holds only for stage ``network``: the checkpoint
    contains the replayed examples and batch statistics of the main process only.

    Args:
        recipes: one stage, or several in order.
        folder: must not contain a run, unless ``resume`` is set.
        resume: continue from the last checkpoint in ``folder``.
        max_minutes: time after which a checkpoint is saved and the run stops.
        device: ``"cpu"`` to use no accelerator.
        on_stop: called with a line that says how far the run came, if ``max_minutes`` ended it.

    Raises TrainingError if the loss or its gradient is not finite, or ``folder`` contains a run, or none to resume;
    RecipeError for missing photographs or invalid settings; WeightsError if the initial weights are missing or do not
    fit; OutputError if ``folder`` cannot be written.
    """
    recipes = [recipes] if isinstance(recipes, Recipe) else recipes
    several = len(recipes) > 1
    folders = [folder / f"{n:02d}-{recipe.stage}" for n, recipe in enumerate(recipes, 1)] if several else [folder]
    # `recover_folder` also tells whether there is a checkpoint.
    has_checkpoint = [recover_folder(stage_folder / "checkpoint") for stage_folder in folders]
    if resume and not any(has_checkpoint) and not (several and os.path.isdir(folders[0])):
        raise TrainingError(f"{folder}: contains no checkpoint to resume from")
    if any(has_checkpoint) and not resume:
        raise TrainingError(f"{folder}: already contains a run; resume it, or choose another folder")
    if several and not resume:
        _check_stages(recipes)
    end = time.monotonic() + 60 * max_minutes
    for n, recipe in enumerate(recipes):
        if n < len(recipes) - 1 and _is_finished(folders[n], recipe):
            continue
        if n:
            recipe = recipe.model_copy(update={"init": str(folders[n - 1] / "weights"), "init_estimator": None})
        trainer = Trainer(recipe, folders[n], has_checkpoint[n], device)
        trainer.run((end - time.monotonic()) / 60)
        if trainer.step < recipe.steps:
            if trainer.accelerator.is_main_process:
                stage = f" of stage {n + 1} of {len(recipes)}" if several else ""
                on_stop(f"stopped at {trainer.step:,} of {recipe.steps:,} steps{stage}; --resume continues")
            break
    PartialState().destroy_process_group()
    return trainer.folder / "weights"


class Trainer:
    """Runs one stage: network, optimiser, moving average, data and logs. Arguments as for `train`."""

    def __init__(self, recipe: Recipe, folder: Path, resume: bool, device: str | None = None) -> None:
        self.recipe, self.folder, self.step = recipe, folder, 0
        self.stage = STAGES[recipe.stage](recipe)
        self.accelerator = Accelerator(
            # Without cpu=True, Accelerate treats several processes on a machine without accelerator as separate runs.
            cpu=device == "cpu" or not torch.accelerator.is_available(),
            step_scheduler_with_optimizer=False,  # else the schedule advances once per process and step
            log_with="tensorboard" if is_tensorboard_available() else None,
            project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder)),
        )
        torch.manual_seed(recipe.seed)
        self.network = initial_network(recipe)
        self.network.requires_grad_(False)
        self.learned = [parameter.requires_grad_() for parameter in self.stage.parameters(self.network)]
        self.side = max(map(self._side, recipe.degradation.scales))
        self.images = ImagePool(recipe.data.folders, recipe.data.held_out, self.side)
        self.average = averaged(self.network, recipe.ema, self.accelerator.device)
        make_folder(folder)  # only after weights and photographs have been read without errors
        optimiser = torch.optim.AdamW(self.learned, recipe.learning_rate, (0.9, 0.99), weight_decay=recipe.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self._rate)
        # DistributedDataParallel supports only calls of `forward`, but the losses call several methods. So Accelerate
        # only moves and saves the network, and `_average_gradients` averages over processes.
        self.accelerator.prepare_model(self.network, evaluation_mode=True)
        self.optimiser, self.schedule = self.accelerator.prepare(optimiser, schedule)
        if recipe.precision == "bfloat16":
            reduced = torch.autocast(self.accelerator.device.type, torch.bfloat16)
            self.network.unet.forward = reduced(self.network.unet.forward)  # type: ignore[method-assign]
        self.accelerator.register_for_checkpointing(self.average, self.stage.replay)
        self.accelerator.init_trackers("")
        if resume:
            self._load(folder / "checkpoint")
        elif self.accelerator.is_main_process:
            (folder / "losses.csv").unlink(missing_ok=True)  # from a run without a checkpoint

    def run(self, max_minutes: float) -> None:
        """Train until the recipe's last step, for at most ``max_minutes``, and save a checkpoint."""
        recipe, hidden = self.recipe, not self.accelerator.is_main_process
        started = checkpointed = time.monotonic()
        with (
            tqdm(total=recipe.steps, initial=self.step, desc=self.folder.name, disable=hidden or None) as bar,
            ThreadPoolExecutor(1) as loader,
        ):
            loading = loader.submit(self.photographs, self.step)
            while self.step < recipe.steps and self._agree(time.monotonic() - started < 60 * max_minutes):
                photographs = loading.result()
                loading = loader.submit(self.photographs, self.step + 1)
                losses = self._train_step(torch.from_numpy(photographs))
                self.step += 1
                bar.update()
                if self.step % LOG_STEPS == 0 or self.step == recipe.steps:
                    self._log(losses, bar)
                if self.step % recipe.sheet_steps == 0 and self.stage.shows_images and not hidden:
                    pairs = self.pairs(torch.from_numpy(self.photographs(0)[:4]), self._generator(0))
                    write_sheet(self.folder / f"sheet_{self.step:06d}.png", self.network, pairs)
                if self._agree(time.monotonic() - checkpointed > 60 * recipe.checkpoint_minutes):
                    self._save()
                    checkpointed = time.monotonic()
        self._save()
        for tracker in self.accelerator.trackers:
            tracker.finish()

    def _train_step(self, photographs: Tensor) -> dict[str, Tensor]:
        generator = self._generator(self.step)
        pairs = self.pairs(photographs, generator)
        self.stage.set_mode(self.network)
        torch.manual_seed(generator.initial_seed())  # for dropout
        losses = self.stage.losses(self.network, pairs, generator)
        self.accelerator.backward(losses["total"])
        self._average_gradients()
        norm = self.accelerator.clip_grad_norm_(self.learned, self.recipe.clip)
        # The gradient can contain NaN although the loss is finite.
        if not torch.isfinite(losses["total"] + norm):
            checkpoint = self.folder / "checkpoint"
            kept = f"the last good checkpoint is {checkpoint}" if checkpoint.is_dir() else "there is no checkpoint yet"
            values = f"the loss is {losses['total'].item()} and its gradient's norm {float(norm)}"
            raise TrainingError(f"{values} at step {self.step}; {kept}")
        self.optimiser.step()
        self.schedule.step()
        self.optimiser.zero_grad()
        self.average.update_parameters(self.network)
        return {name: value.detach() for name, value in losses.items()}

    def _average_gradients(self) -> None:
        """Average the gradients over processes. A NaN in one process spreads to all, so that all of them stop."""
        if self.accelerator.num_processes > 1:
            gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
            mean = self.accelerator.reduce(torch.cat([g.flatten() for g in gradients]), reduction="mean")
            for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def _agree(self, decision: bool) -> bool:
        """The main process's decision. Clocks differ, and processes with different decisions would wait forever."""
        if self.accelerator.num_processes == 1:
            return decision
        return bool(broadcast(torch.tensor(int(decision), device=self.accelerator.device)))

    def pairs(self, photographs: Tensor, generator: torch.Generator) -> Pairs:
        """Pairs with a random scale from `photographs`, which are cropped to the side for that scale."""
        recipe = self.recipe.degradation
        scale = draw_scale(recipe, generator)
        side = self._side(scale)
        photographs = photographs[..., :side, :side].to(self.accelerator.device)
        return degrade(photographs, scale, self.network.config.kernel_size, recipe, generator)

    def photographs(self, step: int) -> Pixels:
        """The crops of a step, (B, 3, side, side) uint8, large enough for every scale of the recipe."""
        rng = np.random.default_rng((self.recipe.seed, step, self.accelerator.process_index))
        return self.images.crops(self.recipe.data.batch, self.side, rng, self.recipe.data.reduced)

    def _side(self, scale: int) -> int:
        """HR side of the crops for a scale, including the margin for the blur."""
        return aligned(self.recipe.data.context, scale) + 2 * MARGIN

    def _generator(self, step: int) -> torch.Generator:
        sequence = np.random.SeedSequence((self.recipe.seed, step, self.accelerator.process_index))
        return torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))

    def _rate(self, step: int) -> float:
        """Learning rate relative to its maximum: warm-up, then half a cosine down to the recipe's final rate."""
        if step < self.recipe.warmup:
            return (step + 1) / self.recipe.warmup
        cosine = 0.5 * (1 + math.cos(math.pi * min(step / self.recipe.steps, 1)))
        return self.recipe.final_rate + (1 - self.recipe.final_rate) * cosine

    def _log(self, losses: dict[str, Tensor], bar: "tqdm[Any]") -> None:
        # The mean over processes; `gather` must be called by all of them.
        row = {name: self.accelerator.gather(value[None]).mean().item() for name, value in losses.items()}
        row["learning_rate"] = self.schedule.get_last_lr()[0]
        self.accelerator.log(row, step=self.step)
        if self.accelerator.is_main_process:
            bar.set_postfix({name: f"{value:.3g}" for name, value in row.items() if name != "learning_rate"})
            with (self.folder / "losses.csv").open("a", newline="") as file:
                table = csv.DictWriter(file, ["step", *row])
                if file.tell() == 0:  # new, or empty because a run was killed
                    table.writeheader()
                table.writerow({"step": self.step, **{name: f"{value:.6g}" for name, value in row.items()}})

    def _save(self) -> None:
        """Write the weights, then the checkpoint, so that `_is_finished` needs to check only the checkpoint."""
        self.accelerator.wait_for_everyone()
        new = self.folder / "checkpoint.new"
        self.accelerator.save_state(str(new))
        if self.accelerator.is_main_process:
            (new / "progress.yaml").write_text(yaml.safe_dump({"step": self.step}))
            self.average.module.save_pretrained(self.folder / "weights.new")  # type: ignore[operator]
            replace_folder(self.folder / "weights.new", self.folder / "weights")
            replace_folder(new, self.folder / "checkpoint")
        self.accelerator.wait_for_everyone()

    def _load(self, checkpoint: Path) -> None:
        self.accelerator.wait_for_everyone()
        try:
            self.accelerator.load_state(str(checkpoint))
            self.step = int(yaml.safe_load((checkpoint / "progress.yaml").read_text())["step"])
        except Exception as error:  # pickle, zip, YAML and safetensors raise errors of many kinds
            reason = next(iter(str(error).splitlines()), "it is damaged")  # such as an EOFError without message
            raise TrainingError(f"{checkpoint}: does not fit the recipe: {reason}") from error
        path = self.folder / "losses.csv"  # the steps after the checkpoint are repeated
        if path.exists() and self.accelerator.is_main_process:
            rows = path.read_text().splitlines(keepends=True)
            kept = [row for row in rows[1:] if int(row.split(",")[0]) <= self.step]
            write_file(path, "".join(rows[:1] + kept).encode())


def initial_network(recipe: Recipe) -> ModulatedNetwork:
    """The network at the start of a recipe: new, or from its ``init`` and ``init_estimator``.

    Additional refinement blocks are initialised as identities. Raises RecipeError for an invalid argument of the model,
    WeightsError if weights are missing or do not fit.
    """
    network = _new_network(recipe)
    for source, prefix in ((recipe.init, ""), (recipe.init_estimator, "estimator.")):
        if source is not None:
            loaded = load_network(source, {type(network).__name__: type(network)}, architecture_name)
            _copy_weights(loaded, network, prefix, source)
    return network


def _new_network(recipe: Recipe) -> ModulatedNetwork:
    try:
        network = NETWORKS[STAGES[recipe.stage].mode](**recipe.model)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"recipe: model: {str(error).splitlines()[0]}") from error
    if (size := network.config.kernel_size) > MAX_KERNEL_SIZE:
        raise RecipeError(f"recipe: model: kernel_size: {size}: the maximum in training is {MAX_KERNEL_SIZE}")
    return network.to(memory_format=torch.channels_last)


def _copy_weights(loaded: ModulatedNetwork, network: ModulatedNetwork, prefix: str, source: str) -> None:
    """Copy the weights whose names start with ``prefix``. Raises WeightsError if they do not fit."""
    arguments = ESTIMATOR_ARGUMENTS + (() if prefix else IMAGE_ARGUMENTS)
    for key in filter(network.config.__contains__, arguments):
        theirs, ours = loaded.config[key], network.config[key]
        if theirs != ours and not (isinstance(ours, Sequence) and list(theirs) == list(ours)):  # JSON has no tuples
            raise WeightsError(f"{source}: was made with {key} {theirs}, and the recipe's model has {ours}")
    state = {name: value for name, value in loaded.state_dict().items() if name.startswith(prefix)}
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise WeightsError(f"{source}: does not fit the recipe's model: {reason}") from error
    missing = [name for name in missing if name.startswith(prefix)]
    if unfit := [name for name in missing if not name.startswith("unet.refinement.")] + unexpected:
        raise WeightsError(f"{source}: does not fit the recipe's model: {unfit[0]}")
    for index, block in enumerate(network.unet.refinement):
        if not prefix and f"unet.refinement.{index}.modulation.weight" in missing:
            block.start_as_identity()  # type: ignore[operator]


def _check_stages(recipes: Sequence[Recipe]) -> None:
    """Raise the errors of later stages before the first stage runs."""
    network = initial_network(recipes[0])
    for n, recipe in enumerate(recipes):
        STAGES[recipe.stage](recipe)
        if n:
            previous, network = network, _new_network(recipe)
            _copy_weights(previous, network, "", f"stage {n}")


def _is_finished(folder: Path, recipe: Recipe) -> bool:
    """Whether a stage's checkpoint is from its last step."""
    with suppress(OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return int(yaml.safe_load((folder / "checkpoint" / "progress.yaml").read_text())["step"]) >= recipe.steps
    return False
