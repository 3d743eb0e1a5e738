"""The package's structure, read from its imports: arrows point down, no circles, and it stays small."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
FILES = sorted(path for path in (SOURCE / "blinddiff").rglob("*.py") if "weights" not in path.parts)
LAYERS = [
    {"errors"},
    {"files"},
    {"degradation", "imaging"},
    {"models"},
    {"published"},
    {"sampling", "training"},
    {"light"},
    {"restoring", "export"},
    {"evaluation", "app", "integrations"},
    {"cli"},
    {"__main__"},
]
"""Rooms from the lowest: each may import from the ones below it and from itself."""


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


OTHER_PROGRAMS = {"blinddiff.integrations.cluster": "ray", "blinddiff.integrations.spandrel": "spandrel"}
"""Modules that need the package of another program, an optional extra."""
MODULES = {module_of(path) for path in FILES}


def imports_of(path: Path) -> Iterator[str]:
    """All modules of the package that a file imports, also inside functions and for types alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "blinddiff":
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "blinddiff")


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "blinddiff"


def level_of(room: str) -> int:
    (level,) = (index for index, rooms in enumerate(LAYERS) if room in rooms)
    return level


def test_there_is_no_circle() -> None:
    graph = {module_of(path): set(imports_of(path)) - {module_of(path)} for path in FILES}
    graph["blinddiff"] = set()  # the package itself imports what it offers when it is used
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"imports go round: {' -> '.join(error.args[1])}")


def test_a_circle_would_be_found() -> None:
    with pytest.raises(CycleError):
        list(TopologicalSorter({"a": {"b"}, "b": {"c"}, "c": {"a"}}).static_order())


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_down(path: Path) -> None:
    here = room_of(module_of(path))
    if here == "blinddiff":  # the package itself offers the pipeline
        return
    for module in imports_of(path):
        room = room_of(module)
        if room not in (here, "blinddiff"):
            assert level_of(room) < level_of(here), f"{module_of(path)} imports {module}"


def test_the_house_stays_small() -> None:
    assert len(FILES) <= 139
    assert sum(len(path.read_text().splitlines()) for path in FILES) <= 23_400


def test_imports_inside_functions_are_few() -> None:
    found = {
        f"{module_of(path)}:{node.lineno}"
        for path in FILES
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert len(found) <= 25, sorted(found)


@pytest.mark.parametrize("name", ["loop", "schedulers"])
def test_the_loop_knows_no_wrapper_and_no_network(name: str) -> None:
    text = (SOURCE / "blinddiff" / "sampling" / f"{name}.py").read_text()
    assert re.findall(r"(?i)\btiles?\b|tiled|ensemble|transform|dihedral|\bviews?\b|MCFormer", text) == []


def test_nothing_asks_which_network_it_has() -> None:
    """Outside the published room, the class is named where networks are loaded, and nowhere else."""
    naming = {
        module_of(path)
        for path in FILES
        if room_of(module_of(path)) != "published" and "PublishedMCFormer" in path.read_text()
    }
    assert naming <= {"blinddiff.sampling.pipeline", "blinddiff.models.denoiser"}
    asking = [
        f"{module_of(path)}:{node.lineno}"
        for path in FILES
        if room_of(module_of(path)) != "published"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "isinstance"
        and "MCFormer" in ast.unparse(node.args[1])
    ]
    assert asking == []


@pytest.mark.parametrize("name", sorted(MODULES))
def test_public_methods_have_docstrings_or_inherit_them(name: str) -> None:
    if name == "blinddiff.__main__":  # would run
        return
    if name in OTHER_PROGRAMS:
        pytest.importorskip(OTHER_PROGRAMS[name], reason=f"{OTHER_PROGRAMS[name]} is not installed")
    module = importlib.import_module(name)
    bare = [
        f"{cls.__name__}.{attribute}"
        for cls in vars(module).values()
        if inspect.isclass(cls) and cls.__module__ == name and not cls.__name__.startswith("_")
        for attribute, value in vars(cls).items()
        if not attribute.startswith("_")
        and getattr(value, "__name__", "") != "<lambda>"
        and (inspect.isfunction(value) or isinstance(value, property | classmethod))
        if not inspect.getdoc(getattr(cls, attribute))
    ]
    assert bare == []
