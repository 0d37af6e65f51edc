from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bihrnet_edge.data.results import KeypointResults, read_results, write_results
from bihrnet_edge.errors import UserError


@st.composite
def results(draw: st.DrawFn) -> KeypointResults:
    count = draw(st.integers(0, 4))
    return KeypointResults(
        draw(hnp.arrays(np.int64, count, elements=st.integers(-(2**63), 2**63 - 1))),
        draw(hnp.arrays(np.float32, (count, 5, 3), elements=st.floats(width=32, allow_infinity=True))),
        draw(hnp.arrays(np.float64, count, elements=st.floats(-1e30, 1e30))),
    )


@given(results())
def test_reads_back_what_it_wrote(one: KeypointResults) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json"
        write_results(path, one)
        again, skipped = read_results(path, 5)
        assert all(record["category_id"] == 1 for record in json.loads(path.read_text()))
    known = np.isfinite(one.keypoints).all(axis=2, keepdims=True)
    np.testing.assert_array_equal(again.keypoints, np.where(known, one.keypoints, 0))
    np.testing.assert_array_equal(again.image_ids, one.image_ids)
    np.testing.assert_array_equal(again.scores, one.scores)
    assert not skipped.counts


def record(**changes: Any) -> dict[str, Any]:
    return {"image_id": 4, "category_id": 1, "keypoints": [1, 2, 0.5] * 5, "score": 0.9} | changes


def test_counts_and_names_what_it_leaves_out(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    entries = [
        record(),
        record(category_id=3),
        record(keypoints=[float("nan")] * 15),
        record(keypoints=[1, 2, 3]),
        record(keypoints="joints"),
        record(score=float("nan")),
        record(score=10**400),
        record(score=None),
    ]
    path.write_text(json.dumps(entries))
    found, skipped = read_results(path, 5)
    assert found.image_ids.tolist() == [4]
    assert skipped.counts == {"wrong category": 1, "malformed keypoints": 3, "malformed score": 3}
    assert skipped.examples["malformed keypoints"] == (
        "prediction 2: keypoints holds NaN or infinity",
        "prediction 3: keypoints has 3 numbers, not 15",
        "prediction 4: keypoints holds something that is not a number",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "results file .* is not JSON"),
        (b"{}", "the file is not a list"),
        (b"[3]", "prediction 0 has no 'image_id'"),
        (b'[{"image_id": 1.5}]', "image_id is 1.5, not a whole number"),
        (b'[{"image_id": 18446744073709551616}]', "image_id is 18446744073709551616, which is too large"),
        (b'[{"image_id": 1, "keypoints": []}]', "prediction 0 has no 'score'"),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_results(path, 5)


def test_a_missing_file_and_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_results(tmp_path / "gone.json", 5)
    nobody = KeypointResults(np.empty(0, np.int64), np.empty((0, 5, 3)), np.empty(0))
    with pytest.raises(UserError, match="cannot write"):
        write_results(tmp_path / "gone" / "results.json", nobody)


def test_refuses_arrays_that_do_not_fit(tmp_path: Path) -> None:
    ids, points = np.arange(2), np.zeros((2, 5, 3))
    with pytest.raises(ValueError, match="keypoints have shape"):
        KeypointResults(ids, points[:1], np.zeros(2))
    with pytest.raises(ValueError, match="scores have shape"):
        KeypointResults(ids, points, np.zeros(3))
    with pytest.raises(ValueError, match="not finite"):
        write_results(tmp_path / "results.json", KeypointResults(ids, points, np.array([1, np.nan])))
