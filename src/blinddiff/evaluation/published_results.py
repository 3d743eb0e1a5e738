"""Results that papers published: mean PSNR on Y in dB.

The bicubic row of Gaussian8 follows another convention: it agrees with `psnr_full_swing` (full-swing luma, uncropped)
within 0.03 dB on Set5, Set14 and BSD100. With the convention of the other rows, bicubic is 1.3 to 1.5 dB better. Do
not compute gains from that row.
"""

from typing import NamedTuple

GAUSSIAN8 = "Gaussian8 tables of IKC, DANv2, DCLS and KDSR"


class PublishedResult(NamedTuple):
    """A published mean in dB, or the first and last of several means over a protocol's parameters.

    Attributes:
        value: the mean, or the first of several means.
        metric: name of our metric with the same convention.
        last: the last of several means, else None.
        label: beginning of the labels of these parameters.
    """

    protocol: str
    scale: int
    set: str
    method: str
    value: float
    source: str
    metric: str = "psnr_y"
    last: float | None = None
    label: str = ""


def _means(
    protocol: str, scale: int, method: str, source: str, metric: str = "psnr_y", **values: float
) -> list[PublishedResult]:
    return [PublishedResult(protocol, scale, name, method, value, source, metric) for name, value in values.items()]


PUBLISHED_RESULTS: tuple[PublishedResult, ...] = (
    *_means(
        "gaussian8", 4, "bicubic", GAUSSIAN8, "psnr_full_swing", Set5=24.57, Set14=22.79, BSD100=23.29, Urban100=20.35
    ),
    *_means("gaussian8", 4, "bicubic + ZSSR", GAUSSIAN8, Set5=26.45, Set14=24.78, BSD100=24.97, Urban100=21.11),
    *_means("gaussian8", 4, "DASR", "CVPR 2021", Set5=31.46, Set14=28.11, BSD100=27.44, Urban100=25.36),
    *_means("gaussian8", 4, "IKC", "CVPR 2019", Set5=31.67, Set14=28.31, BSD100=27.37, Urban100=25.33),
    *_means("gaussian8", 4, "DANv2", "arXiv 2105.06878", Set5=32.00, Set14=28.50, BSD100=27.56, Urban100=25.94),
    *_means("gaussian8", 4, "DCLS", "CVPR 2022", Set5=32.12, Set14=28.54, BSD100=27.60, Urban100=26.15),
    *_means("gaussian8", 4, "KDSR-L", "ICLR 2023", Set5=32.11, Set14=28.68, BSD100=27.64, Urban100=26.15),
    *_means("gaussian8", 2, "DANv2", "arXiv 2105.06878", Set5=37.60, Set14=33.44, BSD100=32.00, Urban100=31.43),
    *_means("gaussian8", 3, "DANv2", "arXiv 2105.06878", Set5=34.19, Set14=30.20, BSD100=29.03, Urban100=27.83),
    *_means("div2krk", 4, "KernelGAN + ZSSR", "NeurIPS 2019", DIV2KRK=26.81),
    *_means("div2krk", 4, "DANv1", "NeurIPS 2020", DIV2KRK=27.55),
    *_means("div2krk", 4, "DANv2", "arXiv 2105.06878", DIV2KRK=28.74),
    # First and last of the nine kernels of this table. KDSR's Table 2 (DASR 27.20 to 26.27) has other kernels.
    PublishedResult("aniso9", 4, "Set14", "DASR", 27.99, "CVPR 2021, Table 3", last=26.21, label="noise 0"),
    PublishedResult("aniso9", 4, "Set14", "DASR", 26.57, "CVPR 2021, Table 3", last=24.43, label="noise 10"),
)


def published_results(protocol: str, scale: int, set_name: str) -> list[PublishedResult]:
    """The published results for one set."""
    return [r for r in PUBLISHED_RESULTS if (r.protocol, r.scale, r.set) == (protocol, scale, set_name)]
