"""Restores the photographs of a store on a Ray cluster: local folders, S3, Google Cloud and all that fsspec opens.

The workers are actors of Ray, which hold the weights. Each reads a photograph from the store, restores it as in a
folder (`FileRestorer`), and writes the result, so that no image passes through the process that began the run.
"""

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import fsspec

# A cluster that Ray starts here then listens on 127.0.0.1 only, as it does by default on macOS and Windows, and not on
# the address of the network. Ray reads this when it is imported. Clusters that run already keep their addresses.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

import ray
from fsspec.implementations.local import LocalFileSystem
from ray.exceptions import RayError

from blinddiff import imaging, openmp_settings
from blinddiff.errors import BlindDiffError, ImageError, OutputError, ParameterError
from blinddiff.files import make_folder, write_file
from blinddiff.restoring.engines import engine_for, load_engine
from blinddiff.restoring.folder import (
    SAME,
    Failed,
    FileRestorer,
    FolderReport,
    Listener,
    result_names,
    suffix_of_format,
)
from blinddiff.restoring.journal import LEDGER, Done, Job, Ledger
from blinddiff.restoring.photograph import Record, RestoreSettings
from blinddiff.restoring.pool import set_threads

LEDGERS = ".blinddiff-ledger"
"""Folder of the output with one `Ledger` per result, because objects of a store cannot be appended to."""
RETRIES = 3
"""How often a photograph is tried again whose worker died. One that kills its workers fails after that."""
THREADS = 4
"""Cores of a worker by default. More help a small image little."""


@dataclass(frozen=True)
class Store:
    """A folder of a file system of fsspec. Picklable: the workers open the same."""

    fs: Any
    root: str

    @classmethod
    def open(cls, uri: str) -> "Store":
        """Open ``uri``, such as s3://bucket/folder or a local path. Raises ParameterError if that is not possible."""
        try:
            fs, root = fsspec.url_to_fs(uri)
        except (ImportError, OSError, ValueError) as error:
            raise ParameterError(f"{uri}: cannot be opened: {error}") from error
        return cls(fs, root.rstrip("/"))

    def path(self, name: str) -> str:
        """The path of a file in the file system."""
        return f"{self.root}/{name}"

    def uri(self, name: str) -> str:
        """The name of a file in messages."""
        return str(self.fs.unstrip_protocol(self.path(name)))

    def get(self, name: str, file: Path) -> None:
        """Copy a file of the store. Raises FileNotFoundError if there is none, or what the file system raises."""
        file.write_bytes(self.fs.cat_file(self.path(name)))

    def put(self, name: str, data: bytes) -> None:
        """Write a file completely or not at all. Raises OutputError, or what the file system raises."""
        if isinstance(self.fs, LocalFileSystem):  # it would leave part of a file if it were killed
            make_folder(Path(self.path(name)).parent)
            write_file(self.path(name), data)
        else:
            self.fs.pipe_file(self.path(name), data)


class Worker:
    """Restores one photograph after another; an actor of Ray.

    Each result has its own `Ledger`, written before the result. As its line contains the hash of the result, the line
    is valid only once the result is there too: whenever a worker dies, a result is written exactly once.
    """

    def __init__(self, source: Store, output: Store, settings: RestoreSettings) -> None:
        os.environ.update(openmp_settings())  # before torch is loaded
        assigned = ray.get_runtime_context().get_assigned_resources()
        set_threads(int(assigned["CPU"]))
        if settings.max_memory is None and settings.engine == "torch":
            from blinddiff.sampling.memory import memory_for  # of torch

            # The rest of the GPU, or the node's other cores, have workers too.
            share = min(1.0, assigned.get("GPU") or assigned["CPU"] / (os.cpu_count() or 1))
            device = settings.device if assigned.get("GPU") else "cpu"
            settings = replace(settings, max_memory=max(1, int(memory_for(device) * share)))
        self._source, self._output, self._settings = source, output, settings
        self._restorer = FileRestorer(settings)

    def ready(self) -> None:
        """Returns when the weights are loaded."""

    def restore(self, name: str, result: str, fingerprint: str) -> tuple[str, dict[str, Any]] | Failed:
        """Restore one photograph unless that is done: status, "done" or "skipped", and the facts of the result."""
        uri = self._source.uri(name)
        try:
            if self._source.fs.size(self._source.path(name)) > imaging.largest_file(self._settings.max_pixels):
                return Failed(f"{uri}: is larger than any image within the pixel limit (--max-megapixels)")
            with TemporaryDirectory() as folder:
                made = Path(folder) / "output"
                job = Job(name, result, Path(folder) / PurePosixPath(name).name, made / PurePosixPath(result).name)
                outcome = self._restore(job, made, fingerprint)
                if isinstance(outcome, Failed):
                    return Failed(outcome.reason.replace(str(job.source), uri).replace(str(job.target), result))
                return outcome
        except Exception as error:  # noqa: BLE001 - stores have errors of their own, which must not stop other files
            return Failed(f"{uri}: {type(error).__name__}: {error}")

    def _restore(self, job: Job, made: Path, fingerprint: str) -> tuple[str, dict[str, Any]] | Failed:
        made.mkdir()
        entry = f"{LEDGERS}/{job.output}.jsonl"
        self._source.get(job.name, job.source)
        try:
            self._output.get(entry, made / LEDGER)
            self._output.get(job.output, job.target)
        except FileNotFoundError:  # not yet restored, or the worker died between the two
            pass
        ledger = Ledger(made)
        if (facts := ledger.facts(job, fingerprint)) is not None:
            return "skipped", facts
        outcome = self._restorer(job)
        if isinstance(outcome, Done):
            ledger.add(job, fingerprint, outcome)
            self._output.put(entry, (made / LEDGER).read_bytes())
            self._output.put(job.output, job.target.read_bytes())
            return "done", outcome.facts
        return outcome


def restore_store(
    source: str,
    output: str,
    settings: RestoreSettings,
    suffix: str = ".png",
    workers: int | None = None,
    threads: int | None = None,
    listener: Listener | None = None,
    gpus: float = 1.0,
) -> FolderReport:
    """Restore every photograph below a URI on a Ray cluster; a run that was interrupted goes on.

    Uses the cluster of `ray.init`, of the environment variable RAY_ADDRESS, or of this machine if one runs here; else
    starts one here that ends with the program. Results of an earlier run with the same photographs and settings are
    kept. Names, records and failures are those of `restore_folder`, but photographs are found by their extensions.

    Args:
        source, output: folders, as URIs that fsspec opens or local paths. All nodes must be able to open them.
        suffix: extension of the results, one of `OUTPUT_FORMATS`, or `SAME`.
        workers: number of actors; None for one per GPU, or without GPUs for as many as the cores allow. Those for
            which there is no room yet join when there is.
        threads: cores of each actor; None for `THREADS`, or those of the largest node if it has fewer.
        gpus: GPUs of each actor if the cluster has any and ``settings.device`` is not "cpu"; below 1, that share of
            one, which 1 / gpus actors use together.
        listener: receives the progress; its `plan` is not called, because nothing is known of the photographs' sizes.

    Raises ImageError if there are no photographs; OutputError if the output is the input or not writable; WeightsError,
    KernelError or ParameterError if the settings or the URIs cannot be used; BlindDiffError if the cluster cannot be
    used, or a worker does not start.
    """
    listener = Listener() if listener is None else listener
    # Resolved here, so that all workers have the engine of the fingerprint.
    settings = replace(settings, engine=engine_for(settings.engine, settings.weights, settings.device))
    settings.check(load_engine(settings.engine, settings.weights, "cpu"))
    stores = Store.open(source), Store.open(output)
    names = _results(*stores, suffix, listener)
    fingerprint = settings.fingerprint()
    try:
        stores[1].put(f"{LEDGERS}/writable", b"")  # fail now, not after the first restoration
    except Exception as error:
        raise OutputError(f"{output}: cannot be written: {error}") from error
    if begun := not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # Ray raises plain ones too, if its processes do not start in time
            address = os.environ.get("RAY_ADDRESS", "on this machine")
            raise BlindDiffError(f"the cluster {address} cannot be used: {error.__cause__ or error}") from error
    actors = []
    try:
        actor, rooms = _actor(settings, threads, gpus)
        count = min(len(names), workers or max(1, rooms))
        actors = [actor.remote(*stores, settings) for _ in range(count)]
        return _run(actors, names, fingerprint, listener, stores[0])
    finally:
        for each in actors:
            ray.kill(each)
        if begun:
            ray.shutdown()


def _actor(settings: RestoreSettings, threads: int | None, gpus: float) -> tuple[Any, int]:
    """The class of the actors, and how many of them fit on the cluster."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    on_gpu = settings.engine == "torch" and settings.device != "cpu" and any(node.get("GPU") for node in nodes)
    largest = int(max(node.get("CPU", 0) for node in nodes))
    if largest and (threads or 0) > largest:
        raise ParameterError(f"--threads {threads}: no node of the cluster has more than {largest} cores")
    threads = threads or max(1, min(THREADS, largest))
    rooms = sum(int(node.get("GPU", 0) / gpus if on_gpu else node.get("CPU", 0) // threads) for node in nodes)
    options = ray.remote(max_restarts=-1, max_task_retries=RETRIES, num_cpus=threads, num_gpus=gpus if on_gpu else 0)
    return options(Worker), rooms


def _run(
    actors: Sequence[Any], names: dict[str, str], fingerprint: str, listener: Listener, source: Store
) -> FolderReport:
    """Give every photograph to an idle worker; Ray restarts workers that died, and repeats their photographs."""
    report = FolderReport()
    listener.begin("restoring", len(names))
    waiting = deque(names)
    running: dict[Any, tuple[Any, str | None]] = {each.ready.remote(): (each, None) for each in actors}
    while waiting or any(name is not None for _, name in running.values()):
        finished = ray.wait(list(running))[0][0]
        actor, name = running.pop(finished)
        try:
            outcome = ray.get(finished)
        except RayError as error:
            reason = str(error).strip().splitlines()[-1]
            if name is None:
                raise BlindDiffError(f"a worker of the cluster did not start: {reason}") from error
            outcome = Failed(f"{source.uri(name)}: its worker died {RETRIES + 1} times: {reason}")
        if name is not None:
            if isinstance(outcome, Failed):
                report.failures.append((name, outcome.reason))
                listener.record(Record(name, None, "failed", error=outcome.reason))
            else:
                status, facts = outcome
                report.done += status == "done"
                report.skipped += status == "skipped"
                for note in facts["notes"] if status == "done" else ():
                    listener.note(f"{source.uri(name)}: {note}")
                listener.record(Record(name, names[name], status, facts=facts))
        if isinstance(outcome, Failed):  # if its worker died for good, no other photograph may fail for that
            running[actor.ready.remote()] = actor, None
        elif waiting:
            following = waiting.popleft()
            running[actor.restore.remote(following, names[following], fingerprint)] = actor, following
    return report


def _results(source: Store, output: Store, suffix: str, listener: Listener) -> dict[str, str]:
    """The name of the result of each photograph below ``source``; hidden files and the output are excluded."""
    if source.path("") == output.path("") and type(source.fs) is type(output.fs):
        raise OutputError(f"{output.root}: is the input folder; choose another for the results")
    try:
        files = source.fs.find(source.root)
    except Exception as error:
        raise ImageError(f"{source.root}: cannot be listed: {error}") from error
    same = type(source.fs) is type(output.fs)
    inside = same and output.path("").startswith(source.path(""))
    below = [path for path in files if not (inside and path.startswith(output.path("")))]
    relative = [path[len(source.path("")) :] for path in below if path.startswith(source.path(""))]
    shown = [name for name in relative if not any(part.startswith(".") for part in name.split("/"))]
    names = sorted(name for name in shown if imaging.has_image_name(Path(name)))
    if not names:
        raise ImageError(f"{source.root}: is no folder with photographs")
    formats = {ending: kind.name for kind in imaging.FORMATS for ending in kind.suffixes}

    def suffix_of(name: str) -> str:
        return suffix_of_format(formats.get(PurePosixPath(name).suffix.lower())) if suffix == SAME else suffix

    results = result_names(names, suffix_of, listener.note)
    inputs = {source.path(name) for name in names} if same else set()
    for name in names:
        if output.path(results[name]) in inputs:
            raise OutputError(f"{output.path(results[name])}: is a photograph; choose another folder for the results")
    return results
