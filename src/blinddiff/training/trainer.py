"""The training loop."""

import csv
import io
import math
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, broadcast, is_tensorboard_available
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from blinddiff.degradation import Observation, bicubic_upsample
from blinddiff.errors import RecipeError, TrainingError, WeightsError
from blinddiff.files import write_file
from blinddiff.models.denoiser import add_noise
from blinddiff.models.loading import weights_folder
from blinddiff.models.mcformer import MCFormer
from blinddiff.training.data import (
    LARGEST_KERNEL,
    MARGIN,
    ImagePool,
    Pairs,
    Pixels,
    Replay,
    aligned,
    degrade,
    draw_scale,
)
from blinddiff.training.recipe import Recipe
from blinddiff.training.stages import confidence_losses, correction_losses, estimator_losses, network_losses


class WeightAverage:
    """Moving average of a network's parameters; buffers (running statistics) are copied as they are.

    Args:
        network: what to average.
        decay: share of the old average kept at each step; lower in the first steps, so that the start is forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.average = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def update(self, network: nn.Module) -> None:
        """Take in the network's weights after a step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        state = network.state_dict()
        learned = [name for name, _ in network.named_parameters()]
        torch._foreach_lerp_([self.average[n] for n in learned], [state[n].detach() for n in learned], 1 - decay)
        for name in state.keys() - set(learned):
            self.average[name].copy_(state[name])

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"steps": self.steps, "average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.steps = state["steps"]
        for name, value in state["average"].items():
            self.average[name].copy_(value)


@torch.no_grad()
def write_sheet(path: Path, network: MCFormer, pairs: Pairs) -> None:
    """One row an example: y enlarged, the closed form, one call from pure noise, the truth."""
    network.eval()
    observation = Observation(pairs.y, pairs.scale)
    degradation = network.initial_estimate(observation)
    x_y = degradation.closed_form(observation)
    last = len(network.alpha_bar) - 1
    noise = torch.randn(x_y.shape, generator=torch.Generator().manual_seed(0)).to(x_y)
    t = torch.full((len(x_y),), last, device=x_y.device)
    x_t = add_noise(network, x_y, t[0], noise)
    x0_hat = network(x_t, t, observation, degradation).x0_hat
    columns = torch.cat([bicubic_upsample(pairs.y, pairs.scale), x_y, x0_hat, pairs.x], 3)
    pixels = (columns.clamp(0, 1) * 255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).flatten(0, 1).numpy()
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG")
    write_file(path, buffer.getvalue())


LOG_STEPS = 20
ESTIMATORS_MEANING = ("scales", "kernel_size")
MEANING = (
    *ESTIMATORS_MEANING,
    "noise_schedule",
    "image_mean",
    "image_std",
    "residual_std",
    "heads",
    "kernel_modulation",
)
"""What weights of one shape can differ in, as arguments of `MCFormer`: of its estimator, and of all of it."""


def train(
    recipe: Recipe, folder: Path, *, resume: bool = False, max_minutes: float = math.inf, device: str | None = None
) -> Path:
    """Run a recipe, or go on with it.

    Writes into ``folder``: ``weights/`` (the averaged weights, for `MCFormer.from_pretrained`), ``checkpoint/`` (all
    that a resumed run needs), ``losses.csv``, TensorBoard's events where it is installed, and ``sheet_*.png``.

    Everything random at a step comes from the recipe's seed and the step's number, so that a resumed run goes on
    exactly as an uninterrupted one would. (Of several processes it does so where only the network learns: of replayed
    examples and of statistics over batches the checkpoint holds the main process's.)

    Args:
        recipe: what to train on what.
        folder: where to write; must not hold a run already, unless ``resume``.
        resume: go on from the folder's checkpoint.
        max_minutes: stop, with a checkpoint, after so long.
        device: ``"cpu"`` keeps Accelerate from choosing another.

    Returns:
        The folder of the averaged weights.

    Raises:
        TrainingError: a loss or its gradient is not finite (the last good checkpoint stays), or there is nothing to
            resume.
        RecipeError: no photographs, or impossible model arguments.
    """
    return Trainer(recipe, folder, resume, device).run(max_minutes)


class Trainer:
    """One run: network, optimiser, average, data and logs."""

    def __init__(self, recipe: Recipe, folder: Path, resume: bool, device: str | None = None) -> None:
        self.recipe, self.folder, self.step = recipe, folder, 0
        checkpoint = folder / "checkpoint"
        _restore(checkpoint)
        if resume and not os.path.isdir(checkpoint):  # Path raises for what cannot be a name
            raise TrainingError(f"{folder}: holds no checkpoint to resume from")
        if not resume and checkpoint.exists():
            raise TrainingError(f"{folder}: holds a run already; resume it, or choose another folder")
        self.accelerator = Accelerator(
            # Left to itself, Accelerate takes several processes without an accelerator for as many runs.
            cpu=device == "cpu" or not torch.accelerator.is_available(),
            step_scheduler_with_optimizer=False,  # else two processes would run through the schedule twice as fast
            log_with="tensorboard" if is_tensorboard_available() else None,
            project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder)),
        )
        torch.manual_seed(recipe.seed)
        self.network = initial_network(recipe)
        learned = _learned(self.network, recipe.stage)
        self.images = ImagePool(recipe.data.folders, recipe.data.held_out, self._largest_side())
        self.average = WeightAverage(self.network, recipe.ema)
        folder.mkdir(parents=True, exist_ok=True)  # not before weights and photographs have been found good
        optimiser = torch.optim.AdamW(
            learned, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.99)
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self._rate)
        # The losses call the network in more ways than one, which a wrapper around its forward would not see:
        # Accelerate places and saves it, but gradients are averaged over processes by `_average_gradients`.
        self.accelerator.prepare_model(self.network, evaluation_mode=True)
        self.optimiser, self.schedule = self.accelerator.prepare(optimiser, schedule)
        for name, value in self.average.average.items():
            self.average.average[name] = value.to(self.accelerator.device)
        if recipe.precision == "bfloat16":
            blocks = self.network.unet
            reduced = torch.autocast(self.accelerator.device.type, torch.bfloat16)
            blocks.forward = reduced(blocks.forward)  # type: ignore[method-assign]
        self.replay = Replay()
        self.accelerator.register_for_checkpointing(self.average, self.replay)
        self.accelerator.init_trackers("")
        if resume:
            self._load(checkpoint)
        elif self.accelerator.is_main_process:
            (folder / "losses.csv").unlink(missing_ok=True)  # of a run that ended before its first checkpoint

    def run(self, max_minutes: float) -> Path:
        """Train to the recipe's last step, or for ``max_minutes``."""
        recipe = self.recipe
        started = checkpointed = time.monotonic()
        hidden = not self.accelerator.is_main_process
        with (
            tqdm(total=recipe.steps, initial=self.step, desc=self.folder.name, disable=hidden) as bar,
            ThreadPoolExecutor(1) as loader,
        ):
            coming = loader.submit(self._photographs, self.step)
            while self.step < recipe.steps and self._agree(time.monotonic() - started < 60 * max_minutes):
                photographs = coming.result()
                coming = loader.submit(self._photographs, self.step + 1)
                losses = self._train_step(torch.from_numpy(photographs))
                self.step += 1
                bar.update()
                if self.step % LOG_STEPS == 0 or self.step == recipe.steps:
                    self._log(losses, bar)
                if self.step % recipe.sheet_steps == 0:
                    self._write_sheet()
                if self._agree(time.monotonic() - checkpointed > 60 * recipe.checkpoint_minutes):
                    self._save()
                    checkpointed = time.monotonic()
        self._save()
        self.accelerator.end_training()
        return self.folder / "weights"

    def _train_step(self, photographs: Tensor) -> dict[str, Tensor]:
        recipe, generator = self.recipe, self._generator(self.step)
        scale = draw_scale(recipe.degradation, generator)
        side = self._side(scale)
        photographs = photographs[..., :side, :side].to(self.accelerator.device)
        pairs = degrade(photographs, scale, self.network.config.kernel_size, recipe.degradation, generator)
        self._set_training()
        torch.manual_seed(generator.initial_seed())  # for dropout
        if recipe.stage == "estimator":
            losses = estimator_losses(self.network, pairs, recipe, self.replay, generator)
        elif recipe.stage == "confidence":
            losses = confidence_losses(self.network, pairs, recipe, self.replay, generator)
        elif recipe.stage == "correction":
            losses = correction_losses(self.network, pairs, recipe, self.replay, generator)
        else:
            losses = network_losses(self.network, pairs, recipe, generator)
        self.accelerator.backward(losses["total"])
        self._average_gradients()
        norm = self.accelerator.clip_grad_norm_([p for p in self.network.parameters() if p.requires_grad], recipe.clip)
        # A finite loss may have a gradient that is not, which would spoil the weights unseen until they are saved.
        if not torch.isfinite(losses["total"] + norm):
            checkpoint = self.folder / "checkpoint"
            kept = f"the last good checkpoint is {checkpoint}" if checkpoint.is_dir() else "no checkpoint was made yet"
            raise TrainingError(
                f"the loss is {losses['total'].item()} and its gradient {float(norm)} at step {self.step}; {kept}"
            )
        self.optimiser.step()
        self.schedule.step()
        self.optimiser.zero_grad()
        self.average.update(self.network)
        return {name: value.detach() for name, value in losses.items()}

    def _average_gradients(self) -> None:
        """The mean of all processes' gradients, in one message; a NaN of one stops all."""
        if self.accelerator.num_processes > 1:
            gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
            mean = self.accelerator.reduce(torch.cat([g.flatten() for g in gradients]), reduction="mean")
            for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def _agree(self, decision: bool) -> bool:
        """What the main process decided: clocks differ, and a process alone in a barrier would wait for ever."""
        if self.accelerator.num_processes == 1:
            return decision
        return bool(broadcast(torch.tensor(int(decision), device=self.accelerator.device)))

    def _set_training(self) -> None:
        """Let only the parts that learn gather statistics of what passes through them."""
        self.network.train()
        estimator = self.network.estimator
        estimator.normalise.train(self.recipe.stage in ("estimator", "joint"))
        estimator.correct.train(self.recipe.stage in ("correction", "joint"))

    def _photographs(self, step: int) -> Pixels:
        rng = np.random.default_rng((self.recipe.seed, step, self.accelerator.process_index))
        return self.images.crops(self.recipe.data.batch, self._largest_side(), rng, self.recipe.data.reduced)

    def _largest_side(self) -> int:
        return max(map(self._side, self.recipe.degradation.scales))

    def _side(self, scale: int) -> int:
        """HR side of the crops cut for a scale, the margin lost to the blur included."""
        return aligned(self.recipe.data.context, scale) + 2 * MARGIN

    def _generator(self, step: int) -> torch.Generator:
        seed = np.random.SeedSequence((self.recipe.seed, step, self.accelerator.process_index)).generate_state(
            1, np.uint64
        )
        return torch.Generator().manual_seed(int(seed[0] >> 1))

    def _rate(self, step: int) -> float:
        """Warm-up, then half a cosine down to the final rate at the recipe's last step."""
        recipe = self.recipe
        if step < recipe.warmup:
            return (step + 1) / recipe.warmup
        fall = 0.5 * (1 + math.cos(math.pi * min(step / recipe.steps, 1)))
        return recipe.final_rate + (1 - recipe.final_rate) * fall

    def _log(self, losses: dict[str, Tensor], bar: "tqdm[Any]") -> None:
        # Every process's losses count; gathering is a step all of them take.
        row = {name: self.accelerator.gather(value[None]).mean().item() for name, value in losses.items()}
        row["learning_rate"] = self.schedule.get_last_lr()[0]
        self.accelerator.log(row, step=self.step)
        if self.accelerator.is_main_process:
            bar.set_postfix({name: f"{value:.3g}" for name, value in row.items() if name != "learning_rate"})
            path = self.folder / "losses.csv"
            new = not path.exists() or path.stat().st_size == 0  # a kill may have left it empty
            with path.open("a", newline="") as file:
                table = csv.DictWriter(file, ["step", *row])
                if new:
                    table.writeheader()
                table.writerow({"step": self.step, **{name: f"{value:.6g}" for name, value in row.items()}})

    def _write_sheet(self) -> None:
        if self.accelerator.is_main_process and self.recipe.stage not in ("estimator", "confidence"):
            generator = self._generator(0)
            scale = draw_scale(self.recipe.degradation, generator)
            photographs = torch.from_numpy(self._photographs(0)[:4, :, : self._side(scale), : self._side(scale)])
            pairs = degrade(
                photographs.to(self.accelerator.device),
                scale,
                self.network.config.kernel_size,
                self.recipe.degradation,
                generator,
            )
            write_sheet(self.folder / f"sheet_{self.step:06d}.png", self.network, pairs)

    def _save(self) -> None:
        """Write weights and checkpoint beside the old ones, then put them in their place: never half a checkpoint."""
        self.accelerator.wait_for_everyone()
        new = self.folder / "checkpoint.new"
        self.accelerator.save_state(str(new))
        if self.accelerator.is_main_process:
            (new / "progress.yaml").write_text(yaml.safe_dump({"step": self.step}))
            _replace(new, self.folder / "checkpoint")
            network = MCFormer.from_config(self.network.config)
            network.load_state_dict(self.average.average)
            network.save_pretrained(self.folder / "weights.new")
            _replace(self.folder / "weights.new", self.folder / "weights")
        self.accelerator.wait_for_everyone()

    def _load(self, checkpoint: Path) -> None:
        self.accelerator.wait_for_everyone()
        try:
            self.accelerator.load_state(str(checkpoint))
            self.step = int(yaml.safe_load((checkpoint / "progress.yaml").read_text())["step"])
        except Exception as error:  # pickle, zip, YAML and safetensors raise errors of many kinds
            reason = next(iter(str(error).splitlines()), "it is damaged")  # an EOFError says nothing
            raise TrainingError(f"{checkpoint}: does not fit the recipe: {reason}") from error
        # Rows after the checkpoint will be written again.
        path = self.folder / "losses.csv"
        if path.exists() and self.accelerator.is_main_process:
            rows = path.read_text().splitlines(keepends=True)
            kept = [row for row in rows[1:] if int(row.split(",")[0]) <= self.step]
            write_file(path, "".join(rows[:1] + kept).encode())


def initial_network(recipe: Recipe) -> MCFormer:
    """The network a recipe starts from: new, or from its ``init`` and ``init_estimator``.

    It may have more refinement blocks than ``init``: the new ones start as identities, so that nothing is forgotten.

    Raises:
        RecipeError: impossible arguments of the model.
        WeightsError: weights that are missing or do not fit.
    """
    try:
        network = MCFormer(**recipe.model)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"recipe: model: {str(error).splitlines()[0]}") from error
    if (size := network.config.kernel_size) > LARGEST_KERNEL:
        raise RecipeError(f"recipe: model: kernel_size: {size}: at most {LARGEST_KERNEL} can be trained")
    for source, part in ((recipe.init, ""), (recipe.init_estimator, "estimator.")):
        if source is None:
            continue
        try:
            loaded = MCFormer.from_pretrained(weights_folder(source) or source)
            _check_meaning(source, loaded, network, ESTIMATORS_MEANING if part else MEANING)
            missing, unexpected = network.load_state_dict(
                {name: value for name, value in loaded.state_dict().items() if name.startswith(part)}, strict=False
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise WeightsError(f"{source}: cannot be started from: {str(error).splitlines()[0]}") from error
        lacking = [name for name in missing if name.startswith(part) and not name.startswith("unet.refinement.")]
        lacking += unexpected
        if lacking:
            raise WeightsError(f"{source}: does not fit the recipe's model: {lacking[0]}")
        if not part:
            for index, block in enumerate(network.unet.refinement):
                if f"unet.refinement.{index}.modulation.weight" in missing:
                    block.start_as_identity()
    return network.to(memory_format=torch.channels_last)


def _check_meaning(source: str, loaded: MCFormer, network: MCFormer, keys: tuple[str, ...]) -> None:
    """Refuse weights that fit in shape alone. Raises WeightsError."""
    for key in keys:
        theirs, ours = (
            list(value) if isinstance(value, list | tuple) else value  # JSON knows no tuples
            for value in (loaded.config[key], network.config[key])
        )
        if theirs != ours:
            raise WeightsError(f"{source}: was made with {key} {theirs}, and the recipe's model has {ours}")


def _learned(network: MCFormer, stage: str) -> list[Tensor]:
    """Mark which parameters learn in a stage, and return them."""
    for name, parameter in network.named_parameters():
        correction, confidence = name.startswith("estimator.correct."), name.startswith("estimator.confidence_head.")
        estimator = name.startswith("estimator.") and not (correction or confidence)
        learns = {
            "estimator": estimator,
            "confidence": confidence,
            "correction": correction,
            "network": not (estimator or confidence or correction),
            "joint": not confidence,
        }
        parameter.requires_grad_(learns[stage])
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _restore(folder: Path) -> None:
    """Give a folder its name again that a kill within `_replace` has left without."""
    before = _before(folder)
    if os.path.exists(before) and not folder.exists():
        with suppress(FileNotFoundError):  # another process was faster
            before.rename(folder)


def _before(folder: Path) -> Path:
    return folder.with_name(folder.name + ".old")


def _replace(new: Path, old: Path) -> None:
    before = _before(old)
    shutil.rmtree(before, ignore_errors=True)
    if old.exists():
        old.rename(before)
    new.rename(old)
    shutil.rmtree(before, ignore_errors=True)
