"""Which joints a model and a data set have in common, by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.errors import UserError
from bihrnet_edge.pose.keypoints import KeypointSet


@dataclass(frozen=True, eq=False)
class CommonJoints:
    """Joints that two keypoint sets both name, in the data set's order.

    Attributes:
        names: ``C`` joint names.
        model_index: ``(C,)``, where each is among the model's joints.
        dataset_index: ``(C,)``, where each is among the data set's.
        model_only, dataset_only: names that are left out.
    """

    names: tuple[str, ...]
    model_index: NDArray[np.intp]
    dataset_index: NDArray[np.intp]
    model_only: tuple[str, ...]
    dataset_only: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def all_of_both(self) -> bool:
        """Whether neither set has a joint that the other lacks."""
        return not self.model_only and not self.dataset_only

    def keypoint_set(self, dataset: KeypointSet) -> KeypointSet:
        """The common joints as a set of their own, with the limbs of ``dataset`` that lie between them."""
        place = {int(old): new for new, old in enumerate(self.dataset_index)}
        limbs = tuple((place[a], place[b]) for a, b in dataset.skeleton if a in place and b in place)
        name = dataset.name if not self.dataset_only else f"{dataset.name}, {len(self)} joints"
        return KeypointSet(name, self.names, limbs)


def common_joints(model: KeypointSet, dataset: KeypointSet) -> CommonJoints:
    """The joints that a model predicts and a data set labels.

    Joints are the same where their names are, and nowhere else. LSP labels a ``neck``, MPII a ``thorax`` and an
    ``upper_neck``, and neither says that two of these are one.

    Raises:
        UserError: there is none.
    """
    names = tuple(name for name in dataset.keypoints if name in model.keypoints)
    if not names:
        raise UserError(
            f"the model's joints ({model.name}: {', '.join(model.keypoints)}) and the data set's ({dataset.name}: "
            f"{', '.join(dataset.keypoints)}) have no name in common; evaluate on data with the model's joints."
        )
    return CommonJoints(
        names,
        np.array([model.keypoints.index(name) for name in names], np.intp),
        np.array([dataset.keypoints.index(name) for name in names], np.intp),
        tuple(name for name in model.keypoints if name not in names),
        tuple(name for name in dataset.keypoints if name not in names),
    )
