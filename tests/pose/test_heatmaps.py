"""The codec against plain loops that follow HRNet's and DARK's definitions, SciPy's blur and closed forms."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.dark import blur_kernel_for, blur_taps, taylor_steps
from bihrnet_edge.pose.heatmaps import DECODINGS, Decoding, decode, encode

try:
    from scipy import ndimage
except ImportError:  # it comes with the extra eval
    ndimage = None
needs_scipy = pytest.mark.skipif(ndimage is None, reason="scipy is not installed")

seeds = st.integers(0, 2**32 - 1)
decodings = pytest.mark.parametrize("decoding", DECODINGS)


def first_peak(heatmap: NDArray[np.float32]) -> tuple[int, int, float]:
    """The first of the highest pixels; the corner where nothing is positive."""
    height, width = heatmap.shape
    value, y, x = max((float(heatmap[y, x]), -y, -x) for y in range(height) for x in range(width))
    return (-x, -y, value) if value > 0 else (0, 0, value)


def quarter_by_loops(heatmap: NDArray[np.float32]) -> list[float]:
    height, width = heatmap.shape
    x, y, _ = first_peak(heatmap)
    if not (1 < x < width - 1 and 1 < y < height - 1):
        return [x, y]
    h = heatmap.tolist()
    along, down = h[y][x + 1] - h[y][x - 1], h[y + 1][x] - h[y - 1][x]
    return [x + 0.25 * (along > 0) - 0.25 * (along < 0), y + 0.25 * (down > 0) - 0.25 * (down < 0)]


def dark_by_loops(heatmap: NDArray[np.float32], kernel: int) -> tuple[list[float], bool]:
    """DARK on the whole heatmap, and whether the authors' code, which always steps, comes to the same."""
    height, width = heatmap.shape
    x, y, _ = first_peak(heatmap)
    if not (1 < x < width - 2 and 1 < y < height - 2):
        return [x, y], True
    blurred = heatmap.astype(float)
    if kernel == 3:  # OpenCV's weights, for which it has no sigma
        for axis in (0, 1):
            blurred = ndimage.correlate1d(blurred, [0.25, 0.5, 0.25], axis, mode="constant")
    elif kernel > 3:
        sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
        blurred = ndimage.gaussian_filter(blurred, sigma, mode="constant", radius=kernel // 2)
    if blurred.max() <= 0:
        return [x, y], False
    log = np.log(np.maximum(blurred * heatmap.max() / blurred.max(), 1e-10))
    gradient = np.array([log[y, x + 1] - log[y, x - 1], log[y + 1, x] - log[y - 1, x]]) / 2
    mixed = (log[y + 1, x + 1] - log[y - 1, x + 1] - log[y + 1, x - 1] + log[y - 1, x - 1]) / 4
    hessian = np.array([
        [(log[y, x + 2] - 2 * log[y, x] + log[y, x - 2]) / 4, mixed],
        [mixed, (log[y + 2, x] - 2 * log[y, x] + log[y - 2, x]) / 4],
    ])  # fmt: skip
    if np.linalg.eigvalsh(hessian).max() >= 0:
        return [x, y], False
    step = -np.linalg.solve(hessian, gradient)
    if np.abs(step).max() > 5:
        return [x, y], False
    return [x + float(step[0]), y + float(step[1])], True


def smooth_noise(seed: int, shape: tuple[int, ...], sigma: float = 1.5) -> NDArray[np.float32]:
    """Hills and hollows of about the size of a joint's heatmap, some of them negative."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    smooth: NDArray[np.float32] = ndimage.gaussian_filter(noise, (0, 0, sigma, sigma)).astype(np.float32)
    return smooth


def test_names_of_the_decodings() -> None:
    assert get_args(Decoding) == ("quarter", "dark")
    with pytest.raises(UserError, match="no decoding 'half'; choose one of quarter, dark"):
        decode(np.zeros((1, 1, 4, 4), np.float32), "half")  # type: ignore[arg-type]


@given(st.floats(2, 13), st.floats(2, 9), st.floats(0.8, 3))
def test_quarter_finds_an_encoded_point_within_a_quarter_pixel(x: float, y: float, sigma: float) -> None:
    heatmap = encode(np.array([[[x, y]]]), 12, 16, sigma)
    assert heatmap.shape == (1, 1, 12, 16)
    points, scores = decode(heatmap)
    assert np.abs(points[0, 0] - [x, y]).max() <= 0.2501
    assert scores[0, 0] == heatmap.max()


@given(seeds, st.integers(1, 7), st.integers(1, 7), st.integers(-4, 0))
def test_quarter_equals_loops(seed: int, height: int, width: int, lowest: int) -> None:
    """Small integers: ties, flat rows and heatmaps without a positive pixel are frequent."""
    heatmaps = np.random.default_rng(seed).integers(lowest, lowest + 4, (2, 3, height, width)).astype(np.float32)
    points, scores = decode(heatmaps)
    for n in range(2):
        for k in range(3):
            assert points[n, k].tolist() == quarter_by_loops(heatmaps[n, k])
            assert scores[n, k] == heatmaps[n, k].max()


@pytest.mark.parametrize(
    ("x", "y", "moves"),
    [(1, 5, False), (5, 1, False), (2, 2, True), (8, 8, True), (9, 5, False), (5, 9, False), (0, 0, False)],
)
def test_hrnet_moves_a_peak_only_inside_the_border(x: int, y: int, moves: bool) -> None:
    """``1 < x < w - 1`` and ``1 < y < h - 1`` for both axes together, in a heatmap of 10x10."""
    heatmap = np.zeros((1, 1, 12, 12), np.float32)
    heatmap[0, 0, y, x] = 1
    heatmap[0, 0, y + 1, x], heatmap[0, 0, y, x + 1] = 0.5, 0.5
    points, _ = decode(heatmap[..., :10, :10])
    assert points[0, 0].tolist() == ([x + 0.25, y + 0.25] if moves else [x, y])


@needs_scipy
@given(seeds, st.integers(5, 24), st.integers(5, 24), st.sampled_from([1, 3, 11, 17]))
def test_dark_equals_loops_over_a_whole_blur(seed: int, height: int, width: int, kernel: int) -> None:
    heatmaps = smooth_noise(seed, (2, 3, height, width))
    points, scores = decode(heatmaps, "dark", kernel)
    for n in range(2):
        for k in range(3):
            assert points[n, k] == pytest.approx(dark_by_loops(heatmaps[n, k], kernel)[0], abs=1e-6)
            assert scores[n, k] == heatmaps[n, k].max()


@needs_scipy
def test_dark_follows_the_authors_on_peaks_of_a_joint() -> None:
    """The cases in which the authors' code steps and this one does not are no peaks of a joint."""
    rng = np.random.default_rng(0)
    points = rng.uniform((4, 4), (43, 59), (50, 17, 2))
    heatmaps = encode(points, 64, 48, 2.0) * rng.uniform(0.1, 1, (50, 17, 1, 1)).astype(np.float32)
    heatmaps += 0.01 * smooth_noise(0, heatmaps.shape)
    found, _ = decode(heatmaps, "dark")
    for n in range(50):
        for k in range(17):
            expected, same = dark_by_loops(heatmaps[n, k], 11)
            assert same
            assert found[n, k] == pytest.approx(expected, abs=1e-6)
    # Closer to the truth than the quarter-pixel shift: the reason to have it.
    errors = {name: np.linalg.norm(decode(heatmaps, name)[0] - points, axis=2).mean() for name in DECODINGS}
    assert errors["dark"] < errors["quarter"] / 2


@given(st.floats(3, 12), st.floats(3, 8), st.floats(0.8, 3))
def test_dark_without_blur_is_exact_on_a_gaussian(x: float, y: float, sigma: float) -> None:
    """The logarithm of a Gaussian is a quadratic: one Newton step ends at its maximum."""
    points, _ = decode(encode(np.array([[[x, y]]]), 12, 16, sigma), "dark", blur_kernel=1)
    assert points[0, 0] == pytest.approx([x, y], abs=1e-4)


@given(st.floats(8, 40), st.floats(8, 56), st.sampled_from([2.0, 3.0]))
def test_dark_with_its_blur_finds_a_gaussian(x: float, y: float, sigma: float) -> None:
    """Away from the border, where the blur takes in pixels that are not there."""
    points, _ = decode(encode(np.array([[[x, y]]]), 64, 48, sigma), "dark")
    assert points[0, 0] == pytest.approx([x, y], abs=0.02)


@decodings
@given(st.data())
def test_decoding_does_not_depend_on_the_batch(decoding: Decoding, data: st.DataObject) -> None:
    heatmaps = np.random.default_rng(data.draw(seeds)).standard_normal((3, 2, 9, 7)).astype(np.float32)
    together = decode(heatmaps, decoding)
    for n in range(3):
        for k in range(2):
            alone = decode(heatmaps[n : n + 1, k : k + 1], decoding)
            assert alone[0][0, 0] == pytest.approx(together[0][n, k], abs=1e-9)
            assert alone[1][0, 0] == together[1][n, k]


@decodings
@given(st.data())
def test_a_mirrored_heatmap_gives_the_mirrored_point(decoding: Decoding, data: st.DataObject) -> None:
    x, y = data.draw(st.floats(4, 11)), data.draw(st.floats(4, 11))
    if abs(x % 1 - 0.5) < 1e-3 or x % 1 < 1e-3:
        return  # of two equal maxima the first counts, which the mirror swaps
    heatmap = encode(np.array([[[x, y]]]), 16, 16, 2.0)
    there, back = decode(heatmap, decoding)[0], decode(heatmap[..., ::-1].copy(), decoding)[0]
    assert back[0, 0] == pytest.approx([15 - there[0, 0, 0], there[0, 0, 1]], abs=1e-5)


@decodings
@pytest.mark.parametrize("level", [-3.0, -1e-30, 0.0, 1e-30, 0.5])
def test_a_flat_heatmap_has_its_point_in_the_corner(decoding: Decoding, level: float) -> None:
    points, scores = decode(np.full((2, 2, 8, 8), level, np.float32), decoding)
    assert not points.any()
    assert (scores == np.float32(level)).all()


@decodings
def test_a_heatmap_without_a_positive_pixel_has_no_peak(decoding: Decoding) -> None:
    heatmap = encode(np.array([[[4.0, 5.0]]]), 12, 12, 2.0) - 1.0
    points, scores = decode(heatmap, decoding)
    assert points.tolist() == [[[0, 0]]]
    assert scores.tolist() == [[0.0]]


@decodings
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.filterwarnings("error")
def test_values_that_are_not_finite_never_leave_the_heatmap(decoding: Decoding, value: float) -> None:
    heatmaps = np.repeat(encode(np.array([[[4.0, 5.0]]]), 12, 12, 2.0), 2, axis=0)
    heatmaps[1, 0, 6, 6] = value
    points, _ = decode(heatmaps, decoding)
    assert np.isfinite(points).all()
    assert points.min() >= 0
    assert points.max() <= 11
    assert points[0, 0] == pytest.approx([4, 5], abs=0.26)


@pytest.mark.filterwarnings("error")
def test_no_step_off_a_plateau_a_saddle_or_a_ridge() -> None:
    """Peaks that the blur turns into something without a maximum."""
    maps = np.full((3, 16, 16), 0.1, np.float32)
    maps[0, 6:11, 6:11] = 1.0  # a plateau: the first of its pixels is the maximum
    maps[1, 8, :] = 1.0  # a ridge along x: no curvature along it
    maps[2] = np.add.outer(np.arange(16.0) ** 2, -(np.arange(16.0) ** 2)) / 500 + 1  # a saddle
    x, y = np.array([6, 8, 8]), np.array([6, 8, 8])
    steps = taylor_steps(maps, x, y, 3)
    assert np.abs(steps[0]).max() <= 2  # towards the plateau's middle, which is concave
    assert steps[1:].tolist() == [[0, 0], [0, 0]]


def test_nothing_positive_after_the_blur_leaves_the_maximum_where_it_is() -> None:
    heatmap = np.full((1, 1, 64, 16), -1.0, np.float32)
    heatmap[0, 0, 8, 9] = 0.5
    points, _ = decode(heatmap, "dark")
    assert points.tolist() == [[[9, 8]]]


def test_blur_taps() -> None:
    assert blur_taps(1).tolist() == [1.0]
    weights = [math.exp(-(i**2) / (2 * 2.0**2)) for i in range(-5, 6)]  # sigma 2 for 11 pixels
    assert blur_taps(11) == pytest.approx([w / sum(weights) for w in weights], abs=1e-12)
    for kernel in (1, 3, 5, 7, 9, 11, 17):
        taps = blur_taps(kernel)
        assert len(taps) == kernel
        assert taps.sum() == pytest.approx(1)
        assert taps.tolist() == taps[::-1].tolist()
        # OpenCV's table of small kernels lies within a fortieth of the formula that continues it.
        sigma = 0.3 * ((kernel - 1) / 2 - 1) + 0.8
        gaussian = np.exp(-((np.arange(kernel) - kernel // 2) ** 2) / (2 * sigma**2))
        assert taps == pytest.approx(gaussian / gaussian.sum(), abs=0.025)
    assert [blur_kernel_for(height) for height in (24, 32, 64, 96)] == [3, 3, 11, 11]
    for kernel in (0, -1, 4):
        with pytest.raises(UserError, match="give an odd number"):
            blur_taps(kernel)


def test_encode_by_hand() -> None:
    heatmap = encode(np.array([[[1.0, 0.0]]]), 2, 3, sigma=1.0)[0, 0]
    assert heatmap[0] == pytest.approx([np.exp(-0.5), 1.0, np.exp(-0.5)])
    assert heatmap[1, 0] == pytest.approx(np.exp(-1.0))


@given(seeds, st.floats(0.5, 4))
def test_encode_equals_loops(seed: int, sigma: float) -> None:
    points: NDArray[Any] = np.random.default_rng(seed).uniform(-3, 12, (2, 2, 2))
    heatmaps = encode(points, 7, 9, sigma)
    assert heatmaps.dtype == np.float32
    for n, k, y, x in np.ndindex(heatmaps.shape):
        distance = math.hypot(x - points[n, k, 0], y - points[n, k, 1])
        assert heatmaps[n, k, y, x] == pytest.approx(math.exp(-(distance**2) / (2 * sigma**2)), abs=1e-6)


@decodings
def test_empty_batch(decoding: Decoding) -> None:
    points, scores = decode(np.zeros((0, 3, 4, 4), np.float32), decoding)
    assert points.shape == (0, 3, 2)
    assert scores.shape == (0, 3)
