"""What a restoration will need, known before its first step: size of the result, tiles, memory and time."""

import time
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from blinddiff.restoring.photograph import RestoreSettings
from blinddiff.restoring.pool import number_of_threads
from blinddiff.sampling.decision import working_scale
from blinddiff.sampling.engine import Engine

CALIBRATION_SIDE = 192
"""Side of the HR image whose restoration is timed on a CPU. Smaller ones cost up to four times as much per pixel,
because a call has a fixed cost."""
_ACCELERATOR_SIDE = 768  # on an accelerator, which a small image does not fill
_RATES: WeakKeyDictionary[Engine, dict[tuple[object, ...], float]] = WeakKeyDictionary()


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


def plan_restoration(height: int, width: int, settings: RestoreSettings, engine: Engine) -> Plan:
    """Plan the restoration of a photograph of height x width pixels; the engine is that of ``settings``.

    The time is calculated from a rate that is measured once in a process for each engine, mode and scale: one step on
    a small image, which takes about half a second on a CPU. Raises ParameterError as `RestoreSettings.passes` does.
    """
    size = settings.result_size(height, width)
    count, memory, seconds = 0, 0, 0.0
    for scale in settings.passes(height, width, engine):
        engine.check_scale(scale)
        working = scale if settings.as_is or settings.kernel else working_scale(scale, engine.scales)
        needs = engine.needs((height, width), working, settings.mode, settings.samples, settings.max_memory)
        height, width = height * scale, width * scale
        count, memory = count + needs.tiles, max(memory, needs.memory)
        steps = 1 if engine.is_fixed else settings.number_of_steps
        seconds += needs.pixels * steps * seconds_per_pixel(engine, working, settings.mode)
    return Plan(*size, count, memory, seconds)


def seconds_per_pixel(engine: Engine, scale: int, mode: str) -> float:
    """Measured duration of one step, or of all if they are fixed, per pixel of the result; cached for this process."""
    measured = _RATES.setdefault(engine, {})
    key = scale, mode, str(engine.device), number_of_threads()
    if key not in measured:
        on_cpu = str(engine.device) == "cpu"
        side = (CALIBRATION_SIDE if on_cpu else _ACCELERATOR_SIDE) // scale
        # The time of the first run is replaced: it includes what a process does once.
        for each in (side // 3 if on_cpu else side, side):
            y = np.random.default_rng(0).random((each, each, 3), np.float32)
            started = time.perf_counter()
            steps = None if engine.is_fixed else 1
            engine(y, scale, mode, steps, generator=engine.generator(0), output_type="np")
            measured[key] = (time.perf_counter() - started) / (each * scale) ** 2
    return measured[key]
