"""The metrics of `blinddiff evaluate`. A new one is a file beside this one and a line in `METRICS`."""

from blinddiff.evaluation.image_metrics import (
    CALLS,
    COLOUR_SHIFT,
    LR_CONSISTENCY,
    LR_SELF_CONSISTENCY,
    PSNR_FULL_SWING,
    PSNR_RGB,
    PSNR_Y,
    SECONDS,
    SSIM_RGB,
    SSIM_Y,
    Metric,
    Sample,
)
from blinddiff.evaluation.kernel_metrics import (
    KERNEL_ANGLE,
    KERNEL_EXPECTED,
    KERNEL_L1,
    KERNEL_L1_CENTRED,
    KERNEL_PSNR,
    KERNEL_PSNR_FKP,
    KERNEL_PSNR_FKP_UNIFORM,
    KERNEL_SHIFT,
    KERNEL_WIDTH,
    NOISE_LEVEL,
)
from blinddiff.evaluation.perceptual_metrics import DISTS, LPIPS, NIQE

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
