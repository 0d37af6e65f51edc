"""The people of a run: training crops, those set apart to choose by, and validation crops; sampling and measuring."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from bihrnet_edge.data.dataset import PoseDataset
from bihrnet_edge.errors import UserError
from bihrnet_edge.metrics.pck import pck, torso_length
from bihrnet_edge.model.config import HEATMAP_STRIDE
from bihrnet_edge.pose.heatmaps import decode
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.training.augment import Batch
from bihrnet_edge.training.crops import CropCache
from bihrnet_edge.training.networks import phase_metadata
from bihrnet_edge.training.phase import Phase
from bihrnet_edge.training.processes import gather, share_of
from bihrnet_edge.training.recipe import Recipe

_REESTIMATION_BATCHES = 60
_EVALUATION_BATCH = 64
#: Number of seeds that torch takes.
_SEEDS = 2**63


def generator_of(seed: int) -> torch.Generator:
    """A generator for a seed of any size."""
    return torch.Generator().manual_seed(seed % _SEEDS)


def tuning_split(dataset: PoseDataset, share: float) -> tuple[Tensor, Tensor]:
    """Indices of the people to train on and of those to choose by; all people of one image are on one side.

    An image's side depends on its file name alone, so that it stays where it is when others come and go.
    """
    chosen = []
    for person in dataset.people:
        digest = hashlib.sha256(person.image_path.name.encode()).digest()
        chosen.append(int.from_bytes(digest[:8], "big") < share * 2**64)
    tuning = torch.tensor(chosen, dtype=torch.bool)
    return (~tuning).nonzero()[:, 0], tuning.nonzero()[:, 0]


class People:
    """Crops and indices of a run's people.

    Attributes:
        train, val: the crops.
        training, tuning: indices into ``train``.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        train: PoseDataset,
        val: PoseDataset,
        progress: Callable[[str, int, int, dict[str, float]], None],
    ) -> None:
        self.recipe, self.keypoints = recipe, train.keypoints
        self.training, self.tuning = tuning_split(train, recipe.tuning_share)
        if recipe.tuning_share and (not len(self.tuning) or not len(self.training)):
            raise UserError(
                f"recipe {recipe.name}: tuning_share {recipe.tuning_share} leaves {len(self.training)} people to train "
                f"on and {len(self.tuning)} to choose by; give another share or more people."
            )

        def cache(dataset: PoseDataset, split: str) -> CropCache:
            return CropCache.build(
                dataset,
                phase_metadata(recipe, recipe.phases[0], self.keypoints),
                canvas_height=recipe.canvas,
                cache=folder / f"{split}-crops.npy",
                progress=lambda done, total: progress(f"reading {split}", done, total, {}),
            )

        self.train, self.val = cache(train, "train"), cache(val, "val")

    def to(self, device: torch.device) -> None:
        """Move all crops to the accelerator."""
        for crops in (self.train, self.val):
            crops.to(device)

    def per_epoch(self, phase: Phase) -> int:
        """Steps of an epoch; what does not fill a batch waits for the next epoch's order."""
        steps = len(self.training) // phase.batch
        if steps == 0:
            raise UserError(
                f"phase {phase.name}: batch {phase.batch} is larger than the training set of {len(self.training)}."
            )
        return steps

    def steps(self, phase: Phase, seed: int, start: int) -> Iterator[tuple[int, Tensor]]:
        """Steps from ``start`` on with the global batch's indices; every epoch has an order of its own."""
        per_epoch = self.per_epoch(phase)
        for epoch in range(start // per_epoch, phase.epochs):
            order = torch.randperm(len(self.training), generator=generator_of(seed * 1_000_000 + epoch))
            order = self.training[order]
            for i in range(start - epoch * per_epoch if epoch == start // per_epoch else 0, per_epoch):
                yield epoch * per_epoch + i, order[i * phase.batch : (i + 1) * phase.batch]

    def batch(self, indices: Tensor, phase: Phase, metadata: PoseMetadata, seed: int, fabric: Fabric) -> Batch:
        """This process' share of an augmented training batch."""
        return self.train.batch(
            indices,
            phase.size,
            metadata,
            self.recipe.augmentation,
            generator_of(seed),
            share_of(len(indices), fabric),
        )

    def plain_images(self, phase: Phase, metadata: PoseMetadata, seed: int, fabric: Fabric | None) -> Iterator[Tensor]:
        """Batches without augmentation, to fit statistics on; with ``fabric`` every process gets as many of its own."""
        order = self.training[torch.randperm(len(self.training), generator=generator_of(seed))]
        batches = list(torch.split(order, phase.batch)[:_REESTIMATION_BATCHES])
        if len(batches) > 1 and len(batches[-1]) < 2:
            batches.pop()  # BatchNorm needs two
        if fabric is not None and len(batches) >= fabric.world_size:
            count = len(batches) // fabric.world_size
            batches = batches[fabric.global_rank * count : (fabric.global_rank + 1) * count]
        for indices in batches:
            images = self.train.batch(indices, phase.size, metadata).images
            yield images.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def evaluate(
        self, model: nn.Module, phase: Phase, metadata: PoseMetadata, fabric: Fabric, *, tuning: bool = False
    ) -> float:
        """PCK@0.2 of the torso in percent, on the validation crops or on those to choose by.

        Every process predicts its share, and all get the same figure; the model is left in evaluation mode.
        """
        crops = self.train if tuning else self.val
        indices = self.tuning if tuning else torch.arange(len(crops))
        count, world = len(indices), fabric.world_size
        padded = indices[torch.arange(-(-count // world) * world) % count]
        model.eval()
        predicted, truth = [], []
        for part in torch.split(padded[fabric.global_rank :: world], _EVALUATION_BATCH):
            batch = crops.batch(part, phase.size, metadata)
            with fabric.autocast():
                heatmaps = model(batch.images.contiguous(memory_format=torch.channels_last))
            predicted.append(torch.from_numpy(decode(heatmaps.float().cpu().contiguous().numpy())[0]) * HEATMAP_STRIDE)
            truth.append(batch.points.double().cpu())
        points = torch.stack([torch.cat(predicted), torch.cat(truth)], dim=1).to(fabric.device)
        both = gather(fabric, points).transpose(0, 1).flatten(0, 1)[:count].cpu().numpy()
        visible = crops.visible[indices.to(crops.visible.device)].cpu().numpy()
        real = both[:, 1]
        reference = torso_length(real, visible, self.keypoints)
        return float(pck(both[:, 0], real, visible, reference, threshold=0.2).mean)
