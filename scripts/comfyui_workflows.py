"""Writes the example workflows of the ComfyUI nodes: the graph as JSON, and a result as PNG with the graph embedded.

    python scripts/comfyui_workflows.py

ComfyUI opens both kinds of files. As in the pictures that it saves, the text chunk ``workflow`` of the PNG has the
graph, and ``prompt`` has what its HTTP interface accepts.
"""

import argparse
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from blinddiff.imaging import read_image, to_picture
from blinddiff.restoring.engines import load_pipeline
from blinddiff.restoring.photograph import RestoreSettings, restore_photograph

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "integrations" / "comfyui" / "example_workflows"
SAMPLE = ROOT / "src" / "blinddiff" / "samples" / "flowers.jpg"
KERNEL = "BLINDDIFF_KERNEL"
ANY = "*"
OPTIONS = {"noise_level": -1.0, "steps": 0, "samples": 1, "jpeg_step": 0.0}
OUTPUTS = {
    "LoadImage": [("IMAGE", "IMAGE"), ("MASK", "MASK")],
    "SaveImage": [],
    "PreviewImage": [],
    "PreviewAny": [],
    "BlindDiffRestore": [
        ("restored", "IMAGE"),
        ("kernel_picture", "IMAGE"),
        ("std", "IMAGE"),
        ("measurements", "STRING"),
        ("estimated_kernel", KERNEL),
    ],
    "BlindDiffDegrade": [("degraded", "IMAGE"), ("kernel_picture", "IMAGE"), ("used_kernel", KERNEL)],
}
"""Names and types of the outputs of the nodes in the examples."""


@dataclass(frozen=True)
class Node:
    """A node of a workflow: (node, output) of each linked input, the types of inputs, the widgets' values in order."""

    kind: str
    at: tuple[int, int]
    links: dict[str, tuple[int, int]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    widgets: dict[str, Any] = field(default_factory=dict)


def load_image(at: tuple[int, int]) -> Node:
    """The sample, read from ComfyUI's folder of inputs."""
    return Node("LoadImage", at, widgets={"image": SAMPLE.name})


def restore(at: tuple[int, int], image: tuple[int, int], kernel: tuple[int, int] | None = None) -> Node:
    """*Blind restore* at scale 4, with a known kernel or without."""
    links = {"image": image} if kernel is None else {"image": image, "kernel": kernel}
    types = {"image": "IMAGE", "kernel": f"{KERNEL},IMAGE", "mask": "MASK"}
    return Node("BlindDiffRestore", at, links, types, {"scale": 4.0, "mode": "fidelity", "seed": 0, **OPTIONS})


def show(kind: str, at: tuple[int, int], of: tuple[int, int], prefix: str | None = None) -> Node:
    """A node that shows or saves a value."""
    name, typed = {"PreviewAny": ("source", ANY)}.get(kind, ("images", "IMAGE"))
    return Node(kind, at, {name: of}, {name: typed}, {} if prefix is None else {"filename_prefix": prefix})


WORKFLOWS = {
    "blind_restore": {
        1: load_image((0, 0)),
        2: restore((340, 0), (1, 0)),
        3: show("SaveImage", (760, 0), (2, 0), "blinddiff"),
        4: show("PreviewImage", (760, 420), (2, 1)),
        5: show("PreviewAny", (340, 420), (2, 3)),
    },
    "degrade_and_restore": {
        1: load_image((0, 0)),
        2: Node(
            "BlindDiffDegrade",
            (340, 0),
            {"image": (1, 0)},
            {"image": "IMAGE", "kernel": f"{KERNEL},IMAGE"},
            {"scale": 4, "sigma": 2.0, "noise": 2.0, "jpeg_quality": 0, "seed": 0},
        ),
        3: restore((760, 0), (2, 0), (2, 2)),
        4: restore((760, 460), (2, 0)),
        5: show("SaveImage", (1180, 0), (3, 0), "blinddiff_known_kernel"),
        6: show("SaveImage", (1180, 460), (4, 0), "blinddiff_estimated_kernel"),
        7: show("PreviewAny", (340, 460), (4, 3)),
    },
}


def prompt_of(nodes: dict[int, Node]) -> dict[str, Any]:
    """The workflow as ComfyUI's HTTP interface accepts it."""
    return {
        str(number): {
            "class_type": node.kind,
            "inputs": {**node.widgets, **{name: [str(source), slot] for name, (source, slot) in node.links.items()}},
        }
        for number, node in nodes.items()
    }


def graph_of(nodes: dict[int, Node]) -> dict[str, Any]:
    """The workflow as ComfyUI's page saves it."""
    numbered = [(n, name, *source) for n, node in nodes.items() for name, source in node.links.items()]
    links = dict(enumerate(numbered, start=1))
    listed = []
    for order, (number, node) in enumerate(nodes.items()):
        inputs = [
            {
                "name": name,
                "type": kind,
                "link": next((i for i, link in links.items() if link[:2] == (number, name)), None),
            }
            for name, kind in node.types.items()
        ]
        outputs = [
            {"name": name, "type": kind, "links": [i for i, link in links.items() if link[2:] == (number, slot)]}
            for slot, (name, kind) in enumerate(OUTPUTS[node.kind])
        ]
        values = []
        for name, value in node.widgets.items():
            values += [value, "fixed"] if name == "seed" else [value]  # the page adds a widget after each seed
        if node.kind == "LoadImage":
            values.append("image")  # the button for uploads
        listed.append(
            {
                "id": number,
                "type": node.kind,
                "pos": list(node.at),
                "size": [320, 320],
                "flags": {},
                "order": order,
                "mode": 0,
                "inputs": inputs,
                "outputs": outputs,
                "properties": {"Node name for S&R": node.kind},
                "widgets_values": values,
            }
        )
    lines = []
    for i, (number, name, source, slot) in links.items():
        target = list(nodes[number].types).index(name)
        lines.append([i, source, slot, number, target, OUTPUTS[nodes[source].kind][slot][1]])
    return {
        "last_node_id": max(nodes),
        "last_link_id": len(links),
        "nodes": listed,
        "links": lines,
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def write(folder: Path) -> None:
    """Write all workflows as JSON, and the result of the first as PNG."""
    for name, nodes in WORKFLOWS.items():
        (folder / f"{name}.json").write_text(json.dumps(graph_of(nodes), indent=1) + "\n", encoding="utf-8")
    name, nodes = next(iter(WORKFLOWS.items()))
    sample = replace(read_image(SAMPLE), jpeg_step=0.0)  # the node *Load Image* gives the pixels only
    texts = PngInfo()
    texts.add_text("prompt", json.dumps(prompt_of(nodes)))
    texts.add_text("workflow", json.dumps(graph_of(nodes)))
    picture: Image.Image = to_picture(restore_photograph(load_pipeline(), sample, RestoreSettings()).pixels)
    picture.save(folder / f"{name}.png", pnginfo=texts, optimize=True)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    write(FOLDER)
