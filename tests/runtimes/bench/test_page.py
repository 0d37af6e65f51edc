from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bihrnet_edge.runtimes.bench import plots
from bihrnet_edge.runtimes.bench.compare import compare_reports
from bihrnet_edge.runtimes.bench.page import render, write_page
from bihrnet_edge.runtimes.bench.report import BenchReport
from bihrnet_edge.runtimes.profile import Profile, Step

Make = Callable[..., BenchReport]
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that elements close in order; collects tags and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def report(make_report: Make) -> BenchReport:
    report = make_report(("one.tflite", 30.0), ("<b>&two.tflite", 300.0), ("three.onnx", 31.0, 2))
    steps = (Step("bconv 3x3", "bconv", 64, 8, 6, 10**6, 3.0, 2.0, 0.5), Step("store", "store", 3, 8, 6, 0, 1.0, 0, 0))
    profile = Profile("neon", 1, 9, 10, 10, 5.0, 4.5, steps)
    return dataclasses.replace(
        report, results=(dataclasses.replace(report.results[0], profile=profile), *report.results[1:])
    )


def test_the_page_holds_what_was_measured_and_needs_nothing_else(report: BenchReport, tmp_path: Path) -> None:
    write_page(tmp_path / "new" / "bench.html", report)
    text = (tmp_path / "new" / "bench.html").read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert not re.search(r"https?://|url\(|@import", text)
    for result in report.results:
        assert f"{result.p50_ms:.2f}" in page.text
        assert f"{result.p99_ms:.2f}" in page.text
        assert result.model in page.text  # as text, whatever is in it
        assert result.ratio is None or result.ratio.range in page.text
    assert "Raspberry Pi 5" in page.text
    assert "bconv 3x3" in page.text
    assert "Nothing was seen that spoils the figures." in page.text
    assert page.tags.count("svg") == 2 + 3 + 2 + 1  # latencies, ratios; courses; clock, temperature; profile


def test_warnings_and_regressions_are_shown(report: BenchReport, make_report: Make) -> None:
    report.conditions.warnings.append("it was <hot>.")
    before = make_report(("one.tflite", 20.0), ("three.onnx", 31.0, 2), ("gone.onnx", 1.0), seed=1)
    page = Page(render(report, compare_reports(report, before, "old.json"), 5.0))
    assert "it was <hot>." in page.text
    assert page.text.count("slower") >= 2
    assert "gone.onnx" in page.text


def test_a_single_contender_and_a_single_round(make_report: Make) -> None:
    report = make_report(("one.tflite", 30.0))
    one = dataclasses.replace(report.results[0], turns_ms=((30.0,),), p90_ms=None, p99_ms=None, cold_start_ms=None)
    page = Page(render(dataclasses.replace(report, results=(one,), rounds=1)))
    assert "Ratios" not in page.text
    assert "How the run went" not in page.text


@settings(deadline=None)
@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=30))
def test_a_course_stays_in_its_picture(values: list[float]) -> None:
    svg = ET.fromstring(plots.course(values, "x", "ms"))
    width, height = map(float, svg.attrib["viewBox"].split()[2:])
    line = svg.find("polyline")
    assert line is not None
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    assert len(points) == len(values)
    assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
    heights = [y for _, y in points]
    assert heights[values.index(max(values))] == min(heights)  # higher is larger


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])  # which makes, and holds, nothing
@given(times=st.lists(st.floats(1e-2, 1e5), min_size=1, max_size=9))
def test_bars_stay_in_their_picture_in_the_order_of_their_times(make_report: Make, times: list[float]) -> None:
    results = make_report(*((f"{number}.onnx", ms) for number, ms in enumerate(times))).results
    for picture in (
        (plots.latencies(results), plots.ratios(results)) if len(results) > 1 else (plots.latencies(results),)
    ):
        svg = ET.fromstring(picture)
        width, height = map(float, svg.attrib["viewBox"].split()[2:])
        for shape in svg.iter("rect"):
            x, y, w, h = (float(shape.attrib[name]) for name in ("x", "y", "width", "height"))
            assert -1 <= x <= x + w <= width + 4
            assert 0 <= y <= y + h <= height
        for line in svg.iter("line"):
            assert all(-1 <= float(line.attrib[name]) <= width + 1 for name in ("x1", "x2"))
    starts = [float(shape.attrib["x"]) for shape in ET.fromstring(plots.latencies(results)).iter("rect")]
    assert len(starts) == len(times)
    for i, one in enumerate(results):
        for j, other in enumerate(results):
            assert one.p50_ms > other.p50_ms or starts[i] <= starts[j]
