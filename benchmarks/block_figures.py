"""The figures of BiHRNet's blocks in docs/pictures, drawn from the blocks as they are in the code.

    python benchmarks/block_figures.py docs/pictures

Each block is traced, channels are what its tensors have, and a box stands for every unit and shortcut. Plain SVG; the
same code gives the same files.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from bihrnet_edge.model.blocks import IRBottleneck, MSBlock, Unit, match_channels

_WIDTH, _BOX_WIDTH, _BOX_HEIGHT, _STEP = 640, 190, 44, 74
_TOP = 30
_SIDE = 8  # height and width of the traced maps; no figure shows them
#: File name to what is drawn, the channels of its input, and its title.
FIGURES: dict[str, tuple[type[nn.Module], int, str]] = {
    "ir-bottleneck": (IRBottleneck, 256, "IR Bottleneck, 256 to 256 channels"),
    "ms-block": (MSBlock, 32, "MS-Block of 32 channels"),
}


@dataclass(frozen=True)
class Node:
    """One box: what it does, the channels that it gives, and whom it takes from."""

    name: str
    label: str
    kind: str
    channels: int
    inputs: tuple[str, ...]
    level: int


class _Tracer(fx.Tracer):  # type: ignore[misc, name-defined, unused-ignore]
    def __init__(self) -> None:
        super().__init__(autowrap_functions=(match_channels,))

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Unit)


class _Shapes(fx.Interpreter):  # type: ignore[misc, name-defined, unused-ignore]
    """Runs the trace and keeps every result's number of channels."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            n.meta["channels"] = int(result.shape[1])
        return result


def trace(block: nn.Module, channels: int) -> list[Node]:
    """The block's boxes from input to output; a shortcut that changes nothing is an edge, not a box."""
    tracer = _Tracer()
    graph = tracer.trace(block.eval())
    with torch.no_grad():
        _Shapes(fx.GraphModule(block, graph)).run(torch.zeros(1, channels, _SIDE, _SIDE))
    names: dict[str, str] = {}  # of the trace to those of the boxes
    nodes: list[Node] = []
    for node in graph.nodes:
        sources = tuple(dict.fromkeys(names[source.name] for source in node.all_input_nodes))
        if node.op == "output":
            continue
        given, taken = node.meta["channels"], 0
        if node.all_input_nodes:
            taken = node.all_input_nodes[0].meta["channels"]
        if node.op == "placeholder":
            label, kind = f"x: {given}", "ends"
        elif node.op == "call_module":
            conv = block.get_submodule(node.target).conv
            dilated = f", dilation {conv.dilation[0]}" if conv.dilation[0] > 1 else ""
            label, kind = f"f {conv.kernel_size[0]}×{conv.kernel_size[0]}{dilated}, {taken} → {given}", "unit"
        elif node.target is match_channels:
            if given == taken:
                names[node.name] = sources[0]
                continue
            label, kind = f"{'tile' if given > taken else 'groups'}, {taken} → {given}", "shortcut"
        elif node.target is torch.cat:
            label, kind = f"concat, {given}", "concat"
        else:
            label, kind = f"+, {given}", "join"
        level = 1 + max((next(n.level for n in nodes if n.name == source) for source in sources), default=-1)
        names[node.name] = node.name
        nodes.append(Node(node.name, label, kind, given, sources, level))
    return nodes


def describe(nodes: list[Node]) -> str:
    """The figure in words: its text alternative."""
    labels = {node.name: node.label for node in nodes}
    return "; ".join(
        f"{node.label} of ({') and ('.join(labels[name] for name in node.inputs)})" for node in nodes if node.inputs
    )


def draw(nodes: list[Node], title: str) -> str:
    """The boxes as SVG, one level a row, real-valued shortcuts left and units right."""
    rows: dict[int, list[Node]] = {}
    for node in nodes:
        rows.setdefault(node.level, []).append(node)
    place: dict[str, tuple[float, float]] = {}
    for level, row in rows.items():
        y = _TOP + level * _STEP
        units = [node for node in row if node.kind == "unit"]
        left = 440 - 210 * (len(units) - 1)
        place |= {node.name: (left + 210 * i, y) for i, node in enumerate(units)}
        place |= {node.name: (200 if node.kind == "shortcut" else 320, y) for node in row if node.kind != "unit"}
    height = _TOP + max(rows) * _STEP + _BOX_HEIGHT + _TOP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        'font-family="sans-serif" font-size="14" text-anchor="middle">',
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(describe(nodes))}</desc>",
        '<marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerUnits="userSpaceOnUse" markerWidth="9" '
        'markerHeight="9" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#444"/></marker>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
    ]
    by_name = {node.name: node for node in nodes}
    for node in nodes:
        x, y = place[node.name]
        for source in node.inputs:
            from_x, from_y = place[source]
            start, end = from_y + _BOX_HEIGHT, y
            real = node.kind == "join" and by_name[source].kind not in ("unit", "concat")
            style = 'stroke="#b35806" stroke-width="3"' if real else 'stroke="#444" stroke-width="1.5"'
            if node.level - by_name[source].level > 1:  # around what lies between, on the left
                side = 60 if node.level - by_name[source].level > 3 else 90
                path = (
                    f"M{from_x - _BOX_WIDTH / 2:g} {from_y + _BOX_HEIGHT * 0.7:g} H{side} V{y + _BOX_HEIGHT * 0.3:g} "
                )
                path += f"H{x - _BOX_WIDTH / 2:g}"
            else:
                path = f"M{from_x:g} {start:g} L{x:g} {end:g}"
            parts.append(f'<path d="{path}" fill="none" marker-end="url(#arrow)" {style}/>')
    fills = {"ends": "#f0f0f0", "unit": "#d8e6f5", "shortcut": "#fbe3cf", "concat": "#d8e6f5", "join": "#f0f0f0"}
    for node in nodes:
        x, y = place[node.name]
        parts.append(
            f'<rect x="{x - _BOX_WIDTH / 2:g}" y="{y:g}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="6" '
            f'fill="{fills[node.kind]}" stroke="#444"/>'
        )
        parts.append(f'<text x="{x:g}" y="{y + 27:g}" fill="#111">{escape(node.label)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def figure(name: str) -> str:
    """The SVG of one of :data:`FIGURES`."""
    make, channels, title = FIGURES[name]
    block = make(channels, binary=True)
    return draw(trace(block, channels), title)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the .svg files go")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in FIGURES:
        (folder / f"{name}.svg").write_text(figure(name), encoding="utf-8")


if __name__ == "__main__":
    main()
