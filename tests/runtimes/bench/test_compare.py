from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes.bench.compare import compare_reports
from bihrnet_edge.runtimes.bench.report import BenchReport, parse_report, read_report

Make = Callable[..., BenchReport]


def test_what_became_slower(make_report: Make) -> None:
    before = make_report(("a/one.tflite", 30.0), ("two.tflite", 20.0), ("one.tflite", 20.0, 2), ("gone.onnx", 5.0))
    now = make_report(("b/one.tflite", 33.0), ("two.tflite", 20.0), ("one.tflite", 20.4, 2), ("new.onnx", 5.0), seed=1)
    comparison = compare_reports(now, before, "old.json")
    assert [change.name.partition(" ")[0] for change in comparison.changes] == [
        "one.tflite",
        "two.tflite",
        "one.tflite",
    ]
    slower, same, little = comparison.changes
    assert slower.ratio.value == pytest.approx(1.1, rel=0.01)
    assert slower.is_slower(5)
    assert not slower.is_slower(15)
    assert 1 in same.ratio
    assert not same.is_slower(0)
    assert not little.is_slower(5)
    assert little.is_slower(1)
    assert comparison.regressions(5) == [slower]
    assert [name.partition(" ")[0] for name in comparison.unmatched] == ["gone.onnx", "new.onnx"]


def test_a_large_but_unsure_change_is_no_regression(make_report: Make) -> None:
    before, now = make_report(("one.tflite", 30.0)), make_report(("one.tflite", 30.0))
    wild = tuple((20.0,) if number % 2 else (60.0,) for number in range(20))
    now = dataclasses.replace(now, results=(dataclasses.replace(now.results[0], turns_ms=wild),))
    (change,) = compare_reports(now, before, "old.json").changes
    assert change.ratio.value == pytest.approx(40 / 30, rel=0.01)
    assert not change.is_slower(5)


def test_files_of_one_name_are_matched_in_order(make_report: Make) -> None:
    report = make_report(("a/one.tflite", 30.0), ("b/one.tflite", 20.0))
    assert [change.ratio.value for change in compare_reports(report, report, "old.json").changes] == [1, 1]


def test_runs_that_cannot_be_compared(make_report: Make) -> None:
    report = make_report(("one.tflite", 30.0))
    other = dataclasses.replace(report.machine, board="Raspberry Pi 4")
    with pytest.raises(UserError, match=r"old\.json was measured on Raspberry Pi 4, .* runs of one machine"):
        compare_reports(report, dataclasses.replace(report, machine=other), "old.json")
    with pytest.raises(UserError, match=r"none of these contenders, but two\.tflite \(litert"):
        compare_reports(report, make_report(("two.tflite", 30.0)), "old.json")


def test_json_and_back(make_report: Make, tmp_path: Path) -> None:
    report = make_report(("one.tflite", 30.0), ("two.tflite", 20.0))
    short = dataclasses.replace(
        report.results[1], ratio=dataclasses.replace(report.results[1].ratio, low=0.0, high=float("inf"))
    )  # type: ignore[type-var]
    for one in (report, dataclasses.replace(report, results=(report.results[0], short))):
        values = json.loads(json.dumps(one.to_dict(), allow_nan=False))
        again = parse_report(values, "x")
        assert again.to_dict() == one.to_dict()
        assert again.results[1].ratio == one.results[1].ratio
    path = tmp_path / "r.json"
    path.write_text(json.dumps(report.to_dict()))
    assert read_report(path).machine == report.machine


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"version": 99}', "[" * 100_000])
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"r\.json is (not JSON|no result)"):
        read_report(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_report(tmp_path / "none.json")


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # it makes the same report every time
@given(data=st.data())
def test_damaged_results_are_refused_or_compared(make_report: Make, data: st.DataObject) -> None:
    now = make_report(("one.tflite", 30.0), ("two.tflite", 20.0))
    values = json.loads(json.dumps(now.to_dict()))
    place: Any = values
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(st.sampled_from([None, [], {}, "x", -1, [[]], [[0.0]]]))
            break
        place = place[key]
    with contextlib.suppress(UserError):
        comparison = compare_reports(now, parse_report(values, "r.json"), "r.json")
        assert all(f"{change.name} {change.before_ms:.2f} {change.ratio.range}" for change in comparison.changes)
