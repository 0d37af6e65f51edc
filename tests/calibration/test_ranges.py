"""Ranges as a file: what is written is read, and what is damaged is refused with its place."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from bihrnet_edge.calibration.mixed import Sensitivity
from bihrnet_edge.calibration.ranges import Ranges, read_ranges, write_ranges
from bihrnet_edge.errors import UserError

DIGEST = "0123456789abcdef" * 4
RANGES = Ranges(
    "net", DIGEST, "mse", 16, "people.json", DIGEST, (DIGEST,), {"stem.0.bn": (-1.5, 2.0), "head": (0.0, 0.25)}
)

SENSITIVITY = Sensitivity(8, 0.5, 0.125, {"stem.0.bn": 0.25, "head": 0.0}, ("stem.0.bn",)).to_dict()


def test_round_trip(tmp_path: Path) -> None:
    swept = Sensitivity(8, 0.5, 0.125, {"stem.0.bn": 0.25, "head": 0.0}, ("stem.0.bn",))
    more: list[dict[str, Any]] = [{}, {"sensitivity": swept}, {"offset": (0.5, -1.0)}]
    for ranges in (dataclasses.replace(RANGES, **fields) for fields in more):
        write_ranges(tmp_path / "deep" / "ranges.json", ranges)
        assert read_ranges(tmp_path / "deep" / "ranges.json") == ranges


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1}, "version 1, this bihrnet-edge reads 2"),
        ({"version": True}, "no usable 'version'"),
        ({"model": 3}, "no usable 'model'"),
        ({"images": "many"}, "no usable 'images'"),
        ({"weights_sha256": "short"}, "'short' where a SHA-256"),
        ({"image_sha256": [7]}, "7 where a SHA-256"),
        ({"activations": []}, "no usable 'activations'"),
        ({"activations": {"x": [1.0, 2.0]}}, "activation 'x'.*no range of two finite numbers with zero between"),
        ({"activations": {"x": [0.0, float("inf")]}}, "activation 'x'.*no range"),
        ({"activations": {"x": [0.0, float("nan")]}}, "activation 'x'.*no range"),
        ({"activations": {"x": [False, 1.0]}}, "activation 'x'.*no range"),
        ({"activations": {"x": 1.0}}, "activation 'x'.*no range"),
        ({"offset": None}, "no usable 'offset'"),
        ({"offset": [0.5, "much"]}, "offset, hold 'much' where a finite number"),
        ({"offset": [float("inf")]}, "offset, hold inf where a finite number"),
        ({"offset": [True]}, "offset, hold True where a finite number"),
        ({"sensitivity": 3}, "no usable 'sensitivity'"),
        ({"sensitivity": SENSITIVITY | {"alone": {"head": 0.5}}}, "name other activations than the ranges"),
        ({"sensitivity": SENSITIVITY | {"kept": ["tail"]}}, "name other activations than the ranges"),
        ({"sensitivity": SENSITIVITY | {"kept": [[]]}}, "name other activations than the ranges"),
        ({"sensitivity": SENSITIVITY | {"int8": -1.0}}, "hold -1.0 where an error, 0 or greater"),
        ({"sensitivity": SENSITIVITY | {"mixed": float("nan")}}, "hold nan where an error, 0 or greater"),
    ],
)
def test_damage_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "ranges.json"
    path.write_text(json.dumps(RANGES.to_dict() | change))
    with pytest.raises(UserError, match=message):
        read_ranges(path)


@pytest.mark.parametrize("content", ["", "[1]", "3", '{"version": 1', "\x00"])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "ranges.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"ranges\.json"):
        read_ranges(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read .*check the path"):
        read_ranges(tmp_path / "none.json")


def test_checking_on_what_calibrated_is_refused(tmp_path: Path) -> None:
    seen, unseen = tmp_path / "renamed.png", tmp_path / "other.png"
    seen.write_bytes(b"one")
    unseen.write_bytes(b"two")
    ranges = dataclasses.replace(RANGES, image_sha256=(hashlib.sha256(b"one").hexdigest(),))
    ranges.refuse_images([unseen])
    with pytest.raises(UserError, match=r"renamed\.png has the same content as one that calibrated"):
        ranges.refuse_images([unseen, seen])


def test_other_weights_are_refused() -> None:
    RANGES.refuse_other_weights(DIGEST, "net.pt")
    with pytest.raises(UserError, match=r"calibrated with other weights \(of 'net'\) than those of other\.pt"):
        RANGES.refuse_other_weights("f" * 64, "other.pt")
