"""The people of a run: training crops, those set apart to choose by, and validation crops; sampling and measuring."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator
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
from bihrnet_edge.training.processes import gather, share_of, together
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
            metadata, workers = phase_metadata(recipe, recipe.phases[0], self.keypoints), recipe.data.workers
            if recipe.data.cache == "none":
                return CropCache(dataset, metadata, recipe.canvas, workers=workers)
            return CropCache.build(
                dataset,
                metadata,
                canvas_height=recipe.canvas,
                cache=folder / f"{split}-crops.npy",
                workers=workers,
                progress=lambda done, total: progress(f"reading {split}", done, total, {}),
            )

        self.train, self.val = cache(train, "train"), cache(val, "val")

    def to(self, device: torch.device) -> None:
        """Make batches on the accelerator, of canvases that move there where the recipe keeps them in memory."""
        for crops in (self.train, self.val):
            crops.to(device, canvases=self.recipe.data.cache == "memory")

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

    def batches(
        self, phase: Phase, metadata: PoseMetadata, seed: int, start: int, fabric: Fabric
    ) -> Generator[Batch, None, None]:
        """This process' shares of the augmented batches from step ``start`` on.

        Workers live as long as the iterator: close it.

        Raises:
            UserError: an image cannot be read; the sentence names it.
        """
        share = share_of(phase.batch, fabric)
        canvases = self.train.stream(indices[share] for _, indices in self.steps(phase, seed, start))
        for (step, indices), part in zip(self.steps(phase, seed, start), canvases, strict=True):
            generator = generator_of(seed * 1_000_000 + step)
            yield self.train.batch(
                indices, phase.size, metadata, self.recipe.augmentation, generator, share, canvases=part
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
        for indices, canvases in zip(batches, self.train.stream(batches), strict=True):
            images = self.train.batch(indices, phase.size, metadata, canvases=canvases).images
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
        parts = torch.split(padded[fabric.global_rank :: world], _EVALUATION_BATCH)
        with together(fabric):
            for part, canvases in zip(parts, crops.stream(parts), strict=True):
                batch = crops.batch(part, phase.size, metadata, canvases=canvases)
                with fabric.autocast():
                    heatmaps = model(batch.images.contiguous(memory_format=torch.channels_last))
                found = decode(heatmaps.float().cpu().contiguous().numpy())[0]
                predicted.append(torch.from_numpy(found) * HEATMAP_STRIDE)
                truth.append(batch.points.double().cpu())
        points = torch.stack([torch.cat(predicted), torch.cat(truth)], dim=1).to(fabric.device)
        both = gather(fabric, points).transpose(0, 1).flatten(0, 1)[:count].cpu().numpy()
        visible = crops.visible[indices.to(crops.device)].cpu().numpy()
        real = both[:, 1]
        reference = torso_length(real, visible, self.keypoints)
        return float(pck(both[:, 0], real, visible, reference, threshold=0.2).mean)
