"""What training minimises: the noise constraint, the kernel constraint and the noise level's.

Each is a mean over examples, so that a batch's size does not change its weight.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff.degradation.observation import Degradation, Observation, data_weight
from blinddiff.models.denoiser import Prediction
from blinddiff.models.kernel_estimator import Evidence, log_ratio, mirror_step
from blinddiff.models.mcformer import MCFormer
from blinddiff.models.statistics import spectral_statistics
from blinddiff.training.data import Pairs, Replay, aligned
from blinddiff.training.recipe import Recipe

SMALLEST_CROP = 16
"""LR side of the smallest images on which the expected kernel error learns."""
UNSEEN = 1e-3
"""Part of a scene's energy that no eye misses, about 43 dB of PSNR: keeps a perfect restoration's decibels finite."""
UNSEEN_ERROR = 0.04
"""Weighted error of an image that no eye tells from the true one: 40 dB of PSNR at pure noise, for tau = 0.1."""
MOVED, FURTHEST, NEAREST = 0.45, -0.6, 1.0
"""Share of the examples whose kernel is moved from the estimate before the correction sees what it gives, and how far,
in parts of the way to the true kernel: so it learns on kernels as bad, and as good, as there will be."""
LARGEST_MOVE = 3.0  # of an entry's logarithm


def kernel_constraint(estimated: Tensor, true: Tensor) -> Tensor:
    """Mean over the batch of sum |k_hat - k|, both summing to 1: 0 for a perfect kernel, 2 for one that misses all.

    A mean square over the support is about 1e-5 for any kernel, and teaches nothing.
    """
    return (estimated - true).abs().sum((-2, -1)).mean()


def restoration_constraint(estimated: Tensor, true: Tensor, noise_level: Tensor, scale: Tensor) -> Tensor:
    """Mean decibels that restoring with k_hat instead of k costs the closed-form image of a scene of spectrum 1 / f^2.

    Two kernels equally far off in `kernel_constraint` can differ much in this: what the image shows of them counts.
    In the LR grid's band the closed form is a Wiener filter H of y; above it nothing of the scene is found. Aliases are
    left out, and noise but for its damping of H; so at scales above 1 it says too much, by two or three times. Errors
    below `UNSEEN` count as alike.

    Args:
        estimated, true: (B, n, n).
        noise_level: sigma, (B,), grey levels.
        scale: (B,).
    """
    side = 2 * true.shape[-1] + 2
    down, right = torch.fft.fftfreq(side, device=true.device)[:, None], torch.fft.rfftfreq(side, device=true.device)
    scene = 1 / (down.square() + right.square() + (0.5 / side) ** 2)
    scene[:, 1:-1] *= 2  # the half of the spectrum that is not kept
    band = torch.maximum(down.abs(), right) <= (0.5 / scale)[:, None, None]
    rho = data_weight(noise_level)[:, None, None]
    pad, middle = side - true.shape[-1], true.shape[-1] // 2
    spectrum, believed = (
        torch.fft.rfft2(F.pad(kernel, (0, pad, 0, pad)).roll((-middle, -middle), (-2, -1)))
        for kernel in (true, estimated)
    )

    def error(kernel: Tensor) -> Tensor:
        restored = spectrum * (kernel.conj() + rho) / (kernel.abs().square() + rho)
        lost = torch.where(band, (1 - restored).abs().square() * scene, scene).sum((-2, -1))
        return lost + UNSEEN * scene.sum((-2, -1))

    return 10 * (error(believed) / error(spectrum)).log10().mean()


def noise_level_constraint(estimated: Tensor, true: Tensor) -> Tensor:
    """Mean error of the noise level in grey levels, relative to 1 + sigma: small levels matter as much as large."""
    return ((estimated - true).abs() / (1 + true)).mean()


def noise_constraint(
    predicted: Tensor, x_0: Tensor, sigma: Tensor, residual_std: float, *, logarithmic: bool = False
) -> Tensor:
    """Mean of (1 / tau^2 + 1 / sigma^2) |x0_hat - x_0|^2: the error in noise, weighted by the signal-to-noise ratio.

    tau is the RMS of the residual that the network has to find. The weight makes the target's variance 1 at every t
    (Karras et al. 2022, with the residual for the data), so that every t learns. sigma^2 = (1 - alpha_bar) / alpha_bar.

    Args:
        logarithmic: average the logs of the images' errors, in nepers: each image's decibels count alike, where the
            plain mean is ruled by images of fine texture, of much noise or of wide blur. Errors below `UNSEEN_ERROR`
            count as alike.
    """
    weight = 1 / residual_std**2 + 1 / sigma**2
    error = weight * (predicted - x_0).square().mean((1, 2, 3))
    return ((error + UNSEEN_ERROR).log() if logarithmic else error).mean()


def estimator_losses(
    model: MCFormer, pairs: Pairs, recipe: Recipe, replay: Replay, generator: torch.Generator
) -> dict[str, Tensor]:
    """The constraints on the estimate from y alone, unweighted and their weighted sum, by name.

    On the new pairs and on as many old ones as the recipe wants; of these only the statistics were kept.
    """
    estimator = model.estimator
    scale = torch.full((len(pairs.y),), pairs.scale, device=pairs.y.device)
    made = [spectral_statistics(pairs.y), scale, pairs.kernel, pairs.noise_level]
    statistics, scales, kernel, noise_level = _with_replayed(made, recipe, replay, generator)
    estimate = estimator.initial_estimate(estimator.features_from_statistics(statistics, scales))
    return _weighted(recipe, **_estimate_losses(estimate, kernel, noise_level))


def confidence_losses(
    model: MCFormer, pairs: Pairs, recipe: Recipe, replay: Replay, generator: torch.Generator
) -> dict[str, Tensor]:
    """The squared error of the expected kernel error, on crops of any size: its least is at the true mean.

    Only the expectation learns. Crops are down to `SMALLEST_CROP` pixels wide, every octave alike likely.
    """
    estimator = model.estimator
    side = pairs.y.shape[-1]
    crop = round(SMALLEST_CROP * (side / SMALLEST_CROP) ** float(torch.rand((), generator=generator)))
    with torch.no_grad():
        y = pairs.y[..., :crop, :crop]
        told = estimator.features(y, pairs.scale)
        error = (estimator.initial_estimate(told).kernel - pairs.kernel).abs().sum((-2, -1))
    pixels = torch.full_like(told[:, :1], y.shape[-2] * y.shape[-1])
    told, pixels, error = _with_replayed([told, pixels, error], recipe, replay, generator)
    return _weighted(recipe, confidence=(estimator.expected_error(told, pixels) - error).square().mean())


def network_losses(model: MCFormer, pairs: Pairs, recipe: Recipe, generator: torch.Generator) -> dict[str, Tensor]:
    """All constraints at a random t, with the network's own kernel in the modulation for most examples.

    Kernel and noise level are estimated on the whole context and the image on a patch of it. Crops tell less of the
    kernel than photographs do, so for a share of the examples the estimate is mixed with the truth, by a random part,
    down to the error it will have.
    """
    first = model.initial_estimate(Observation(pairs.y, pairs.scale))
    own = torch.rand(len(pairs.x), generator=generator).to(pairs.x)
    kind = torch.rand(len(own), generator=generator).to(own)
    own[kind < recipe.loss.true_kernel_share] = 0
    own[kind >= 1 - recipe.loss.own_kernel_share] = 1
    kernel = torch.lerp(pairs.kernel, first.kernel.detach(), own.view(-1, 1, 1))
    noise_level = torch.lerp(pairs.noise_level, first.noise_level.detach(), own)
    prediction, noise_loss = _image_of_a_patch(model, pairs, Degradation(kernel, noise_level), recipe, generator)
    if recipe.stage == "network":
        return _weighted(recipe, noise=noise_loss)
    at_step = _estimate_losses(prediction.degradation, pairs.kernel, pairs.noise_level)
    from_y = _estimate_losses(first, pairs.kernel, pairs.noise_level)
    return _weighted(recipe, noise=noise_loss, **{name: at_step[name] + from_y[name] for name in from_y})


def correction_losses(
    model: MCFormer, pairs: Pairs, recipe: Recipe, replay: Replay, generator: torch.Generator
) -> dict[str, Tensor]:
    """The constraints on the kernel after one turn of the sampler, from the first estimate or from a kernel near it.

    Only the correction learns, so what earlier pairs showed can be seen again. Of the new pairs the image that the
    corrected kernel leads to counts too: not every kernel nearer to the truth serves it better.
    """
    estimator = model.estimator
    with torch.no_grad():
        observation = Observation(pairs.y, pairs.scale)
        first = model.initial_estimate(observation)
        current = Degradation(_moved(first.kernel, pairs.kernel, generator), first.noise_level)
        t, x_t = _noised(model, model.to_diffusion(pairs.x), recipe, generator)
        prediction: Prediction = model(x_t, t, observation, current, correct_kernel=False)
        shown = model.evidence(prediction.x0_hat, t, observation, current)
    scale = torch.full_like(pairs.noise_level, pairs.scale)
    made = [current.kernel, current.noise_level, *shown, pairs.kernel, pairs.noise_level, scale]
    rows = _with_replayed(made, recipe, replay, generator)
    current, evidence = Degradation(*rows[:2]), Evidence(*rows[2:6])
    kernel, noise_level, scale = rows[6:]
    corrected = estimator.correct(current, scale, evidence)
    losses = _estimate_losses(corrected, kernel, noise_level)
    losses["restoration"] = restoration_constraint(corrected.kernel, kernel, noise_level, scale)
    if recipe.loss.noise:
        new = corrected[: len(pairs.x)]
        _, losses["noise"] = _image_of_a_patch(model, pairs, new, recipe, generator)
    return _weighted(recipe, **losses)


def _image_of_a_patch(
    model: MCFormer, pairs: Pairs, known: Degradation, recipe: Recipe, generator: torch.Generator
) -> tuple[Prediction, Tensor]:
    """What the network says of a random patch, given kernel and noise level, and the noise constraint on its image."""
    x_y = known.closed_form(Observation(pairs.y, pairs.scale))
    rows, columns, small_rows, small_columns = pairs.patch(aligned(recipe.data.patch, pairs.scale), generator)
    x_0 = model.to_diffusion(pairs.x[..., rows, columns])
    t, x_t = _noised(model, x_0, recipe, generator)
    patch = Observation(pairs.y[..., small_rows, small_columns], pairs.scale)
    known = known.with_closed_form(patch, x_y[..., rows, columns])
    prediction: Prediction = model(x_t, t, patch, known, correct_kernel=recipe.stage == "joint")
    a = model.alpha_bar[t]
    noise_loss = noise_constraint(
        model.to_diffusion(prediction.x0_hat),
        x_0,
        ((1 - a) / a).sqrt(),
        model.config.residual_std,
        logarithmic=recipe.loss.logarithmic,
    )
    return prediction, noise_loss


def _moved(kernel: Tensor, true: Tensor, generator: torch.Generator) -> Tensor:
    """Kernels (B, n, n), a share of them moved by a random part of the way to the true ones, in log k."""
    part = FURTHEST + (NEAREST - FURTHEST) * torch.rand(len(kernel), generator=generator).to(kernel)
    part[torch.rand(len(kernel), generator=generator).to(kernel) >= MOVED] = 0
    growth = log_ratio(kernel, true).clamp(-LARGEST_MOVE, LARGEST_MOVE)
    return mirror_step(kernel, part.view(-1, 1, 1) * growth)


def _with_replayed(made: list[Tensor], recipe: Recipe, replay: Replay, generator: torch.Generator) -> list[Tensor]:
    """The new examples, with as many old ones as the recipe wants below them."""
    if not recipe.data.replayed:
        return made
    replay.add(*made)
    old = replay.draw(recipe.data.replayed, generator)
    return [torch.cat(parts) for parts in zip(made, old, strict=True)]


def _noised(model: MCFormer, x_0: Tensor, recipe: Recipe, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A timestep for each image, by the recipe's share of pure noise, and x_t there."""
    last = len(model.alpha_bar) - 1
    t = torch.randint(last + 1, (len(x_0),), generator=generator)
    t[torch.rand(len(t), generator=generator) < recipe.loss.pure_noise_share] = last
    t = t.to(x_0.device)
    a = model.alpha_bar[t].view(-1, 1, 1, 1)
    noise = torch.randn(x_0.shape, generator=generator).to(x_0)
    return t, a.sqrt() * x_0 + (1 - a).sqrt() * noise


def _estimate_losses(estimate: Degradation, kernel: Tensor, noise_level: Tensor) -> dict[str, Tensor]:
    return {
        "kernel": kernel_constraint(estimate.kernel, kernel),
        "noise_level": noise_level_constraint(estimate.noise_level, noise_level),
    }


def _weighted(recipe: Recipe, **losses: Tensor) -> dict[str, Tensor]:
    total = sum(getattr(recipe.loss, name) * value for name, value in losses.items())
    assert isinstance(total, Tensor)
    return {"total": total, **losses}
