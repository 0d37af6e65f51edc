"""The figures of the blocks are those of the code, and say the same as the blocks' equations."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import pytest
from documents import ROOT
from helpers import load_script

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    return load_script(ROOT / "benchmarks" / "block_figures.py")


@pytest.mark.parametrize("name", ["ir-bottleneck", "ms-block"])
def test_the_files_are_what_the_code_gives(figures: ModuleType, name: str) -> None:
    assert name in figures.FIGURES
    path: Path = ROOT / "docs" / "pictures" / f"{name}.svg"
    assert path.read_text(encoding="utf-8") == figures.figure(name), "run benchmarks/block_figures.py docs/pictures"
    root = ElementTree.parse(path).getroot()
    words = [element.text for element in root if element.tag.endswith(("title", "desc"))]
    assert all(words)


@pytest.mark.parametrize("name", ["ir-bottleneck", "ms-block"])
def test_boxes_are_the_modules(figures: ModuleType, name: str) -> None:
    make, channels, _ = figures.FIGURES[name]
    block = make(channels, binary=True)
    nodes = figures.trace(block, channels)
    units = {node.name: node.channels for node in nodes if node.kind == "unit"}
    assert units == {part: unit.conv.weight.shape[0] for part, unit in block.named_children()}
    # Every unit stands beside a real-valued way: the sum that it goes into has another input, which no unit made.
    by_name = {node.name: node for node in nodes}
    for unit in units:
        into = next(node for node in nodes if unit in node.inputs)
        if into.kind == "concat":
            into = next(node for node in nodes if into.name in node.inputs)
        assert into.kind == "join"
        assert any(by_name[source].kind not in ("unit", "concat") for source in into.inputs)
    width, height = (float(value) for value in figures.figure(name).split('viewBox="0 0 ')[1].split('"')[0].split())
    svg = ElementTree.fromstring(figures.figure(name))
    for box in (element for element in svg if element.tag.endswith("rect") and "x" in element.attrib):
        assert 0 <= float(box.get("x", "")) <= width - float(box.get("width", ""))
        assert 0 <= float(box.get("y", "")) <= height - float(box.get("height", ""))
