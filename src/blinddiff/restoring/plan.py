"""What a restoration will need, known before its first step: size of the result, tiles, memory and time."""

import time
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch

from blinddiff.restoring.photograph import RestoreSettings
from blinddiff.sampling.image_steps import IMAGE_STEPS
from blinddiff.sampling.memory import IMAGES, INPUTS, bytes_per_pixel, default_memory
from blinddiff.sampling.pipeline import MODES, BlindDiffPipeline
from blinddiff.sampling.wrappers import Tiles, plan_tiles

CALIBRATION_SIDE = 192
"""Side of the HR image whose restoration is timed on a CPU. Smaller ones cost up to four times as much per pixel,
because a call has a fixed cost."""
_ACCELERATOR_SIDE = 768  # on an accelerator, which a small image does not fill
_RATES: WeakKeyDictionary[torch.nn.Module, dict[tuple[object, ...], float]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Plan:
    """The needs of one restoration.

    Attributes:
        height, width: size of the result in pixels.
        tiles: number of tiles, of all samples together; 1 if the image is restored as a whole.
        memory: peak in bytes, without the weights and the file; more than `max_memory` if that is too little.
        seconds: expected duration on this machine, within a factor of two if its load stays.
    """

    height: int
    width: int
    tiles: int
    memory: int
    seconds: float

    def sentence(self) -> str:
        """The plan as one line, such as "1600 x 1200 pixels; 1 tile; 1.3 GB of memory; about 45 s"."""
        tiles = f"{self.tiles:,} tile{'' if self.tiles == 1 else 's'}"
        gigabytes = f"{max(0.1, self.memory / 1e9):.1f} GB"
        size = f"{self.width} x {self.height} pixels"
        return f"{size}; {tiles}; {gigabytes} of memory; about {duration(self.seconds)}"


def duration(seconds: float) -> str:
    """A duration in one or two units, such as "5 s", "12 min" or "3 h 20 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    return f"{minutes} min" if minutes < 90 else f"{hours} h" + (f" {rest} min" if rest else "")


def plan_restoration(height: int, width: int, settings: RestoreSettings, pipeline: BlindDiffPipeline) -> Plan:
    """Plan the restoration of a photograph of height x width pixels; the pipeline is that of ``settings.weights``.

    The time is calculated from a rate that is measured once in a process for each network, mode and scale: one step on
    a small image, which takes about half a second on a CPU. Raises ParameterError as `RestoreSettings.passes` does.
    """
    size = settings.result_size(height, width)
    needs_gradient = IMAGE_STEPS[MODES[settings.mode].image_step].needs_gradient
    limit = default_memory(pipeline.device) if settings.max_memory is None else settings.max_memory
    count, memory, seconds = 0, 0.0, 0.0
    for scale in settings.passes(height, width, pipeline):
        pipeline.check_scale(scale)
        y = torch.empty(settings.samples, 3, height, width, device="meta")  # only its shape is used
        tiles = plan_tiles(y, scale, pipeline.network, needs_gradient, limit)
        height, width = height * scale, width * scale
        rows, columns = (_lengths(tiles, side) for side in (height, width))
        images = (IMAGES + INPUTS / scale**2) * 4 * 3 * settings.samples * height * width
        largest = max(rows) * max(columns) * (settings.samples if tiles.side is None else 1)
        activations = largest * bytes_per_pixel(pipeline.network.channels_per_pixel, needs_gradient)
        count, memory = count + len(tiles), max(memory, images + activations)
        work = settings.samples * sum(rows) * sum(columns) * settings.number_of_steps
        seconds += work * seconds_per_pixel(pipeline, scale, settings.mode)
    return Plan(*size, count, int(memory), seconds)


def _lengths(tiles: Tiles, side: int) -> list[int]:
    return [side] if tiles.side is None else [span.stop - span.start for span in tiles.spans(side)]


def seconds_per_pixel(pipeline: BlindDiffPipeline, scale: int, mode: str) -> float:
    """Measured duration of one step per pixel of the result; cached for this process."""
    device = pipeline.device
    measured = _RATES.setdefault(pipeline.network, {})
    key = scale, mode, str(device), torch.get_num_threads()
    if key not in measured:
        on_cpu = device.type == "cpu"
        side = (CALIBRATION_SIDE if on_cpu else _ACCELERATOR_SIDE) // scale
        # The time of the first run is replaced: it includes what a process does once.
        for each in (side // 3 if on_cpu else side, side):
            generator = torch.Generator().manual_seed(0)
            y = torch.rand(3, each, each, generator=generator)
            started = time.perf_counter()
            pipeline(y, scale, mode, num_inference_steps=1, generator=generator, output_type="pt")
            measured[key] = (time.perf_counter() - started) / (each * scale) ** 2
    return measured[key]
