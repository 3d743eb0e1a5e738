"""What the nodes use of ComfyUI, as plain records: enough to run them without its server."""

import asyncio
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

PACK = Path(__file__).resolve().parents[2] / "integrations" / "comfyui"


class Slot(SimpleNamespace):
    """An input or an output; options by name."""

    def __init__(self, io_type: str, name: str, display_name: str | None = None, **options: Any) -> None:
        super().__init__(io_type=io_type, id=name, display_name=display_name, **options)


def type_named(io_type: str) -> Any:
    def slot(name: str, display_name: str | None = None, **options: Any) -> Slot:
        return Slot(io_type, name, display_name, **options)

    return SimpleNamespace(io_type=io_type, Input=slot, Output=slot)


def several_types(name: str, types: list[Any], **options: Any) -> Slot:
    return Slot(",".join(each.io_type for each in types), name, **options)


class NodeOutput:
    def __init__(self, *args: Any) -> None:
        self.args = args


def io_module() -> SimpleNamespace:
    names = {"Image": "IMAGE", "Mask": "MASK", "Int": "INT", "Float": "FLOAT", "String": "STRING", "Combo": "COMBO"}
    return SimpleNamespace(
        **{name: type_named(io_type) for name, io_type in names.items()},
        Custom=type_named,
        MultiType=SimpleNamespace(Input=several_types),
        Schema=SimpleNamespace,
        ComfyNode=type("ComfyNode", (), {}),
        NodeOutput=NodeOutput,
    )


class ProgressBar:
    """Records what it was told last."""

    last: float | None = None

    def __init__(self, total: int) -> None:
        self.total = total

    def update_absolute(self, value: int) -> None:
        assert 0 <= value <= self.total
        ProgressBar.last = value / self.total


def load_pack(monkeypatch: Any, input_folder: Path) -> tuple[ModuleType, dict[str, Any]]:
    """The pack's module of what its nodes share, and the nodes by ID, loaded as ComfyUI does."""
    modules = {
        "comfy": {},
        "comfy.model_management": {
            "get_torch_device": lambda: torch.device("cpu"),
            "throw_exception_if_processing_interrupted": lambda: None,
        },
        "comfy.utils": {"ProgressBar": ProgressBar},
        "comfy_api": {},
        "comfy_api.latest": {"ComfyExtension": type("ComfyExtension", (), {}), "io": io_module()},
        "folder_paths": {
            "get_input_directory": lambda: str(input_folder),
            "get_annotated_filepath": lambda name: str(input_folder / name),
        },
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, child = name.rpartition(".")
        if parent:
            monkeypatch.setattr(sys.modules[parent], child, module, raising=False)
    spec = importlib.util.spec_from_file_location("pack_of_nodes", PACK / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    pack = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pack_of_nodes", pack)
    for module in ("nodes", "kernel_nodes", "shared", "conversions"):
        monkeypatch.delitem(sys.modules, f"pack_of_nodes.{module}", raising=False)
    spec.loader.exec_module(pack)
    extension = asyncio.run(pack.comfy_entrypoint())
    nodes = {node.define_schema().node_id: node for node in asyncio.run(extension.get_node_list())}
    return sys.modules["pack_of_nodes.shared"], nodes
