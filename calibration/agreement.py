"""How closely one model's heatmaps follow another's on the same images.

Rounding flips a few signs near zero and the flips spread, so two correct builds of one binary network
agree statistically, not bit for bit: correlation and decoded positions say what a difference costs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.pose.heatmaps import decode

#: A joint agrees when both models decode it within this distance, in pixels of the network's input.
AGREEING_PIXELS = 0.25


@dataclass
class Agreement:
    """Running comparison of heatmaps ``(N, K, h, w)`` with a reference's.

    Attributes:
        stride: input pixels per heatmap pixel.
        max_abs_diff: largest difference of any heatmap pixel; NaN where a heatmap is not finite.
        correlations: Pearson correlation of each image's heatmaps, all joints together.
        distances: between decoded joints, input pixels, one array ``(N, K)`` a batch.
    """

    stride: int
    max_abs_diff: float = 0.0
    correlations: list[float] = field(default_factory=list)
    distances: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, reference: NDArray[np.float32], other: NDArray[np.float32]) -> None:
        """Compare one more batch."""
        # Unlike max() and min(), NumPy's do not lose a NaN by the order of their arguments.
        self.max_abs_diff = float(np.maximum(self.max_abs_diff, np.abs(reference - other).max()))
        for a, b in zip(reference, other, strict=True):
            self.correlations.append(_correlation(a, b))
        distance = np.linalg.norm(decode(reference)[0] - decode(other)[0], axis=2) * self.stride
        self.distances.append(distance)

    @property
    def keypoints_within(self) -> float:
        """Share of joints that decode within :data:`AGREEING_PIXELS`, 0 to 1."""
        return float((np.concatenate(self.distances) <= AGREEING_PIXELS).mean())

    @property
    def median_correlation(self) -> float:
        """Of the images; NaN where a heatmap is not finite."""
        return float(np.median(self.correlations))

    def to_dict(self) -> dict[str, Any]:
        return {
            "images": len(self.correlations),
            "max_abs_heatmap_diff": self.max_abs_diff,
            "heatmap_correlation_min": float(np.min(self.correlations)),
            "heatmap_correlation_median": self.median_correlation,
            "keypoints_within_quarter_pixel": self.keypoints_within,
        }


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    x, y = (v.astype(np.float64).ravel() - v.mean(dtype=np.float64) for v in (a, b))
    norm = float(np.sqrt((x @ x) * (y @ y)))
    if norm == 0.0:  # a constant heatmap correlates with nothing but an equal one
        return 1.0 if np.array_equal(a, b) else 0.0
    return float(x @ y) / norm
