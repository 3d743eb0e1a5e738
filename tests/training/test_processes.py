"""Training in two processes."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from blinddiff.models.mcformer import MCFormer
from blinddiff.training import trainer
from blinddiff.training.recipe import load_recipe
from blinddiff.training.trainer import train

WORKER = """
import os
import sys
from pathlib import Path
import torch
from blinddiff.training import trainer
from blinddiff.training.recipe import load_recipe

torch.set_num_threads(1)
trainer.LOG_STEPS = 1
folder = Path(sys.argv[2])
recipe, *later = load_recipe(Path(sys.argv[1]))
if sys.argv[3] == "clocks":  # the first process's says save now, always; the second's, never
    recipe = recipe.model_copy(update={"checkpoint_minutes": 0.0 if os.environ["RANK"] == "0" else 1e6})
# Where there is no accelerator, nobody has to say so.
device = "cpu" if torch.accelerator.is_available() else None
if later:
    trainer.train([recipe, *later], folder, resume=sys.argv[3] == "resume", device=device)
    sys.exit()
run = trainer.Trainer(recipe, folder, sys.argv[3] == "resume", device)
assert run.accelerator.num_processes == 2
run.run(float("inf"))
torch.save(dict(run.network.named_parameters()), folder / f"process_{run.accelerator.process_index}.pt")
"""


def launch(folder: Path, recipe: Path, run: str, mode: str = "new") -> Path:
    script = folder / "worker.py"
    script.write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    worker = subprocess.Popen(
        [*command, str(recipe), str(folder / run), mode],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        _, errors = worker.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        worker.send_signal(signal.SIGTERM)  # the launcher ends its two processes
        worker.communicate(timeout=60)
        pytest.fail("the processes wait for each other")
    assert worker.returncode == 0, errors[-3000:]
    return folder / run


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "losses.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def recipe(photographs: Path, tmp_path: Path) -> Path:
    content = {
        "data": {"folders": [str(photographs)], "context": 64, "patch": 32, "batch": 4},
        "model": {"dim": 8, "num_blocks": [1, 1], "heads": [1, 1], "estimator_hidden": 32, "embedding_dim": 16},
        "degradation": {"scales": {2: 1.0}, "kernels": {"isotropic": 1.0}},
        "steps": 10,
        "warmup": 2,
        "learning_rate": 0.003,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.long
def test_two_processes_train_one_network(recipe: Path, tmp_path: Path) -> None:
    folder = launch(tmp_path, recipe, "two")
    assert [int(row["step"]) for row in rows(folder)] == list(range(1, 11)), "one log, each step once"
    first, second = (torch.load(folder / f"process_{i}.pt", weights_only=True) for i in range(2))
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=1e-6, rtol=1e-5, msg=f"{name} differs")
    shipped = MCFormer.from_pretrained(folder / "weights").state_dict()
    assert all(bool(torch.isfinite(v).all()) for v in shipped.values() if v.is_floating_point())


@pytest.mark.long
def test_the_main_process_decides_when_to_save(recipe: Path, tmp_path: Path) -> None:
    folder = launch(tmp_path, recipe, "two", "clocks")
    assert len(rows(folder)) == 10


@pytest.mark.long
def test_two_processes_follow_the_recipes_schedule(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = launch(tmp_path, recipe, "two")
    monkeypatch.setattr(trainer, "LOG_STEPS", 1)
    train(load_recipe(recipe), tmp_path / "one", device="cpu")
    rates = [[float(row["learning_rate"]) for row in rows(folder)] for folder in (two, tmp_path / "one")]
    assert rates[0] == pytest.approx(rates[1])
    assert rows(two)[0]["total"] != rows(tmp_path / "one")[0]["total"], "each process has photographs of its own"


@pytest.mark.long
def test_two_processes_resume(recipe: Path, tmp_path: Path) -> None:
    whole = launch(tmp_path, recipe, "whole")
    content = yaml.safe_load(recipe.read_text())
    launch(tmp_path, recipe, "whole", "resume")  # finished: nothing is added
    assert len(rows(whole)) == 10
    longer = tmp_path / "longer.yaml"
    longer.write_text(yaml.safe_dump({**content, "steps": 14}))
    launch(tmp_path, longer, "whole", "resume")
    assert [int(row["step"]) for row in rows(whole)] == list(range(1, 15))


@pytest.mark.long
def test_two_processes_run_stages_and_resume_them(recipe: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(recipe.read_text())
    stages = [{"stage": "estimator", "steps": 3}, {"stage": "network", "steps": 4}]
    recipe.write_text(yaml.safe_dump({**content, "stages": stages}))
    folder = launch(tmp_path, recipe, "two")
    assert [len(rows(folder / name)) for name in ("01-estimator", "02-network")] == [3, 4]
    shutil.rmtree(folder / "02-network")
    launch(tmp_path, recipe, "two", "resume")
    assert [len(rows(folder / name)) for name in ("01-estimator", "02-network")] == [3, 4]
