"""The metrics of `blinddiff evaluate`. A new one is a file beside this one and a line in `METRICS`."""

from blinddiff.evaluation.metrics.colour_shift import COLOUR_SHIFT
from blinddiff.evaluation.metrics.cost import CALLS, SECONDS
from blinddiff.evaluation.metrics.kernel_expected import KERNEL_EXPECTED
from blinddiff.evaluation.metrics.kernel_geometry import KERNEL_ANGLE, KERNEL_SHIFT, KERNEL_WIDTH
from blinddiff.evaluation.metrics.kernel_l1 import KERNEL_L1, KERNEL_L1_CENTRED
from blinddiff.evaluation.metrics.kernel_psnr import KERNEL_PSNR, KERNEL_PSNR_FKP, KERNEL_PSNR_FKP_UNIFORM
from blinddiff.evaluation.metrics.learned import DISTS, LPIPS
from blinddiff.evaluation.metrics.lr_consistency import LR_CONSISTENCY, LR_SELF_CONSISTENCY
from blinddiff.evaluation.metrics.metric import Metric, Sample
from blinddiff.evaluation.metrics.niqe import NIQE
from blinddiff.evaluation.metrics.noise_level import NOISE_LEVEL
from blinddiff.evaluation.metrics.psnr import PSNR_FULL_SWING, PSNR_RGB, PSNR_Y
from blinddiff.evaluation.metrics.ssim import SSIM_RGB, SSIM_Y

METRICS: tuple[Metric, ...] = (
    PSNR_Y,
    SSIM_Y,
    PSNR_RGB,
    SSIM_RGB,
    PSNR_FULL_SWING,
    NIQE,
    LPIPS,
    DISTS,
    LR_CONSISTENCY,
    LR_SELF_CONSISTENCY,
    COLOUR_SHIFT,
    KERNEL_L1,
    KERNEL_L1_CENTRED,
    KERNEL_EXPECTED,
    KERNEL_SHIFT,
    KERNEL_WIDTH,
    KERNEL_ANGLE,
    KERNEL_PSNR,
    KERNEL_PSNR_FKP,
    KERNEL_PSNR_FKP_UNIFORM,
    NOISE_LEVEL,
    SECONDS,
    CALLS,
)

BY_NAME = {metric.name: metric for metric in METRICS}


def measure(sample: Sample) -> dict[str, float]:
    """All metrics that apply to the sample, by name."""
    values = {metric.name: metric.measure(sample) for metric in METRICS}
    return {name: value for name, value in values.items() if value is not None}
