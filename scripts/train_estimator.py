"""Train the estimator, its confidence head and the spectra of shaken kernels from stored examples.

That is, many passes over statistics of degraded crops.

The stages of `blinddiff train` see each crop a few times, and most of their time goes into making it. Here the
statistics are computed once, and mirrored and transposed at random afterwards.

    python scripts/train_estimator.py store RECIPE STORE --data FOLDER... --minutes 30
    python scripts/train_estimator.py fit RECIPE STORE... -o FOLDER
    python scripts/train_estimator.py confidence RECIPE STORE... -o FOLDER
    python scripts/train_estimator.py spectrum RECIPE STORE... -o FOLDER --minutes 30
"""

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from blinddiff.degradation import Degradation, Observation
from blinddiff.imaging import to_picture
from blinddiff.models.edge_profiles import LENGTH
from blinddiff.models.kernel_estimator import SpectralEstimator
from blinddiff.models.kernel_spectrum import KernelSpectrum, log_power
from blinddiff.models.mcformer import MCFormer
from blinddiff.models.statistics import BLOCK, GROUPS, Statistics, estimator_statistics, full_spectrum
from blinddiff.training.data import MARGIN, ImagePool, aligned, degrade, draw_scale
from blinddiff.training.pictures import dead_leaves
from blinddiff.training.recipe import Recipe, load_recipe
from blinddiff.training.stages import MIN_CONFIDENCE_CROP, closed_form_loss, degradation_losses
from blinddiff.training.trainer import averaged, initial_network

CHUNK = 64
"""Steps whose examples are written to one file."""
LEAVES = 90
LEAVES_SIDE = 560
CROPPED = 0.3
"""Share of the batches whose LR images are cropped to a random size before their statistics are taken."""
BATCH = 256
FROZEN = ("estimator.correct", "estimator.confidence_head")
NEW = ("colour", "fine", "edges", "sharpening_head", "noise_gate")
"""Parts of the estimator that are trained at the full learning rate; the others at a tenth."""
REPORT_STEPS = 100
SPECTRUM = "kernel_spectrum."
"""Prefix of the weights of `KernelSpectrum` in those of the network."""
SPECTRUM_BATCH = 24
AMPLITUDE_WEIGHT = 4.0
SPECTRUM_TESTED = 40
"""One of so many examples is not learned, but tested."""
NOISE_JITTER = 0.15
"""Standard deviation of the log of the error of the noise level that `KernelSpectrum` is told."""


@dataclass
class Examples:
    """Statistics of N images in half precision where that is enough, and what is true of each."""

    statistics: Statistics
    scale: Tensor
    kernel: Tensor
    noise_level: Tensor
    noise_spectrum: Tensor
    pixels: Tensor

    @property
    def rows(self) -> list[Tensor]:
        """All tensors, one row for each example."""
        return [*self.statistics, self.scale, self.kernel, self.noise_level, self.noise_spectrum, self.pixels]

    @classmethod
    def of(cls, rows: list[Tensor]) -> "Examples":
        """From tensors in the order of `rows`."""
        parts = len(Statistics._fields)
        return cls(Statistics(*rows[:parts]), *rows[parts:])

    def __len__(self) -> int:
        return len(self.scale)

    def __getitem__(self, places: Tensor | slice) -> "Examples":
        """Some of the examples, in single precision."""
        return Examples.of([part[places].float() for part in self.rows])

    @property
    def truth(self) -> Degradation:
        """The true degradations."""
        return Degradation(self.kernel, self.noise_level, noise_spectrum=self.noise_spectrum)


def store(recipe: Recipe, folder: Path, minutes: float, first: int, every: int, leaves: bool) -> None:
    """Write examples to ``folder`` for some minutes, in chunks number ``first``, ``first + every``, and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    side = max(aligned(recipe.data.context, scale) for scale in recipe.degradation.scales) + 2 * MARGIN
    if leaves:
        with tempfile.TemporaryDirectory() as made:
            rng = np.random.default_rng(recipe.seed)
            for index in range(LEAVES):
                smallest = math.exp(rng.uniform(math.log(1), math.log(4)))
                to_picture(dead_leaves(LEAVES_SIDE, LEAVES_SIDE, rng, smallest)).save(f"{made}/{index}.png")
            images = ImagePool([made], [], side)
    else:
        images = ImagePool(recipe.data.folders, recipe.data.held_out, side)
    kernel_size = initial_network(recipe).config.kernel_size
    end, chunk = time.monotonic() + 60 * minutes, first
    while time.monotonic() < end:
        batches = [_batch(recipe, images, kernel_size, chunk * CHUNK + step) for step in range(CHUNK)]
        parts = [torch.cat(rows) for rows in zip(*batches, strict=True)]
        torch.save(parts, folder / f"{chunk:04d}.pt")
        print(f"{folder}: chunk {chunk}, {len(parts[0])} examples", flush=True)
        chunk += every


def _batch(recipe: Recipe, images: ImagePool, kernel_size: int, step: int) -> list[Tensor]:
    rng = np.random.default_rng((recipe.seed, step))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    scale = draw_scale(recipe.degradation, generator)
    side = aligned(recipe.data.context, scale) + 2 * MARGIN
    photographs = torch.from_numpy(images.crops(recipe.data.batch, side, rng, recipe.data.reduced))
    pairs = degrade(photographs, scale, kernel_size, recipe.degradation, generator)
    y, side = pairs.y, pairs.y.shape[-1]
    if rng.random() < CROPPED:
        side = round(MIN_CONFIDENCE_CROP * (side / MIN_CONFIDENCE_CROP) ** rng.random())
        y = y[..., :side, :side]
    observation = Observation(y, scale, pairs.jpeg_step)
    statistics = estimator_statistics(observation)
    pixels = torch.full((len(y), 1), side * side)
    truth = [pairs.kernel, pairs.noise_level, pairs.noise_spectrum.half(), pixels]
    return [*statistics._replace(fine=statistics.fine.half()), observation.scales, *truth]


def load(folders: list[Path]) -> Examples:
    """The stored examples of several folders."""
    chunks = [torch.load(path, mmap=True) for folder in folders for path in sorted(folder.glob("*.pt"))]
    return Examples.of([torch.cat(parts) for parts in zip(*chunks, strict=True)])


def mirrored(examples: Examples, rng: np.random.Generator) -> Examples:
    """The examples as if their images had been mirrored and transposed, all in the same random way."""
    if rng.random() < 0.5:
        examples = _mirror(examples)
    return _transpose(examples) if rng.random() < 0.5 else examples


def _mirror(e: Examples) -> Examples:
    """Mirrored left to right: S(f_y, -f_x) = S(-f_y, f_x) for real images."""

    def rows(spectra: Tensor) -> Tensor:
        return spectra.flip(-2).roll(1, -2)

    spectra, quantiles, lattice = _split(e.statistics.spectral)
    chroma, file = _split_colour(e.statistics.colour)
    statistics = Statistics(
        torch.cat([rows(spectra).flatten(1), quantiles[:, [0, 1, 3, 2]].flatten(1), lattice.flatten(1)], 1),
        torch.cat([rows(chroma).flatten(1), file], 1),
        rows(e.statistics.flat),
        rows(e.statistics.fine),
        rows(e.statistics.clues),
        _edges(e.statistics.edges, [0, 1, 3, 2], backwards=0),
    )
    return Examples(statistics, e.scale, e.kernel.flip(-1), e.noise_level, rows(e.noise_spectrum), e.pixels)


def _transpose(e: Examples) -> Examples:
    def swap(half: Tensor) -> Tensor:
        return full_spectrum(half).mT[..., : half.shape[-1]]

    spectra, quantiles, lattice = _split(e.statistics.spectral)
    chroma, file = _split_colour(e.statistics.colour)
    statistics = Statistics(
        torch.cat([swap(spectra).flatten(1), quantiles[:, [1, 0, 2, 3]].flatten(1), lattice.flip(1).flatten(1)], 1),
        torch.cat([swap(chroma).flatten(1), file], 1),
        swap(e.statistics.flat),
        swap(e.statistics.fine),
        swap(e.statistics.clues),
        _edges(e.statistics.edges, [1, 0, 2, 3], backwards=3),
    )
    return Examples(statistics, e.scale, e.kernel.mT, e.noise_level, e.noise_spectrum.mT, e.pixels)


def _split(spectral: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`spectral_statistics` as spectra (B, 4, 16, 9), quantiles (B, 4, 5) by directions and harmonics (B, 2, 4)."""
    spectra, quantiles, lattice = spectral.split([GROUPS * BLOCK * (BLOCK // 2 + 1), 20, 8], 1)
    return spectra.unflatten(1, (GROUPS, BLOCK, -1)), quantiles.unflatten(1, (4, 5)), lattice.unflatten(1, (2, 4))


def _edges(edges: Tensor, order: list[int], backwards: int) -> Tensor:
    """`Statistics.edges` in another order of their directions, of which one then runs backwards."""
    edges = edges[:, order]
    profiles = edges[:, backwards, :, :-1].unflatten(-1, (2, LENGTH)).flip(-1).flatten(-2)
    turned = torch.cat([profiles, edges[:, backwards, :, -1:]], -1)
    return torch.stack([turned if i == backwards else edges[:, i] for i in range(edges.shape[1])], 1)


def _split_colour(colour: Tensor) -> tuple[Tensor, Tensor]:
    return colour[:, :-2].unflatten(1, (2, BLOCK, -1)), colour[:, -2:]


def fit(recipe: Recipe, examples: Examples, folder: Path, minutes: float) -> None:
    """Train the estimator for some minutes, and write the averaged weights."""
    torch.manual_seed(recipe.seed)
    network = initial_network(recipe).to(torch.float32)
    assert isinstance(network, MCFormer)
    estimator = network.estimator
    _set_statistics(estimator, examples)
    parameters = dict(network.named_parameters())
    learned = {
        name: p for name, p in parameters.items() if name.startswith("estimator.") and not name.startswith(FROZEN)
    }
    network.requires_grad_(False)
    for parameter in learned.values():
        parameter.requires_grad_()
    new = {name for name in learned if name.split(".")[1] in NEW}
    groups = [[learned[name] for name in learned if (name in new) == is_new] for is_new in (True, False)]
    rates = [recipe.learning_rate, recipe.learning_rate / 10]
    optimiser = torch.optim.AdamW(
        [{"params": group} for group in groups], betas=(0.9, 0.99), weight_decay=recipe.weight_decay
    )
    average = averaged(estimator, recipe.ema)
    network.eval()  # the batch norms keep the statistics of all examples
    rng = np.random.default_rng(recipe.seed)
    started, step = time.monotonic(), 0
    totals: dict[str, float] = {}
    while (done := (time.monotonic() - started) / (60 * minutes)) < 1:
        for group, each in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = each * _relative_rate(recipe, done, step)
        batch = mirrored(examples[torch.from_numpy(rng.integers(len(examples), size=BATCH))], rng)
        losses = estimator_losses(estimator, batch)
        total = sum((getattr(recipe.loss, name) * value for name, value in losses.items()), torch.zeros(()))
        optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(learned.values(), recipe.clip)
        optimiser.step()
        average.update_parameters(estimator)
        step += 1
        for name, value in losses.items():
            totals[name] = totals.get(name, 0.0) + value.item() / REPORT_STEPS
        if step % REPORT_STEPS == 0:
            print(f"step {step}, {done:.0%}: " + ", ".join(f"{k} {v:.4f}" for k, v in totals.items()), flush=True)
            totals = {}
        if step % (10 * REPORT_STEPS) == 0:
            _save(network, average.module, folder)
    _save(network, average.module, folder)


def _relative_rate(recipe: Recipe, done: float, step: int) -> float:
    """The learning rate relative to its peak: linear warm-up, then a cosine over the share of the time that is done."""
    rate = recipe.final_rate + (1 - recipe.final_rate) * 0.5 * (1 + math.cos(math.pi * done))
    return rate * min(1, (step + 1) / recipe.warmup)


def estimator_losses(estimator: SpectralEstimator, batch: Examples) -> dict[str, Tensor]:
    """The losses of a batch by the names of their weights in recipes."""
    estimate, _ = estimator(batch.statistics, batch.scale)
    losses = degradation_losses(estimate, batch.truth)
    losses["restoration"] = closed_form_loss(estimate.kernel, batch.kernel, batch.noise_level, batch.scale)
    return losses


@torch.no_grad()
def _set_statistics(estimator: SpectralEstimator, examples: Examples) -> None:
    """Set the statistics of the new batch norms to those of the examples; those of the old one stay."""
    some = examples[torch.randperm(len(examples))[:8192]]
    fine, edges = estimator.fine[1], estimator.edges[1]
    assert isinstance(fine, nn.BatchNorm1d)
    assert isinstance(edges, nn.BatchNorm1d)
    for norm, values in (
        (estimator.normalise_colour, some.statistics.colour),
        (fine, some.statistics.fine.flatten(1)),
        (edges, some.statistics.edges.flatten(1)),
    ):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(values.mean(0))
        norm.running_var.copy_(values.var(0))


def _save(network: MCFormer, estimator: nn.Module, folder: Path) -> None:
    kept = {name: value.clone() for name, value in network.estimator.state_dict().items()}
    network.estimator.load_state_dict(estimator.state_dict())
    network.save_pretrained(folder)
    network.estimator.load_state_dict(kept)


def confidence(recipe: Recipe, examples: Examples, folder: Path, steps: int) -> None:
    """Train the confidence head on all examples at once: its inputs, the features, do not change.

    The error is that of the mean over the transforms of `MCFormer.initial_estimate`. The examples should not be those
    of `fit`: on these the errors are too small.
    """
    torch.manual_seed(recipe.seed)
    network = initial_network(recipe).to(torch.float32).eval()
    assert isinstance(network, MCFormer)
    estimator = network.estimator
    inputs, error, size = (torch.cat(parts) for parts in zip(*_features_and_errors(estimator, examples), strict=True))
    network.requires_grad_(False)
    head = estimator.confidence_head.requires_grad_()
    optimiser = torch.optim.AdamW(head.parameters(), 3e-3, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        places = torch.randint(len(inputs), (1024,))
        expected = estimator.expected_error(inputs[places], size[places])
        loss = (expected - error[places]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 500 == 0 or step == steps - 1:
            r = torch.corrcoef(torch.stack([expected.detach(), error[places]]))[0, 1]
            print(f"step {step}: loss {loss.item():.4f}, correlation {r.item():.3f}", flush=True)
    network.save_pretrained(folder)


@torch.no_grad()
def _features_and_errors(estimator: SpectralEstimator, examples: Examples) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of each transform of each batch the features, with the error of the mean over the transforms and the pixels."""
    for start in range(0, len(examples), BATCH):
        batch = examples[start : start + BATCH]
        mirror = _mirror(batch)
        kernels, features = [], []
        for is_mirrored, is_transposed in product((False, True), repeat=2):
            transformed = mirror if is_mirrored else batch
            transformed = _transpose(transformed) if is_transposed else transformed
            estimate, found = estimator(transformed.statistics, transformed.scale)
            kernel = estimate.kernel.mT if is_transposed else estimate.kernel
            kernels.append(kernel.flip(-1) if is_mirrored else kernel)
            features.append(found)
        mean = torch.stack(kernels).mean(0)
        error = ((mean + mean.flip((-2, -1))) / 2 - batch.kernel).abs().sum((-2, -1))
        for found in features:
            yield found, error, batch.pixels


def spectrum(recipe: Recipe, examples: Examples, folder: Path, minutes: float, start: Path | None) -> None:
    """Train `KernelSpectrum` at scales 1 and 2 for some minutes of processor time, and write its averaged weights.

    start: a file of weights, as it is written; None for random ones.
    """
    torch.manual_seed(recipe.seed)
    network = KernelSpectrum()
    if start is not None:
        network.load_state_dict({k.removeprefix(SPECTRUM): v for k, v in load_file(start).items()})
    optimiser = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.99), weight_decay=recipe.weight_decay)
    average = averaged(network, recipe.ema)
    rng = np.random.default_rng(recipe.seed)
    usable = torch.nonzero(examples.scale <= 2).flatten()
    tested, learned = usable[::SPECTRUM_TESTED], usable[torch.arange(len(usable)) % SPECTRUM_TESTED > 0]
    started, step, total = time.process_time(), 0, 0.0
    while (done := (time.process_time() - started) / (60 * minutes)) < 1:
        optimiser.param_groups[0]["lr"] = recipe.learning_rate * _relative_rate(recipe, done, step)
        places = torch.from_numpy(rng.integers(len(learned), size=SPECTRUM_BATCH))
        loss = _spectrum_loss(network, mirrored(examples[learned[places]], rng))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimiser.step()
        average.update_parameters(network)
        step += 1
        total += loss.item() / REPORT_STEPS
        if step % REPORT_STEPS == 0:
            print(f"step {step}, {done:.0%}: loss {total:.4f}", flush=True)
            total = 0.0
        if step % (5 * REPORT_STEPS) == 0:
            _report_spectrum(average.module, examples[tested], folder)
    _report_spectrum(average.module, examples[tested], folder)


def _spectrum_loss(network: KernelSpectrum, batch: Examples) -> Tensor:
    """L1 of the log spectrum, and of the amplitude, by which the large ones count more."""
    truth = torch.cat([log_power(batch.kernel[batch.scale == s], s) for s in (1, 2)])
    order = torch.cat([torch.nonzero(batch.scale == s).flatten() for s in (1, 2)])
    told = batch.noise_level * (NOISE_JITTER * torch.randn(len(batch))).exp()
    power = network(batch.statistics.fine[order], told[order])
    amplitude = ((power / 2).exp() - (truth / 2).exp()).abs().mean()
    return (power - truth).abs().mean() + AMPLITUDE_WEIGHT * amplitude


@torch.no_grad()
def _report_spectrum(network: nn.Module, examples: Examples, folder: Path) -> None:
    """Print the error of log |K|^2 on examples that were not learned, and write the weights."""
    errors: dict[int, list[Tensor]] = {1: [], 2: []}
    for places in torch.arange(len(examples)).split(SPECTRUM_BATCH):
        some = examples[places]
        power = network(some.statistics.fine, some.noise_level)
        for s, found in errors.items():
            at = some.scale == s
            found.append((power[at] - log_power(some.kernel[at], s)).abs().mean((-2, -1)))
    print("tested: " + ", ".join(f"x{s} {torch.cat(e).mean():.3f} nepers" for s, e in errors.items()), flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    network.get_buffer("is_trained").fill_(True)
    state = {SPECTRUM + name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(state, folder / "kernel_spectrum.safetensors")


def main() -> None:
    """Run a command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("store", "fit", "confidence", "spectrum"):
        command = commands.add_parser(name)
        command.add_argument("recipe", type=Path)
        command.add_argument("folders", type=Path, nargs="+")
        command.add_argument("--minutes", type=float, default=30)
        if name == "store":
            command.add_argument("--data", nargs="+")
            command.add_argument(
                "--leaves", action="store_true", help="pictures of dead leaves in place of photographs"
            )
            command.add_argument("--first", type=int, default=0)
            command.add_argument("--every", type=int, default=1)
        else:
            command.add_argument("-o", "--output", type=Path, required=True)
            command.add_argument("--steps", type=int, default=4000)
            command.add_argument("--start", type=Path, help="weights of the spectrum from which to go on")
    given = parser.parse_args()
    (recipe,) = load_recipe(given.recipe, getattr(given, "data", None))
    if given.command == "store":
        store(recipe, given.folders[0], given.minutes, given.first, given.every, given.leaves)
    elif given.command == "fit":
        fit(recipe, load(given.folders), given.output, given.minutes)
    elif given.command == "spectrum":
        spectrum(recipe, load(given.folders), given.output, given.minutes, given.start)
    else:
        confidence(recipe, load(given.folders), given.output, given.steps)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
