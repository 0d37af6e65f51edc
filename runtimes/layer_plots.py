"""A network as SVG pictures: its layers by place and resolution, shares, and where the time goes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

from bihrnet_edge.html import Markup, joined, tag
from bihrnet_edge.runtimes.layers import BINARY, FLOAT, Layer
from bihrnet_edge.runtimes.profile import Profile, Step

_WIDTH = 1080.0
#: A lane: what is written above its bars, and how high they may become.
_LABEL, _BARS, _GAP = 18.0, 58.0, 6.0
_AXIS = 24.0
#: A column is as wide as the page allows, between these; narrower pages scroll.
_COLUMN = (5.0, 34.0)
_LEAST_BAR = 1.5
#: Lanes beyond these are drawn as one: a file may have any number of sizes.
_MAX_LANES = 12
#: Parts of this project's networks, as all its formats name them.
_PART = re.compile(r"(?<![a-z])(stem|transition\d+|stage\d+|head)(?![a-z])")
OTHER = "other"

#: For :func:`bihrnet_edge.html.document`: a colour for each kind that colour-blind people tell apart.
STYLE = """
:root{--float:#d9822b;--int8:#2a9d8f;--binary:#3573b1;--other:#afb8c1}
@media(prefers-color-scheme:dark){:root{--float:#f0a860;--int8:#5ec9ba;--binary:#6cb0f0;--other:#59636e}}
.float{fill:var(--float)}.int8{fill:var(--int8)}.binary{fill:var(--binary)}.other{fill:var(--other)}
.wide svg{max-width:none}
.wide rect:hover{stroke:currentColor;stroke-width:1.5}
.lane{stroke:var(--line)}.edge{fill:none;stroke:var(--soft);stroke-opacity:.35}
.soft{fill:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.75rem;margin:1rem 0;padding:0}
.tiles div{border:1px solid var(--line);border-radius:.5rem;padding:.5rem .75rem}
.tiles dt{color:var(--soft);font-size:.85rem}
.wide+figcaption,figure svg+figcaption{margin-top:.5rem}
.tiles dd{margin:0;font-size:1.15rem;overflow-wrap:normal;font-weight:600;font-variant-numeric:tabular-nums}
.key{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;list-style:none;padding:0;margin:.5rem 0;font-size:.9rem}
.key svg{display:inline-block;width:.8rem;height:.8rem;margin-right:.4rem;vertical-align:-.05rem}
summary{cursor:pointer;padding:.5rem 0}
.layers th{max-width:22rem;overflow-wrap:anywhere;font-weight:400}
""".strip()

Weigh = Callable[[Layer], float]


def key(names: Mapping[str, str]) -> Markup:
    """A list of colours: class to what it means."""
    box = tag("rect", "", width="10", height="10", rx="2")
    items = (
        tag("li", joined(tag("svg", Markup(box), viewBox="0 0 10 10", class_=kind, aria_hidden="true"), name))
        for kind, name in names.items()
    )
    return tag("ul", joined(*items), class_="key")


def share_bars(rows: Mapping[str, Sequence[tuple[str, float, str]]]) -> Markup:
    """One bar a row, of parts ``(class, amount, label)`` that make up its whole."""
    left, height, parts = 70.0, 22.0, []
    right = 560.0
    for index, (name, amounts) in enumerate(rows.items()):
        y, x, whole = index * (height + 10), left, sum(amount for _, amount, _ in amounts)
        parts.append(_text(name, left - 10, y + 15, "end"))
        for class_, amount, label in amounts:
            if amount <= 0:
                continue
            width = (right - left) * amount / whole
            said = f"{amount / whole:.1%} {label}"
            parts.append(_bar(x, y, width, height, class_, f"{name}: {said}"))
            x += width
    size = f"0 0 {right:.0f} {len(rows) * (height + 10) - 10:.0f}"
    return tag("svg", joined(*parts), viewBox=size, role="img", aria_label="Shares", font_size="13")


def columns_of(layers: Sequence[Layer]) -> dict[int, int]:
    """The column of every layer that multiplies: how many such layers are before it on the longest way to it.

    Where nobody knows who reads whom, every layer has a column of its own, in the order of execution.
    """
    depths: list[int] = []
    found: dict[int, int] = {}
    for index, layer in enumerate(layers):
        before = max((depths[i] for i in layer.reads), default=0) if layer.reads is not None else len(found)
        if layer.macs:
            found[index] = before
            before += 1
        depths.append(before)
    return found


def lanes_of(layers: Sequence[Layer], drawn: Sequence[int]) -> dict[int, int]:
    """The lane of each drawn layer: 0 has the largest picture; smaller ones follow."""
    areas = sorted({_area(layers[index]) for index in drawn}, reverse=True)
    places = {area: min(place, _MAX_LANES - 1) for place, area in enumerate(areas)}
    return {index: places[_area(layers[index])] for index in drawn}


def network(layers: Sequence[Layer], weigh: Weigh, unit: str, describe: Callable[[Layer], str]) -> Markup:
    """Every layer that multiplies: right of those that it needs, in the lane of its resolution.

    Args:
        layers: of the artifact; at least one of them multiplies.
        weigh: whose square root is the height of what stands above each other, so that small layers can be seen.
        unit: its name.
        describe: what hovering over a bar says.
    """
    columns = columns_of(layers)
    lanes = lanes_of(layers, list(columns))
    count = 1 + max(columns.values())
    step = min(max(_WIDTH / count, _COLUMN[0]), _COLUMN[1])
    cells: dict[tuple[int, int], list[int]] = {}
    for index, column in columns.items():
        cells.setdefault((lanes[index], column), []).append(index)
    highest = max(sum(weigh(layers[i]) for i in cell) for cell in cells.values()) or 1.0
    lane_count = 1 + max(lanes.values())
    pitch = _LABEL + _BARS + _GAP
    width, bottom = count * step, lane_count * pitch
    parts: list[Markup] = []
    for lane in range(lane_count):
        base = lane * pitch + _LABEL + _BARS
        used = [column for where, column in cells if where == lane]
        start, end = min(used) * step, (max(used) + 1) * step
        parts.append(_line(start, base, end, base, "lane"))
        label = _lane_label([layers[index] for index, where in lanes.items() if where == lane], lane)
        parts.append(_text(label, min(start, max(0.0, width - 150)), lane * pitch + 13))
    parts += _exchanges(layers, columns, lanes, step, pitch)
    for (lane, column), cell in cells.items():
        y = lane * pitch + _LABEL + _BARS
        whole = sum(weigh(layers[index]) for index in cell)
        for index in cell:
            share = weigh(layers[index]) / whole if whole else 0.0
            height = max(min(_LEAST_BAR, _LABEL / len(cell)), _BARS * math.sqrt(whole / highest) * share)
            y -= height
            drawn = max(1.0, height - 0.5), layers[index].kind, describe(layers[index])
            parts.append(_bar(column * step + 0.5, y, step - 1, *drawn))
    parts += _parts_axis(layers, columns, step, width, bottom)
    return _wide(parts, width, bottom + _AXIS, f"The network's layers by {unit}")


def _area(layer: Layer) -> int:
    """Pixels of the result; 1 for a vector and -1 where the size is not known."""
    if layer.shape is None:
        return -1
    return layer.shape[1] * layer.shape[2] if len(layer.shape) == 4 else 1


def _lane_label(layers: Sequence[Layer], lane: int) -> str:
    layer = layers[0]
    if lane == _MAX_LANES - 1 and len({_area(layer) for layer in layers}) > 1:
        return "smaller ones"
    if layer.shape is None:
        return "size not in the file"
    if len(layer.shape) != 4:
        return "vectors"
    channels = sorted({layer.shape[3] for layer in layers if layer.shape is not None and len(layer.shape) == 4})
    listed = f"{channels[0]} channels" if len(channels) == 1 else f"{channels[0]} to {channels[-1]} channels"
    return f"{layer.shape[1]}×{layer.shape[2]}, {listed}"


def _exchanges(
    layers: Sequence[Layer], columns: dict[int, int], lanes: dict[int, int], step: float, pitch: float
) -> list[Markup]:
    """Lines where a layer takes the result of the column before it from another lane."""
    sources: list[frozenset[int]] = []  # of each layer: those that multiply and reach it directly
    curves: set[tuple[int, int, int]] = set()
    for index, layer in enumerate(layers):
        reached = frozenset[int]().union(*(sources[i] for i in layer.reads or ()))
        if index in columns:
            for source in reached:
                if columns[source] == columns[index] - 1 and lanes[source] != lanes[index]:
                    curves.add((columns[index], lanes[source], lanes[index]))
            sources.append(frozenset({index}))
        else:  # further back than the column before nothing is drawn; long sums would carry everything along
            last = max((columns[source] for source in reached), default=0)
            sources.append(frozenset(source for source in reached if columns[source] == last))
    found = []
    for column, start, end in sorted(curves):
        x, y1, y2 = column * step, start * pitch + _LABEL + _BARS, end * pitch + _LABEL + _BARS
        found.append(
            tag(
                "path", "", class_="edge",
                d=f"M{x - step / 2:.1f} {y1:.1f}C{x:.1f} {y1:.1f} {x:.1f} {y2:.1f} {x + step / 2:.1f} {y2:.1f}",
            )
        )  # fmt: skip
    return found


def _parts_axis(
    layers: Sequence[Layer], columns: dict[int, int], step: float, width: float, bottom: float
) -> list[Markup]:
    """Names of the network's parts below the columns that they begin in."""
    starts: dict[str, int] = {}
    for index, column in columns.items():
        if match := _PART.search(layers[index].name):
            starts[match[1]] = min(column, starts.get(match[1], column))
    found, free = [], -1.0
    for name, column in sorted(starts.items(), key=lambda item: item[1]):
        x = column * step
        found.append(_line(x, bottom - _GAP, x, bottom + 4, "lane"))
        if x >= free and x <= width - 30:  # where two begin at once the first is named
            found.append(_text(name, x + 3, bottom + 15, class_="soft"))
            free = x + 8 * len(name)
    return found


def course(profile: Profile, real: str) -> Markup:
    """Where the time of an inference goes: the delegate's steps one after the other, in the lane of their resolution.

    Args:
        profile: with at least one step.
        real: the kind of what is no binary convolution, for its colour.
    """
    areas = sorted({step.height * step.width for step in profile.steps}, reverse=True)
    places = {area: min(place, _MAX_LANES - 1) for place, area in enumerate(areas)}
    scale = _WIDTH / max(profile.run_ms, sum(step.ms for step in profile.steps))
    lane_height, pitch = 22.0, _LABEL + 22.0 + _GAP
    count = 1 + max(places.values())
    parts: list[Markup] = []
    for area, lane in places.items():
        first = next(step for step in profile.steps if step.height * step.width == area)
        label = "smaller ones" if lane == _MAX_LANES - 1 < len(areas) - 1 else f"{first.height}×{first.width}"
        if lane < _MAX_LANES - 1 or area == areas[_MAX_LANES - 1]:
            ms = sum(step.ms for step in profile.steps if places[step.height * step.width] == lane)
            parts.append(_text(f"{label}: {ms:.2f} ms", 0, lane * pitch + 13))
            base = lane * pitch + _LABEL + lane_height
            parts.append(_line(0, base, _WIDTH, base, "lane"))
    x = 0.0
    for step in profile.steps:
        y = places[step.height * step.width] * pitch + _LABEL
        for class_, ms in _pieces(step, real):
            if ms > 0:
                parts.append(_bar(x, y, max(0.4, ms * scale), lane_height, class_, _said(step)))
            x += ms * scale
    rest = profile.run_ms - sum(step.ms for step in profile.steps)
    if rest > 0:
        y = (count - 1) * pitch + _LABEL
        parts.append(
            _bar(x, y, _WIDTH - x, lane_height, OTHER, f"LiteRT's own operators and between steps: {rest:.3f} ms")
        )
    bottom = count * pitch
    for tick in range(5):
        x = _WIDTH * tick / 4
        anchor = "start" if tick == 0 else "end" if tick == 4 else "middle"
        parts.append(_text(f"{x / scale:.2f} ms", x, bottom + 12, anchor, "soft"))
    return _wide(parts, _WIDTH, bottom + _AXIS, "Time of each step")


def _pieces(step: Step, real: str) -> list[tuple[str, float]]:
    """A step's milliseconds by colour: the binary convolution itself, real-valued convolutions, all else."""
    binary = step.bconv_ms + step.scale_ms
    return [(BINARY, binary), (real if step.kind == "conv" else OTHER, step.ms - binary)]


def time_by_kind(profile: Profile, real: str) -> dict[str, float]:
    """Milliseconds of binary convolutions, real-valued ones (under ``real``), and all else."""
    found = dict.fromkeys((FLOAT, real, BINARY, OTHER), 0.0)
    for step in profile.steps:
        for class_, ms in _pieces(step, real):
            found[class_] += ms
    found[OTHER] += profile.run_ms - sum(found.values())
    return {name: ms for name, ms in found.items() if ms > 0}


def _said(step: Step) -> str:
    macs = f", {step.macs / 1e6:.2f} M MACs" if step.macs else ""
    return f"{step.name}\n{step.channels}×{step.height}×{step.width}, {step.ms:.3f} ms{macs}"


def _text(content: str, x: float, y: float, anchor: str = "", class_: str = "") -> Markup:
    return tag("text", content, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=class_)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return tag("line", "", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=class_)


def _bar(x: float, y: float, width: float, height: float, class_: str, title: str) -> Markup:
    return tag(
        "rect", tag("title", title), x=f"{x:.1f}", y=f"{y:.1f}", width=f"{width:.2f}", height=f"{height:.1f}",
        class_=class_,
    )  # fmt: skip


def _wide(parts: Sequence[Markup], width: float, height: float, label: str) -> Markup:
    """A picture as wide as the page, that scrolls where the page is narrow."""
    picture = tag(
        "svg", joined(*parts), viewBox=f"-2 0 {width + 4:.0f} {height:.0f}", role="img", aria_label=label,
        font_size="12", style=f"min-width:{min(width, 700):.0f}px;max-width:{1.2 * width:.0f}px",
    )  # fmt: skip
    return tag("div", picture, class_="scroll wide")
