"""Perception against distortion (Blau and Michaeli, CVPR 2018): no method can be best in both."""

from blinddiff.evaluation.metrics import BY_NAME
from blinddiff.evaluation.report.blocks import Figure
from blinddiff.evaluation.report.figures.scatter import Point, scatter
from blinddiff.evaluation.statistics import SetSummary

PERCEPTUAL = ("niqe", "lpips", "dists")


def perception_distortion(summary: SetSummary) -> list[Figure]:
    """One figure for each perceptual metric that was measured beside PSNR-Y."""
    figures = []
    for name in PERCEPTUAL:
        points = [
            Point(method, estimates["psnr_y"], estimates[name])
            for method, estimates in summary.means.items()
            if "psnr_y" in estimates and name in estimates
        ]
        if len(points) > 1:
            label = BY_NAME[name].label
            drawn = scatter(
                f"{summary.set}: {label} against PSNR-Y",
                points,
                "PSNR-Y (dB), to the right: less distortion",
                f"{label}, upwards: more natural",
                lower_y_is_better=True,
            )
            figures.append(Figure(drawn, f"{summary.set}: perception ({label}) against distortion (PSNR-Y)."))
    return figures
