"""The whole codec on real annotations: crop, encode, decode and back give the truth again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bihrnet_edge.data.dataset import load_annotations
from bihrnet_edge.metrics.pck import metric_for
from bihrnet_edge.pose.crop import box_to_crop
from bihrnet_edge.pose.flip import mirror_heatmaps
from bihrnet_edge.pose.heatmaps import DECODINGS, Decoding, encode
from bihrnet_edge.runtimes.estimator import poses

SETS = {
    "coco_mini": ("annotations/person_keypoints_val2017.json", "val2017"),
    "mpii_sample": ("test_mpii.json", "."),
    "lspet": ("person_keypoints_val.json", "images"),
}
#: Largest distance in heatmap pixels: a quarter along both axes, and what DARK's blur adds inside the border.
LIMITS: dict[Decoding, float] = {"quarter": 0.2501 * 2**0.5, "dark": 0.03}
BORDER = 8  # heatmap pixels: half DARK's kernel and the second differences


@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("size", [(64, 48), (64, 64), (96, 72)], ids=str)
@pytest.mark.parametrize("name", SETS)
def test_truth_comes_back(shared_data: Path, name: str, size: tuple[int, int], decoding: Decoding) -> None:
    annotations, images = SETS[name]
    folder = shared_data / name
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    data = load_annotations(folder / annotations, folder / images)
    people = data.people[:100]
    crops = [box_to_crop(person.box, size[1] / size[0]) for person in people]
    truth = np.stack([person.keypoints for person in people]).astype(float)
    points = np.stack([crop.to_input(joints, size) for crop, joints in zip(crops, truth, strict=True)])
    heatmaps = encode(points, *size, sigma=size[0] / 32)
    found = poses(heatmaps, crops, decoding)

    pixel = np.array([crop.width / size[1] for crop in crops])
    apart = np.linalg.norm(found[..., :2] - truth, axis=2) / pixel[:, None]
    inside = ((points >= BORDER) & (points <= np.array([size[1], size[0]]) - 1 - BORDER)).all(axis=2)
    visible = np.stack([person.visible for person in people])
    assert (inside & visible).sum() > 20
    assert apart[inside & visible].max() <= LIMITS[decoding] + 1e-3
    everything = (points > 2).all(axis=2) & (points < np.array([size[1], size[0]]) - 3).all(axis=2)
    assert apart[everything & visible].max() < 1

    # The mirror's heatmaps lead to the same joints, moved by what HRNet's shift leaves out of account.
    mirrored = encode(np.array([size[1] - 1, 0]) + points * [-1, 1], *size, sigma=size[0] / 32)
    order = [data.keypoints.keypoints.index(_other(joint)) for joint in data.keypoints.keypoints]
    back = mirror_heatmaps(mirrored[:, order], data.keypoints, shift=False)
    np.testing.assert_allclose(back, heatmaps, atol=1e-6)

    result = metric_for(data.keypoints)(np.where(everything[..., None], found[..., :2], truth), people)
    assert result.mean == 100


def _other(joint: str) -> str:
    side, _, name = joint.partition("_")
    return {"left": f"right_{name}", "right": f"left_{name}"}.get(side, joint)
