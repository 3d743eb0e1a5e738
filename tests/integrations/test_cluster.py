"""Photographs of a store on a local cluster of Ray: none is lost, and none is written twice, even if a worker dies."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blinddiff.cli.main import main

fsspec = pytest.importorskip("fsspec", reason="fsspec (extra cluster) is not installed")
ray = pytest.importorskip("ray", reason="ray (extra cluster) is not installed")
psutil = pytest.importorskip("psutil", reason="psutil (extra torch) is not installed")

from blinddiff.errors import BlindDiffError, OutputError, ParameterError, WeightsError  # noqa: E402
from blinddiff.integrations import cluster  # noqa: E402
from blinddiff.integrations.cluster import LEDGERS, Store, restore_store  # noqa: E402
from blinddiff.restoring.photograph import RestoreSettings  # noqa: E402

NAMES = ("a.png", "b.png", "c.jpg", "sub/d.png", "sub/e.png", "sub/f.webp")
RESULTS = {"a.png", "b.png", "c.png", "sub/d.png", "sub/e.png", "sub/f.png"}
SECONDS = 900


def write_photographs(folder: Path, side: int = 16) -> None:
    for seed, name in enumerate(NAMES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)).save(path)


def command(source: str, output: str, weights: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "blinddiff", "upscale", source, "-o", output, "--engine-cluster", "ray"),
        *("--num-workers", "2", "--threads", "1", "--scale", "2", "--device", "cpu", "--weights", str(weights)),
        *("--json", "-"),
    ]


def records_of(standard_output: str) -> list[dict]:
    return [json.loads(line) for line in standard_output.splitlines()]


def run(source: str, output: str, weights: Path, **environment: str) -> list[dict]:
    """The records of a run of the command that succeeds."""
    env = {**os.environ, **environment}
    done = subprocess.run(
        command(source, output, weights), capture_output=True, text=True, env=env, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    return records_of(done.stdout)


def results(output: Path) -> dict[str, tuple[int, bytes]]:
    """Inode and content of every result: a second write changes the inode, because files are replaced."""
    return {
        path.relative_to(output).as_posix(): (path.stat().st_ino, path.read_bytes())
        for path in output.rglob("*")
        if path.is_file() and LEDGERS not in path.parts
    }


@pytest.mark.long
def test_the_results_are_those_of_a_folder(tmp_path, tiny_weights, capsys):
    write_photographs(tmp_path / "in")
    records = run(str(tmp_path / "in"), (tmp_path / "out").as_uri(), tiny_weights)
    assert {(record["input"], record["status"]) for record in records} == {(name, "done") for name in NAMES}
    assert len(records) == len(NAMES)
    by_cluster = results(tmp_path / "out")
    arguments = ["--jobs", "1", "--threads", "1", "--scale", "2", "--device", "cpu", "--weights", str(tiny_weights)]
    assert main(["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "folder"), *arguments]) == 0
    for name in RESULTS:
        pictures = [np.asarray(Image.open(tmp_path / folder / name), int) for folder in ("out", "folder")]
        assert np.abs(pictures[0] - pictures[1]).max() <= 1
    assert by_cluster.keys() == RESULTS

    # Only what is not finished is restored again: a result that is missing, and one that was changed.
    (tmp_path / "out" / "b.png").unlink()
    (tmp_path / "out" / "sub" / "d.png").write_bytes(b"part of a file")
    again = run(str(tmp_path / "in"), str(tmp_path / "out"), tiny_weights)
    done = {record["input"] for record in again if record["status"] == "done"}
    assert done == {"b.png", "sub/d.png"}
    assert sum(record["status"] == "skipped" for record in again) == 4
    after = results(tmp_path / "out")
    assert {name: data for name, (_, data) in after.items()} == {name: data for name, (_, data) in by_cluster.items()}
    assert all(after[name] == by_cluster[name] for name in RESULTS - {"b.png", "sub/d.png"})


def workers_of(process: subprocess.Popen) -> list:
    """The processes of the actors of a run. They are no children of its process alone, but of its cluster's."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if child.cmdline()[:1] and child.cmdline()[0].startswith("ray::Worker"):
                found.append(child)
        except psutil.Error:
            continue
    return found


def addresses_of(process: subprocess.Popen) -> set[str]:
    """The addresses of this machine on which the cluster of a run listens."""
    found = set()
    for each in psutil.Process(process.pid).children(recursive=True):
        try:
            found |= {each.laddr.ip for each in each.net_connections("tcp") if each.status == psutil.CONN_LISTEN}
        except psutil.Error:
            continue
    assert found
    return found


def wait_for(condition, process: subprocess.Popen):
    end = time.monotonic() + SECONDS
    while not (value := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    return value


@pytest.mark.long
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX signals")
def test_a_worker_and_then_the_run_are_killed(tmp_path, tiny_weights):
    write_photographs(tmp_path / "in", side=64)
    output = tmp_path / "out"
    arguments = command(str(tmp_path / "in"), str(output), tiny_weights)
    first = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(results(output)) >= 1, first)
    before = workers_of(first)
    assert before
    assert addresses_of(first) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    for worker in before:
        worker.kill()
    # Others take over, which then die with the whole run.
    wait_for(lambda: set(workers_of(first)) - set(before), first)
    wait_for(lambda: len(results(output)) >= 3, first)
    tree = psutil.Process(first.pid).children(recursive=True)
    first.kill()
    for process in tree:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    records_before = records_of(first.communicate()[0])
    finished = results(output)
    records = run(str(tmp_path / "in"), str(output), tiny_weights)
    assert Counter(record["input"] for record in records) == Counter(NAMES)
    assert {record["input"] for record in records if record["status"] == "skipped"} >= {
        record["input"] for record in records_before
    }
    after = results(output)
    assert after.keys() == RESULTS
    assert {name: after[name] for name in finished} == finished  # not written again
    assert sum(record["status"] == "skipped" for record in records) == len(finished)


@pytest.mark.long
def test_s3_gets_each_result_once(tmp_path, tiny_weights):
    """With a worker killed; the bucket keeps all versions of an object, so that a second write would be seen."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server_module = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        address = f"http://{host}:{port}"
        client = boto3.client(
            "s3",
            endpoint_url=address,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket="album")
        client.put_bucket_versioning(Bucket="album", VersioningConfiguration={"Status": "Enabled"})
        write_photographs(tmp_path / "in", side=64)
        for name in NAMES:
            client.upload_file(str(tmp_path / "in" / name), "album", f"in/{name}")
        environment = {**os.environ, **keys, "AWS_ENDPOINT_URL": address}

        def versions() -> Counter:
            listed = client.list_object_versions(Bucket="album", Prefix="out/").get("Versions", [])
            return Counter(entry["Key"].removeprefix("out/") for entry in listed if LEDGERS not in entry["Key"])

        arguments = command("s3://album/in", "s3://album/out", tiny_weights)
        process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        wait_for(versions, process)
        killed = workers_of(process)[0]
        killed.kill()
        standard_output, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, errors
        records = records_of(standard_output)
        assert Counter(record["input"] for record in records) == Counter(NAMES)
        assert versions() == Counter(RESULTS)
        again = run("s3://album/in", "s3://album/out", tiny_weights, **keys, AWS_ENDPOINT_URL=address)
        assert {record["status"] for record in again} == {"skipped"}
        assert versions() == Counter(RESULTS)
    finally:
        server.stop()


@pytest.mark.long
def test_a_photograph_that_kills_its_workers_fails_alone(tmp_path, tiny_weights, monkeypatch):
    class Dies(cluster.Worker):
        def restore(self, name, result, fingerprint):
            return os._exit(1) if name == "b.png" else super().restore(name, result, fingerprint)

    class DoesNotStart(cluster.Worker):
        def __init__(self, *arguments):
            raise WeightsError("no such weights here")

    write_photographs(tmp_path / "in")
    settings = RestoreSettings(weights=str(tiny_weights), device="cpu", scale=2)
    try:
        monkeypatch.setattr(cluster, "Worker", Dies)
        report = restore_store(str(tmp_path / "in"), str(tmp_path / "out"), settings, workers=1, threads=1)
        assert [name for name, _ in report.failures] == ["b.png"]
        assert "its worker died 4 times" in report.failures[0][1]
        assert (report.done, results(tmp_path / "out").keys()) == (5, RESULTS - {"b.png"})
        monkeypatch.setattr(cluster, "Worker", DoesNotStart)
        with pytest.raises(BlindDiffError, match=r"did not start: .*no such weights here"):
            restore_store(str(tmp_path / "in"), str(tmp_path / "out"), settings, workers=1, threads=1)
    finally:
        ray.shutdown()


@pytest.mark.long
def test_workers_share_a_gpu(tmp_path, tiny_weights):
    """On a cluster that believes to have a GPU; torch falls back to the processor where there is none."""
    write_photographs(tmp_path / "in")
    settings = RestoreSettings(engine="torch", weights=str(tiny_weights), scale=2)
    ray.init(num_cpus=2, num_gpus=1, log_to_driver=False)
    try:
        actor, rooms = cluster._actor(settings, threads=1, gpus=0.5)
        assert rooms == 2
        actors = [actor.remote(*[Store.open(str(tmp_path))] * 2, settings) for _ in range(2)]
        ray.get([each.ready.remote() for each in actors], timeout=SECONDS)  # both at once
        for each in actors:
            ray.kill(each)
        assert cluster._actor(settings, threads=1, gpus=1)[1] == 1
        assert cluster._actor(replace(settings, device="cpu"), threads=1, gpus=1)[1] == 2
        output = tmp_path / "out"
        report = restore_store(str(tmp_path / "in"), str(output), settings, threads=1, gpus=0.5)
        assert (report.done, results(output).keys()) == (6, RESULTS)
    finally:
        ray.shutdown()


@pytest.mark.long
def test_five_hundred_photographs_and_a_killed_worker(tmp_path, tiny_weights):
    (tmp_path / "in").mkdir()
    names = {f"{number:03}.png" for number in range(500)}
    for number, name in enumerate(sorted(names)):
        picture = np.random.default_rng(number).integers(0, 256, (8, 9, 3), np.uint8)
        Image.fromarray(picture).save(tmp_path / "in" / name)
    process = subprocess.Popen(
        command(str(tmp_path / "in"), str(tmp_path / "out"), tiny_weights), stdout=subprocess.PIPE, text=True
    )
    first = {}
    while len(first) < 20:
        record = json.loads(process.stdout.readline())
        first[record["input"]] = record
    kept = {name: (tmp_path / "out" / name).stat().st_ino for name in first}
    killed = workers_of(process)[0]
    killed.kill()
    rest, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    records = [*first.values(), *records_of(rest)]
    assert Counter(record["input"] for record in records) == Counter(names)
    assert {record["status"] for record in records} <= {"done", "skipped"}
    after = results(tmp_path / "out")
    assert after.keys() == names
    assert all(after[name][0] == inode for name, inode in kept.items())  # not written again
    assert len(list((tmp_path / "out" / LEDGERS).glob("*.png.jsonl"))) == 500


@pytest.mark.long
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX signals")
def test_a_cluster_that_runs_already(tmp_path, tiny_weights):
    """It is used by its address, and goes on after the run."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given = {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # the latter: on loopback
    write_photographs(tmp_path / "in")
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:  # sockets need a short name
        options = ["--port", str(port), "--num-cpus", "2", "--include-dashboard", "false", "--temp-dir", folder]
        program = "import sys; from ray.scripts.scripts import main; sys.exit(main())"
        head = subprocess.Popen(
            [sys.executable, "-c", program, "start", "--head", "--block", *options], env={**os.environ, **given}
        )
        try:
            given["RAY_ADDRESS"] = f"127.0.0.1:{port}"
            wait_for(lambda: is_listening(port), head)
            for status in ("done", "skipped"):
                records = run(str(tmp_path / "in"), str(tmp_path / "out"), tiny_weights, **given)
                assert Counter(record["status"] for record in records) == {status: len(NAMES)}
                assert head.poll() is None
        finally:
            head.terminate()
            head.wait(SECONDS)


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_bad_uris_are_refused_before_a_cluster_starts(tmp_path, tiny_weights, capsys):
    settings = RestoreSettings(weights=str(tiny_weights), device="cpu", scale=2)
    write_photographs(tmp_path / "in")
    folder = str(tmp_path / "in")
    with pytest.raises(ParameterError, match="nothing://x: cannot be opened"):
        restore_store("nothing://x", str(tmp_path / "out"), settings)
    with pytest.raises(OutputError, match="is the input folder"):
        restore_store(folder, f"file://{folder}/", settings)
    (tmp_path / "in" / "sub" / "sub").mkdir()
    (tmp_path / "in" / "sub" / "sub" / "d.png").write_bytes(b"")  # its result would be in/sub/d.png
    with pytest.raises(OutputError, match=r"sub/d\.png: is a photograph"):
        restore_store(f"{folder}/sub", folder, settings)
    assert not ray.is_initialized()
    for arguments, message in (
        ([folder, "--engine-cluster", "ray"], "needs -o"),
        ([folder, "-o", "out", "--num-workers", "2"], "--num-workers: applies only to"),
        ([folder, "-o", "out", "--gpus-per-worker", "0.5"], "--gpus-per-worker: applies only to"),
        ([folder, "-o", "out", "--engine-cluster", "ray", "--gpus-per-worker", "2"], "is not a number from 0.01 to 1"),
        (["s3://album/in", "-o", "out"], "s3://album/in: is a URI"),
        ([folder, "-o", "out", "--engine-cluster", "ray", "--jobs", "2"], "--jobs: not allowed"),
    ):
        assert main(["upscale", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_a_store_writes_completely_or_not_at_all(tmp_path):
    for uri in (f"file://{tmp_path}/new", "memory://bucket"):
        store = Store.open(uri)
        store.put("sub/a", b"one")
        store.put("sub/a", b"two")
        store.get("sub/a", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == b"two"
        with pytest.raises(FileNotFoundError):
            store.get("sub/b", tmp_path / "none")
        assert not (tmp_path / "none").exists()
    assert [path.name for path in (tmp_path / "new" / "sub").iterdir()] == ["a"]
