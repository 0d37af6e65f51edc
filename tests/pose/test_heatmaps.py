from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bihrnet_edge.pose.heatmaps import decode, encode


@given(st.floats(2, 13), st.floats(2, 9), st.floats(0.8, 3))
def test_decoding_finds_an_encoded_point_within_a_quarter_pixel(x: float, y: float, sigma: float) -> None:
    heatmap = encode(np.array([[[x, y]]]), 12, 16, sigma)
    assert heatmap.shape == (1, 1, 12, 16)
    points, scores = decode(heatmap)
    assert np.abs(points[0, 0] - [x, y]).max() <= 0.2501
    assert scores[0, 0] == heatmap.max()


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5))
def test_decode_equals_loops(seed: int, height: int, width: int) -> None:
    heatmaps = np.random.default_rng(seed).integers(0, 4, (2, 3, height, width)).astype(np.float32)
    points, scores = decode(heatmaps)
    for n in range(2):
        for k in range(3):
            h = heatmaps[n, k]
            best = max((h[y, x], -y, -x) for y in range(height) for x in range(width))
            y, x = -best[1], -best[2]
            dx = 0.25 * np.sign(h[y, x + 1] - h[y, x - 1]) if 0 < x < width - 1 else 0.0
            dy = 0.25 * np.sign(h[y + 1, x] - h[y - 1, x]) if 0 < y < height - 1 else 0.0
            assert points[n, k].tolist() == [x + dx, y + dy]
            assert scores[n, k] == best[0]


def test_encode_by_hand() -> None:
    heatmap = encode(np.array([[[1.0, 0.0]]]), 2, 3, sigma=1.0)[0, 0]
    assert heatmap[0] == pytest.approx([np.exp(-0.5), 1.0, np.exp(-0.5)])
    assert heatmap[1, 0] == pytest.approx(np.exp(-1.0))


def test_empty_batch() -> None:
    points, scores = decode(np.zeros((0, 3, 4, 4), np.float32))
    assert points.shape == (0, 3, 2)
    assert scores.shape == (0, 3)
