"""How far two models' keypoints lie apart on the same people, whatever the truth is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Keypoints agree within this part of a heatmap pixel, the step of the quarter-pixel decoding.
QUARTER = 0.25
#: Of a heatmap pixel: what float32 coordinates of large images round by, with room.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Spread:
    """Of distances: mean, median, 95th percentile and maximum; NaN where there are none."""

    mean: float
    p50: float
    p95: float
    max: float

    @classmethod
    def of(cls, distances: NDArray[np.float64]) -> Spread:
        """Of the finite values of an array of any shape."""
        known = distances[np.isfinite(distances)]
        if not known.size:
            return cls(*[float("nan")] * 4)
        p50, p95 = np.quantile(known, [0.5, 0.95])
        return cls(float(known.mean()), float(p50), float(p95), float(known.max()))


@dataclass(frozen=True, eq=False)
class KeypointDifferences:
    """Outcome of :func:`keypoint_differences`.

    Attributes:
        pixels: distances in image pixels.
        normalised: distances divided by each person's length; people without a length are left out.
        per_joint: ``pixels`` for each joint alone.
        within_quarter: share, 0 to 1, of the compared keypoints no further apart than a quarter of a heatmap
            pixel; NaN where none was compared.
        compared: keypoints.
        not_finite: compared keypoints that one model or both put nowhere; they count as further apart.
        distances: ``(P, K)`` in image pixels; NaN where not compared or not finite.
    """

    pixels: Spread
    normalised: Spread
    per_joint: tuple[Spread, ...]
    within_quarter: float
    compared: int
    not_finite: int
    distances: NDArray[np.float64]

    def to_dict(self) -> dict[str, Any]:
        """Without the distances."""
        return {
            "pixels": asdict(self.pixels),
            "normalised": asdict(self.normalised),
            "per_joint": [asdict(spread) for spread in self.per_joint],
            "within_quarter_heatmap_pixel": self.within_quarter,
            "compared": self.compared,
            "not_finite": self.not_finite,
        }


def keypoint_differences(
    reference: ArrayLike,
    artifact: ArrayLike,
    lengths: ArrayLike,
    heatmap_pixels: ArrayLike,
    compared: NDArray[np.bool_] | None = None,
) -> KeypointDifferences:
    """Distances between paired keypoints.

    Args:
        reference, artifact: ``(P, K, 2)`` in image pixels.
        lengths: ``(P,)`` in image pixels, e.g. head or torso; NaN or 0 where a person has none.
        heatmap_pixels: ``(P,)``, image pixels that one heatmap pixel covers: the crop's width by the heatmap's.
        compared: ``(P, K)``; all unless given.
    """
    one, other = np.asarray(reference, np.float64), np.asarray(artifact, np.float64)
    chosen = np.ones(one.shape[:2], bool) if compared is None else np.asarray(compared, bool)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        apart = np.linalg.norm(one - other, axis=-1)
    distances = np.where(chosen & np.isfinite(apart), apart, np.nan)
    length = np.asarray(lengths, np.float64)
    known = np.isfinite(length) & (length > 0)
    normalised = distances[known] / length[known, None]
    limit = (QUARTER + _ROUNDING) * np.asarray(heatmap_pixels, np.float64)[:, None]
    count = int(chosen.sum())
    return KeypointDifferences(
        Spread.of(distances),
        Spread.of(normalised),
        tuple(Spread.of(distances[:, joint]) for joint in range(distances.shape[1])),
        int((distances <= limit).sum()) / count if count else float("nan"),
        count,
        int((chosen & ~np.isfinite(apart)).sum()),
        distances,
    )
