"""Object keypoint similarity and the average precision that COCO derives from it.

https://cocodataset.org/#keypoints-eval; the library and why it: ``docs/decisions/0007-oks-library.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bihrnet_edge.data.results import PERSON, KeypointResults
from bihrnet_edge.data.truth import CocoTruth
from bihrnet_edge.errors import UserError, require_module

INSTALL = 'install it with: pip install "bihrnet-edge[eval]"'

#: Spread of annotators per joint, in COCO's order: https://cocodataset.org/#keypoints-eval, section 1.3.
COCO_SIGMAS: NDArray[np.float64] = np.array(
    [0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
     0.089]
)  # fmt: skip
COCO_SIGMAS.flags.writeable = False

_FAR = 1e9  # pixels; at that distance a joint's similarity is 0 in any image
_FIGURES = ("ap", "ap50", "ap75", "apm", "apl", "ar", "ar50", "ar75", "arm", "arl")


def oks(
    predictions: NDArray[np.floating[Any]],
    truth: NDArray[np.floating[Any]],
    area: ArrayLike,
    sigmas: NDArray[np.float64] = COCO_SIGMAS,
    visible: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Object keypoint similarity: the labelled joints' mean of ``exp(-d^2 / (2 (2 sigma)^2 area))``, 0 to 1.

    Args:
        predictions: ``(..., K, 2)`` in pixels; a NaN joint contributes 0.
        truth: the same, broadcast against ``predictions``.
        area: ``(...)`` in square pixels.
        sigmas: ``(K,)``.
        visible: bool ``(..., K)``, the joints that count; all unless given. Where none does the result is 0.
    """
    difference = np.asarray(predictions, np.float64) - np.asarray(truth, np.float64)
    squared = np.einsum("...i,...i->...", difference, difference)
    # The least double is COCO's own guard against an area of 0.
    scale = (2 * sigmas) ** 2 * (np.asarray(area, np.float64)[..., None] + np.spacing(1)) * 2
    similarity = np.nan_to_num(np.exp(-squared / scale), nan=0.0)
    if visible is None:
        return np.asarray(similarity.mean(axis=-1))
    counted = np.broadcast_to(visible, similarity.shape)
    return np.asarray((similarity * counted).sum(axis=-1) / np.maximum(counted.sum(axis=-1), 1))


@dataclass(frozen=True)
class OksResult:
    """COCO's ten figures for keypoints, in per cent; NaN where the images hold nobody to score.

    Attributes:
        ap: mean of the average precision at OKS 0.50, 0.55, ... 0.95.
        ap50, ap75: at one threshold.
        apm, apl: people of 32^2 to 96^2 square pixels, and larger ones.
        ar, ar50, ar75, arm, arl: the recall, likewise.
        images: images evaluated.
        people: people scored; ``ignored`` more are neither right nor wrong when predicted.
        predictions: predictions scored. COCO counts the 20 with the highest scores of an image.
        skipped: predictions left out, by reason.
    """

    ap: float
    ap50: float
    ap75: float
    apm: float
    apl: float
    ar: float
    ar50: float
    ar75: float
    arm: float
    arl: float
    images: int
    people: int
    ignored: int
    predictions: int
    skipped: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable; NaN becomes None."""
        return {key: None if value != value else value for key, value in asdict(self).items()}


def evaluate_oks(
    truth: CocoTruth,
    results: KeypointResults,
    image_ids: Iterable[int] | None = None,
    sigmas: NDArray[np.float64] = COCO_SIGMAS,
) -> OksResult:
    """Score predictions by COCO's keypoint protocol.

    Args:
        truth: the annotations.
        results: predictions with the truth's joints. One that has a NaN joint is not credited for it.
        image_ids: evaluate these images only; all of ``truth`` unless given.
        sigmas: ``(K,)`` of the joints.

    Raises:
        UserError: no image is left, the truth lacks areas, the joints do not fit, or the library is missing.
    """
    if image_ids is not None:
        truth = truth.of_images(image_ids)
    joints = len(sigmas)
    for what, count in (("annotations", truth.keypoints.shape[1]), ("predictions", results.keypoints.shape[1])):
        if count != joints:
            raise UserError(f"OKS is defined for {joints} joints here, the {what} have {count}; use COCO's joints.")
    if not len(truth.images):
        raise UserError("OKS: no image is left to evaluate; give annotations of the images that were predicted.")
    unknown = int(np.isnan(truth.areas).sum())
    if unknown:
        raise UserError(f"{unknown} annotations have no 'area', which OKS needs; add the area of the person's segment.")

    skipped: dict[str, int] = {}
    kept = np.ones(len(results), bool)
    for reason, usable in (
        ("prediction with NaN or infinity as score", np.isfinite(results.scores)),
        ("prediction outside the evaluated images", np.isin(results.image_ids, truth.images)),
    ):
        if count := int((kept & ~usable).sum()):
            skipped[reason] = count
        kept &= usable
    if skipped:
        results = results.take(kept)
    figures = dict(zip(_FIGURES, _library_figures(truth, results, sigmas), strict=True))
    ignored = int(truth.ignored.sum())
    return OksResult(
        **figures,
        images=len(truth.images),
        people=len(truth) - ignored,
        ignored=ignored,
        predictions=len(results),
        skipped=skipped,
    )


def _library_figures(truth: CocoTruth, results: KeypointResults, sigmas: NDArray[np.float64]) -> list[float]:
    library = require_module("faster_coco_eval", "scoring by OKS", INSTALL)

    def silent(*_: object) -> None:
        """Take the library's chatter."""

    document = {
        "images": [{"id": image} for image in truth.images.tolist()],
        "categories": [{"id": PERSON, "name": "person"}],
    }
    annotated = library.COCO({**document, "annotations": list(_truth_records(truth))}, print_function=silent)
    predicted = library.COCO({**document, "annotations": list(_result_records(results))}, print_function=silent)
    evaluation = library.COCOeval_faster(
        annotated, predicted, "keypoints", print_function=silent, kpt_oks_sigmas=sigmas.tolist()
    )
    evaluation.params.catIds = [PERSON]  # also where there is nobody to find
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    # The library says -1 where there is nothing to average.
    return [100.0 * float(value) if value >= 0 else float("nan") for value in evaluation.stats[: len(_FIGURES)]]


def _truth_records(truth: CocoTruth) -> Iterator[dict[str, Any]]:
    """COCO's annotations; joints are views of the arrays, which keeps memory at a fifth of lists of numbers."""
    flat = truth.keypoints.reshape(len(truth), 3 * truth.keypoints.shape[1])
    labelled = np.where(truth.ignored, 0, (truth.keypoints[..., 2] > 0).sum(axis=1)).tolist()
    for row, (image_id, box, area, crowd) in enumerate(
        zip(truth.image_ids.tolist(), truth.boxes.tolist(), truth.areas.tolist(), truth.crowd.tolist(), strict=True)
    ):
        yield {
            "id": row + 1,  # the protocol's 0 means unmatched
            "image_id": image_id,
            "category_id": PERSON,
            "iscrowd": int(crowd),
            "bbox": box,
            "area": area,
            "keypoints": flat[row],
            "num_keypoints": labelled[row],
        }


def _result_records(results: KeypointResults) -> Iterator[dict[str, Any]]:
    points = np.asarray(results.keypoints, np.float64)
    missing = ~np.isfinite(points[..., :2]).all(axis=-1)
    areas = np.ones(len(points))
    # What COCO takes for a prediction's area: the box around its joints.
    for axis in (0, 1):
        largest = points[..., axis].max(axis=1, where=~missing, initial=-np.inf)
        smallest = points[..., axis].min(axis=1, where=~missing, initial=np.inf)
        areas *= np.where(missing.all(axis=1), 0.0, largest - smallest)
    if missing.any():
        points = points.copy()
        points[missing, :2] = _FAR
    flat = points.reshape(len(results), 3 * points.shape[1])
    for row, (image_id, score, area) in enumerate(
        zip(results.image_ids.tolist(), results.scores.tolist(), areas.tolist(), strict=True)
    ):
        yield {
            "id": row + 1,
            "image_id": image_id,
            "category_id": PERSON,
            "score": score,
            "area": area,
            "keypoints": flat[row],
        }
