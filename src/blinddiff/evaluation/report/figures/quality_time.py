"""Quality against seconds."""

from blinddiff.evaluation.report.blocks import Figure
from blinddiff.evaluation.report.figures.scatter import Point, scatter
from blinddiff.evaluation.statistics import SetSummary


def quality_time(summary: SetSummary) -> list[Figure]:
    """PSNR-Y against the time for an image, for methods that have both."""
    points = [
        Point(method, estimates["seconds"], estimates["psnr_y"])
        for method, estimates in summary.means.items()
        if "psnr_y" in estimates and "seconds" in estimates and estimates["seconds"].low > 0
    ]
    if len(points) < 2:
        return []
    drawn = scatter(
        f"{summary.set}: PSNR-Y against seconds", points, "seconds an image (logarithmic)", "PSNR-Y (dB)", log_x=True
    )
    return [Figure(drawn, f"{summary.set}: quality against the time for an image, as measured during this run.")]
