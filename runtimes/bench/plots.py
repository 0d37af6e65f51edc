"""A bench report's pictures as SVG: latencies, ratios, and how a run went."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from bihrnet_edge.html import Markup, joined, tag
from bihrnet_edge.runtimes.bench.report import BenchResult

_WIDTH, _MARGIN = 560, 12
#: A row: its name above, what is drawn below.
_NAME, _DRAWN = 18, 26
_AXIS = 22
#: Times this far apart are drawn on a logarithmic axis.
_LOGARITHMIC = 8.0
_TICKS = 5

Scale = Callable[[float], float]


def latencies(results: Sequence[BenchResult]) -> Markup:
    """A line from the fastest to p99, a bar from p50 to p90, for each contender."""
    highest = max(max(r.p50_ms, r.p90_ms or 0, r.p99_ms or 0) for r in results)
    lowest = min(r.min_ms for r in results)
    logarithmic = highest > _LOGARITHMIC * min(r.p50_ms for r in results)
    scale, ticks = _axis(lowest if logarithmic else 0.0, highest, logarithmic)
    rows = []
    for index, r in enumerate(results):
        y = _row(index)
        end = r.p99_ms or r.p90_ms or r.p50_ms
        rows += [
            _text(f"{r.name}: {r.p50_ms:.2f} ms", _MARGIN, y - 6),
            _line(scale(r.min_ms), y + 9, scale(end), y + 9),
            _rectangle(scale(r.p50_ms), y, max(3.0, scale(r.p90_ms or r.p50_ms) - scale(r.p50_ms)), 18),
        ]
    return _svg(len(results), rows, ticks, scale, "ms", "Latency of each contender")


def ratios(results: Sequence[BenchResult]) -> Markup:
    """A point and its interval for every contender but the first."""
    others = [(r, r.ratio) for r in results if r.ratio is not None]
    values = [1.0]
    for _, ratio in others:
        values += [ratio.value, *(v for v in (ratio.low, ratio.high) if v and math.isfinite(v))]
    scale, ticks = _axis(min(values) / 1.02, max(values) * 1.02, True)
    rows = [_line(scale(1), 0, scale(1), _row(len(others)) - _NAME, dashed=True)]
    for index, (r, ratio) in enumerate(others):
        y = _row(index)
        low, high = max(ratio.low, min(values)), min(ratio.high, max(values))
        rows += [
            _text(f"{r.name}: {ratio.value:.3f}×", _MARGIN, y - 6),
            _line(scale(low), y + 9, scale(high), y + 9),
            _rectangle(scale(ratio.value) - 3, y + 2, 6, 14),
        ]
    return _svg(len(others), rows, ticks, scale, "×", "Time over that of the first contender")


def course(values: Sequence[float], label: str, unit: str) -> Markup:
    """How something went from round to round: a small line with its lowest and highest value."""
    height, left, right = 60.0, 70.0, _WIDTH - _MARGIN
    low, high = min(values), max(values)
    middle = (low + high) / 2
    half = max((high - low) / 2, 0.02 * abs(middle), 1e-9)  # a steady value is a straight line, not its noise enlarged
    step = (right - left) / max(len(values) - 1, 1)
    points = [
        f"{left + index * step:.1f},{6 + (height - 12) * (middle + half - value) / (2 * half):.1f}"
        for index, value in enumerate(values)
    ]
    parts = [
        _text(_short(middle + half), left - 8, 14, "end"),
        _text(_short(middle - half), left - 8, height - 2, "end"),
        tag("polyline", "", points=" ".join(points), class_="course"),
    ]
    return tag(
        "svg", joined(*parts), viewBox=f"0 0 {_WIDTH} {height:.0f}", role="img", aria_label=f"{label}, {unit}",
        font_size="12",
    )  # fmt: skip


def shares(parts: dict[str, float]) -> Markup:
    """A bar for each part of an inference, in milliseconds."""
    scale, ticks = _axis(0.0, max(parts.values()), False)
    total = sum(parts.values())
    rows = []
    for index, (name, ms) in enumerate(parts.items()):
        y = _row(index)
        rows += [
            _text(f"{name}: {ms:.3f} ms, {ms / total:.1%}", _MARGIN, y - 6),
            _rectangle(scale(0), y, max(1.0, scale(max(ms, 0.0)) - scale(0)), 18),
        ]
    return _svg(len(parts), rows, ticks, scale, "ms", "Time of each part of an inference")


def _row(index: int) -> int:
    return _NAME + index * (_NAME + _DRAWN)


def _axis(low: float, high: float, logarithmic: bool) -> tuple[Scale, list[float]]:
    width = _WIDTH - 2 * _MARGIN
    if not logarithmic:
        step = _nice(high / _TICKS)
        return lambda value: _MARGIN + width * value / high, [float(v) for v in np.arange(0, high * 1.0001, step)]
    span = max(math.log(high / low), 1e-9)
    ticks = [low * (high / low) ** (index / (_TICKS - 1)) for index in range(_TICKS)]
    return lambda value: _MARGIN + width * math.log(value / low) / span, ticks


def _nice(step: float) -> float:
    """The next of 1, 2, 5, 10, … that is no smaller."""
    power: float = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * 0.999)


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _text(content: str, x: float, y: float, anchor: str = "") -> Markup:
    return tag("text", content, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def _line(x1: float, y1: float, x2: float, y2: float, dashed: bool = False) -> Markup:
    values = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    numbers = {name: f"{value:.1f}" for name, value in values.items()}
    return tag("line", "", **numbers, class_="dashed" if dashed else "line")


def _rectangle(x: float, y: float, width: float, height: float) -> Markup:
    return tag("rect", "", x=f"{x:.1f}", y=f"{y:.1f}", width=f"{width:.1f}", height=f"{height:.1f}", class_="bar")


def _svg(count: int, rows: list[Markup], ticks: Sequence[float], scale: Scale, unit: str, label: str) -> Markup:
    bottom = _row(count) - _NAME + 4
    for tick in ticks:
        x = scale(tick)
        anchor = "start" if x < _MARGIN + 20 else "end" if x > _WIDTH - _MARGIN - 20 else "middle"
        rows += [_line(x, bottom, x, bottom + 5), _text(f"{_short(tick)} {unit}", x, bottom + _AXIS - 4, anchor)]
    size = f"0 0 {_WIDTH} {bottom + _AXIS}"
    return tag("svg", joined(*rows), viewBox=size, role="img", aria_label=label, font_size="13")
