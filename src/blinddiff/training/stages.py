"""The training stages and their losses, which are means over examples, so that the batch size does not change them."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blinddiff.degradation.observation import Degradation, Observation, proximal_weight
from blinddiff.errors import RecipeError
from blinddiff.models.denoiser import NUM_TRAIN_TIMESTEPS, Prediction, add_noise, alpha_bar
from blinddiff.models.kernel_estimator import CorrectionFeatures, log_ratio, mirror_descent_step
from blinddiff.models.mcformer import MCFormer
from blinddiff.models.picture_kind import PICTURE_KINDS, pixel_statistics
from blinddiff.models.statistics import SPECTRUM_FLOOR, Statistics, estimator_statistics
from blinddiff.models.unet import ModulatedNetwork
from blinddiff.published.objective import bound_terms
from blinddiff.published.sampler import Transitions
from blinddiff.training.data import Pairs, Replay, aligned
from blinddiff.training.pictures import make_picture
from blinddiff.training.recipe import Recipe

MIN_CONFIDENCE_CROP = 16
"""Minimum LR side of the crops on which the confidence head is trained."""
ERROR_FLOOR = 1e-3
"""Added to the error in `closed_form_loss`, as a share of the scene's variance; if that is 0.22^2, a PSNR of 43 dB."""
NOISE_ERROR_FLOOR = 0.04
"""Added to the error before the logarithm in `denoising_loss`: 40 dB of PSNR at pure noise, for tau = 0.1."""
PICTURE_SHARES = (0.5, 0.25, 0.15, 0.1)
"""Shares of `PICTURE_KINDS` in stage ``classifier``."""
PERTURB_SHARE = 0.45
"""Share of the examples of stage ``correction`` whose kernel estimate is perturbed, towards the true kernel or away."""
PERTURB_RANGE = (-0.6, 1.0)
"""Range of a in log k_hat + a (log k - log k_hat): 0 keeps k_hat, 1 gives the true k, a < 0 moves away from it."""
MAX_LOG_RATIO = 3.0
"""Bound on |log k - log k_hat| of a single entry in this perturbation."""


class Stage(ABC):
    """A training stage: the trained parts of the network, and their losses.

    Attributes:
        mode: the pipeline's mode for whose network the stage is, see `Denoiser.default_mode`.
        trained: names of the trained submodules; "" is the whole network.
        fixed: names of submodules of these that are not trained.
        min_batch: smallest batch size; batch normalisation needs two examples.
        shows_images: whether sheets of sample images show the stage's progress.
        replay: earlier examples; part of the checkpoint.
    """

    mode: ClassVar[str] = "fidelity"
    trained: ClassVar[tuple[str, ...]] = ("",)
    fixed: ClassVar[tuple[str, ...]] = ()
    min_batch: ClassVar[int] = 2
    shows_images: ClassVar[bool] = True

    def __init__(self, recipe: Recipe) -> None:
        """Raises RecipeError if the recipe's batch is too small."""
        if recipe.data.batch < self.min_batch:
            raise RecipeError(f"recipe: data: batch: stage {recipe.stage} needs {self.min_batch} or more")
        self.recipe = recipe
        self.replay = Replay()

    def parameters(self, net: ModulatedNetwork) -> list[nn.Parameter]:
        """The trained parameters, in the network's order."""
        trained = {parameter for name in self.trained for parameter in net.get_submodule(name).parameters()}
        trained -= {parameter for name in self.fixed for parameter in net.get_submodule(name).parameters()}
        return [parameter for parameter in net.parameters() if parameter in trained]

    def set_mode(self, net: ModulatedNetwork) -> None:
        """Set the trained parts to training mode and the rest to evaluation mode."""
        net.eval()
        for name in self.trained:
            net.get_submodule(name).train()
        for name in self.fixed:
            net.get_submodule(name).eval()

    @abstractmethod
    def losses(self, net: Any, pairs: Pairs, generator: torch.Generator) -> dict[str, Tensor]:
        """The losses by the names of their weights in `LossRecipe`, unweighted, and their weighted sum ``total``."""

    def _weighted(self, **losses: Tensor) -> dict[str, Tensor]:
        total = sum(getattr(self.recipe.loss, name) * value for name, value in losses.items())
        assert isinstance(total, Tensor)
        return {"total": total, **losses}

    def _with_replayed(self, rows: list[Tensor], generator: torch.Generator) -> list[Tensor]:
        """Store new examples, and return them with the recipe's number of earlier ones."""
        if not self.recipe.data.replayed:
            return rows
        self.replay.add(*rows)
        old = self.replay.draw(self.recipe.data.replayed, generator)
        return [torch.cat(parts) for parts in zip(rows, old, strict=True)]

    def _denoising_loss(
        self, net: MCFormer, pairs: Pairs, condition: Degradation, generator: torch.Generator, *, correct: bool = False
    ) -> tuple[Prediction, Tensor]:
        """The network's prediction for a random patch at a random t, given a degradation, and its `denoising_loss`.

        The closed form x_y is computed on the whole crop, so that the patch has no border effects.
        """
        x_y = condition.closed_form(pairs.observation)
        rows, columns, lr_rows, lr_columns = pairs.patch(aligned(self.recipe.data.patch, pairs.scale), generator)
        x_0 = net.normalize(pairs.x[..., rows, columns])
        t, x_t, _ = self._noised(net, pairs.x[..., rows, columns], generator)
        patch = Observation(pairs.y[..., lr_rows, lr_columns], pairs.scale)
        condition = condition.with_closed_form(patch, x_y[..., rows, columns])
        prediction: Prediction = net(x_t, t, patch, condition, correct_kernel=correct)
        a, x0_hat = net.alpha_bar[t], net.normalize(prediction.x0_hat)
        sigma, tau = ((1 - a) / a).sqrt(), net.config.residual_std
        return prediction, denoising_loss(x0_hat, x_0, sigma, tau, logarithmic=self.recipe.loss.logarithmic)

    def _noised(self, net: Any, image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a timestep t for each image; return t, (B,), x_t and its noise.

        With probability `pure_noise_share`, t is T.
        """
        last = len(net.alpha_bar) - 1  # T, the noisiest timestep
        t = torch.randint(last + 1, (len(image),), generator=generator)
        t[torch.rand(len(t), generator=generator) < self.recipe.loss.pure_noise_share] = last
        t = t.to(image.device)
        noise = torch.randn(image.shape, generator=generator).to(image)
        return t, add_noise(net, image, t.view(-1, 1, 1, 1), noise), noise


class Estimator(Stage):
    """Trains the estimate of kernel and noise level from y. Replayed examples contain the statistics of y, not y."""

    trained: ClassVar[tuple[str, ...]] = ("estimator",)
    fixed: ClassVar[tuple[str, ...]] = ("estimator.correct", "estimator.confidence_head")
    shows_images = False

    def losses(self, net: MCFormer, pairs: Pairs, generator: torch.Generator) -> dict[str, Tensor]:
        statistics = estimator_statistics(pairs.observation)
        true = [pairs.kernel, pairs.noise_level, pairs.noise_spectrum]
        rows = [*statistics._replace(fine=statistics.fine.half()), pairs.observation.scales, *true]
        *parts, scale, kernel, noise_level, spectrum = self._with_replayed(rows, generator)
        statistics = Statistics(*(part.float() for part in parts))
        estimate, _ = net.estimator(statistics, scale)
        return self._weighted(**degradation_losses(estimate, Degradation(kernel, noise_level, None, spectrum)))


class NoiseGate(Estimator):
    """Trains the noise gate alone, so that the estimated kernel stays as it is."""

    trained = ("estimator.noise_gate",)
    fixed = ()


class Confidence(Stage):
    """Trains the prediction of sum |k_hat - k| by the squared error, which is least for the conditional mean.

    Each batch is cropped to a random side, log-uniform from `MIN_CONFIDENCE_CROP` to the side of y.
    """

    trained = ("estimator.confidence_head",)
    shows_images = False

    def losses(self, net: MCFormer, pairs: Pairs, generator: torch.Generator) -> dict[str, Tensor]:
        estimator, side = net.estimator, pairs.y.shape[-1]
        crop = round(MIN_CONFIDENCE_CROP * (side / MIN_CONFIDENCE_CROP) ** float(torch.rand((), generator=generator)))
        with torch.no_grad():
            y = pairs.y[..., :crop, :crop]
            observation = Observation(y, pairs.scale, pairs.jpeg_step)
            estimate, features = estimator(estimator_statistics(observation), observation.scales)
            error = (estimate.kernel - pairs.kernel).abs().sum((-2, -1))
        pixels = torch.full_like(features[:, :1], y.shape[-2] * y.shape[-1])
        features, pixels, error = self._with_replayed([features, pixels, error], generator)
        return self._weighted(confidence=(estimator.expected_error(features, pixels) - error).square().mean())


class Classifier(Stage):
    """Trains the classifier of pictures: a share `PICTURE_SHARES` of the photographs is made into other kinds."""

    trained = ("picture",)
    shows_images = False

    def losses(self, net: MCFormer, pairs: Pairs, generator: torch.Generator) -> dict[str, Tensor]:
        rng = np.random.default_rng(generator.initial_seed())
        kinds = rng.choice(len(PICTURE_KINDS), len(pairs.y), p=PICTURE_SHARES)
        y, factor = pairs.y.clone(), torch.ones(len(pairs.y))
        for index, kind in enumerate(kinds):
            y[index], factor[index] = make_picture(PICTURE_KINDS[kind], pairs.y[index].cpu(), rng)
        with torch.no_grad():
            statistics = estimator_statistics(Observation(y, pairs.scale))
        targets = torch.from_numpy(kinds).to(y.device), factor.to(y.device)
        rows = [*statistics._replace(fine=statistics.fine.half()), pixel_statistics(y), *targets]
        *parts, pixels, kind_of, factor = self._with_replayed(rows, generator)
        logits, log_factor = net.picture(Statistics(*(part.float() for part in parts)), pixels)
        is_enlarged = (factor > 1).float()
        wrong = F.smooth_l1_loss(log_factor, factor.log(), reduction="none", beta=0.1)
        error = (is_enlarged * wrong).sum() / is_enlarged.sum().clamp_min(1)
        return self._weighted(picture=F.cross_entropy(logits, kind_of) + error)


class Network(Stage):
    """Trains the image network at a random t, with a fixed estimator."""

    fixed = ("estimator", "picture")
    min_batch = 1

    def losses(self, net: MCFormer, pairs: Pairs, generator: torch.Generator) -> dict[str, Tensor]:
        condition = self._mixed_degradation(net.initial_estimate(pairs.observation), pairs, generator)
        _, noise = self._denoising_loss(net, pairs, condition, generator)
        return self._weighted(noise=noise)

    def _mixed_degradation(self, estimate: Degradation, pairs: Pairs, generator: torch.Generator) -> Degradation:
        """For each image the true degradation, the estimate, or a random mixture of both, with the recipe's shares.

        Estimates from crops have larger errors than those from whole photographs; mixtures cover the smaller errors.
        """
        weight = torch.rand(len(pairs.x), generator=generator).to(pairs.x)
        kind = torch.rand(len(weight), generator=generator).to(weight)
        weight[kind < self.recipe.loss.true_kernel_share] = 0
        weight[kind >= 1 - self.recipe.loss.own_kernel_share] = 1
        assert estimate.noise_spectrum is not None
        kernel = torch.lerp(pairs.kernel, estimate.kernel.detach(), weight.view(-1, 1, 1))
        noise_level = torch.lerp(pairs.noise_level, estimate.noise_level.detach(), weight)
        log_spectra = pairs.noise_spectrum.log(), estimate.noise_spectrum.detach().log()
        spectrum = torch.lerp(*log_spectra, weight.view(-1, 1, 1)).exp()
        return Degradation(kernel, noise_level, noise_spectrum=spectrum / spectrum.mean((-2, -1), keepdim=True))


class Joint(Network):
    """Trains image network, estimator and correction jointly; the correction uses x0_hat at the network's random t."""

    fixed = ("estimator.confidence_head", "picture")
    min_batch = 2

    def losses(self, net: MCFormer, pairs: Pairs, generator: torch.Generator) -> dict[str, Tensor]:
        estimate = net.initial_estimate(pairs.observation)
        condition = self._mixed_degradation(estimate, pairs, generator)
        prediction, noise = self._denoising_loss(net, pairs, condition, generator, correct=True)
        estimates = (prediction.degradation, estimate)
        at_t, from_y = (degradation_losses(each, pairs.degradation) for each in estimates)
        return self._weighted(noise=noise, **{name: at_t[name] + from_y[name] for name in from_y})


class Correction(Stage):
    """Trains the correction of kernel and noise level after a prior step, from the estimate or a perturbed kernel.

    The correction's inputs do not depend on its weights, so they can be replayed. For new pairs, the denoising loss
    with the corrected kernel is added, because a kernel closer to the true one does not always give a better image.
    """

    trained = ("estimator.correct",)

    def losses(self, net: MCFormer, pairs: Pairs, generator: torch.Generator) -> dict[str, Tensor]:
        with torch.no_grad():
            observation = pairs.observation
            estimate = net.initial_estimate(observation)
            current = estimate.with_estimate(perturbed(estimate.kernel, pairs.kernel, generator), estimate.noise_level)
            t, x_t, _ = self._noised(net, pairs.x, generator)
            prediction: Prediction = net(x_t, t, observation, current, correct_kernel=False)
            features = net.correction_features(prediction.x0_hat, t, observation, current)
            assert current.noise_spectrum is not None
        rows = [current.kernel, current.noise_level, current.noise_spectrum, *features]
        rows += [pairs.kernel, pairs.noise_level, pairs.noise_spectrum, observation.scales]
        rows = self._with_replayed(rows, generator)
        current, features = Degradation(rows[0], rows[1], None, rows[2]), CorrectionFeatures(*rows[3:7])
        kernel, noise_level, spectrum, scale = rows[7:]
        corrected = net.estimator.correct(current, scale, features)
        losses = degradation_losses(corrected, Degradation(kernel, noise_level, None, spectrum))
        del losses["noise_spectrum"]  # not corrected
        losses["restoration"] = closed_form_loss(corrected.kernel, kernel, noise_level, scale)
        if self.recipe.loss.noise:
            _, losses["noise"] = self._denoising_loss(net, pairs, corrected[: len(pairs.x)], generator)
        return self._weighted(**losses)


class Paper(Stage):
    """Trains the paper's network with its kernel estimator: noise, learned variance, and the kernel at every t.

    Noise and variance have the hybrid loss of Nichol and Dhariwal 2021. The network is modulated by its own kernel, as
    in sampling. With ``pure_noise_share`` 0, the loss ``bound`` is an unbiased estimate of the variational bound.
    """

    mode = "paper"
    shows_images = False  # one call from pure noise shows nothing

    def losses(self, net: Any, pairs: Pairs, generator: torch.Generator) -> dict[str, Tensor]:
        rows, columns, lr_rows, lr_columns = pairs.patch(aligned(self.recipe.data.patch, pairs.scale), generator)
        x_0, patch = pairs.x[..., rows, columns], Observation(pairs.y[..., lr_rows, lr_columns], pairs.scale)
        t, x_t, noise = self._noised(net, x_0, generator)
        prediction = net(x_t, t, patch)
        transitions = Transitions.of(alpha_bar(net.config.noise_schedule), x_t.device)
        bound = bound_terms(transitions, t, x_0, x_t, prediction.x0_hat, prediction.variance).mean()
        predicts_noise = net.config.predicts == "noise"
        predicted, target = (prediction.noise, noise) if predicts_noise else (prediction.x0_hat, x_0)
        return self._weighted(
            noise=F.mse_loss(predicted, target),
            bound=NUM_TRAIN_TIMESTEPS * bound,
            kernel=kernel_loss(prediction.degradation.kernel, pairs.kernel),
        )


STAGES: dict[str, type[Stage]] = {
    "estimator": Estimator,
    "noise_gate": NoiseGate,
    "confidence": Confidence,
    "classifier": Classifier,
    "network": Network,
    "correction": Correction,
    "joint": Joint,
    "paper": Paper,
}
"""The stages by their names in recipes."""


def kernel_loss(k_hat: Tensor, k: Tensor) -> Tensor:
    """Mean over the batch of sum |k_hat - k|, 0 to 2, for kernels (B, n, n) that sum to 1."""
    return (k_hat - k).abs().sum((-2, -1)).mean()


def noise_level_loss(sigma_hat: Tensor, sigma: Tensor) -> Tensor:
    """Mean of |sigma_hat - sigma| / (1 + sigma), (B,) in grey levels, so that large levels do not dominate."""
    return ((sigma_hat - sigma).abs() / (1 + sigma)).mean()


def noise_spectrum_loss(estimate: Degradation, true: Degradation) -> Tensor:
    """Mean over frequencies of |log S_hat - log S|; S is the noise's power, grey levels^2, plus `SPECTRUM_FLOOR`."""
    log_powers = [
        (each.noise_level.square()[:, None, None] * each.noise_spectrum + SPECTRUM_FLOOR).log()
        for each in (estimate, true)
        if each.noise_spectrum is not None
    ]
    return (log_powers[0] - log_powers[1]).abs().mean()


def degradation_losses(estimate: Degradation, true: Degradation) -> dict[str, Tensor]:
    """The losses of an estimate's kernel and noise, by the names of their weights in recipes."""
    return {
        "kernel": kernel_loss(estimate.kernel, true.kernel),
        "noise_level": noise_level_loss(estimate.noise_level, true.noise_level),
        "noise_spectrum": noise_spectrum_loss(estimate, true),
    }


def closed_form_loss(k_hat: Tensor, k: Tensor, sigma: Tensor, scale: Tensor) -> Tensor:
    """Mean drop of the closed form's PSNR, in dB, if it uses k_hat instead of k; the scene's power spectrum is 1 / f^2.

    It can differ much between two kernels with the same `kernel_loss`. Within the band of the LR grid, the closed form
    is y times (conj(K) + rho) / (|K|^2 + rho); above this band, nothing is recovered. Aliasing, noise and the factor
    s^2 of rho (A A^T is about |K|^2 / s^2) are neglected: at scales above 1, the drop is overestimated, mostly by a
    factor of two or three. k_hat and k are (B, n, n); sigma, the noise level in grey levels, and scale are (B,).
    """
    side = 2 * k.shape[-1] + 2
    f_y, f_x = torch.fft.fftfreq(side, device=k.device)[:, None], torch.fft.rfftfreq(side, device=k.device)
    scene = 1 / (f_y.square() + f_x.square() + (0.5 / side) ** 2)
    scene[:, 1:-1] *= 2  # for the conjugate half of the spectrum, which rfft2 omits
    band = torch.maximum(f_y.abs(), f_x) <= (0.5 / scale)[:, None, None]
    rho = proximal_weight(sigma.square())[:, None, None]
    pad, centre = side - k.shape[-1], k.shape[-1] // 2
    K, K_hat = (
        torch.fft.rfft2(F.pad(kernel, (0, pad, 0, pad)).roll((-centre, -centre), (-2, -1))) for kernel in (k, k_hat)
    )

    def error(transfer: Tensor) -> Tensor:
        restored = K * (transfer.conj() + rho) / (transfer.abs().square() + rho)
        lost = torch.where(band, (1 - restored).abs().square() * scene, scene).sum((-2, -1))
        return lost + ERROR_FLOOR * scene.sum((-2, -1))

    return 10 * (error(K_hat) / error(K)).log10().mean()


def denoising_loss(x0_hat: Tensor, x_0: Tensor, sigma: Tensor, tau: float, *, logarithmic: bool = False) -> Tensor:
    """Mean of (1 / tau^2 + 1 / sigma^2) |x0_hat - x_0|^2, in place of the paper's noise constraint.

    The weight is 1 / c_out^2 (Karras et al. 2022, with x - x_y instead of the image). So this is the mean square error
    of the network's output f, whose target has unit variance at every t, and no t dominates.

    Args:
        x0_hat, x_0: (B, 3, H, W), in the value range of x_t.
        sigma: sqrt((1 - alpha_bar) / alpha_bar), (B,).
        tau: RMS of x - x_y in this range.
        logarithmic: average the logarithms of the images' errors. The plain mean is dominated by images with fine
            texture, strong noise or wide blur.
    """
    weight = 1 / tau**2 + 1 / sigma**2
    error = weight * (x0_hat - x_0).square().mean((1, 2, 3))
    return ((error + NOISE_ERROR_FLOOR).log() if logarithmic else error).mean()


def perturbed(kernel: Tensor, true: Tensor, generator: torch.Generator) -> Tensor:
    """Move a share `PERTURB_SHARE` of kernels (B, n, n) towards the true ones or away, see `PERTURB_RANGE`."""
    low, high = PERTURB_RANGE
    a = low + (high - low) * torch.rand(len(kernel), generator=generator).to(kernel)
    a[torch.rand(len(kernel), generator=generator).to(kernel) >= PERTURB_SHARE] = 0
    difference = log_ratio(kernel, true).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return mirror_descent_step(kernel, a.view(-1, 1, 1) * difference)
