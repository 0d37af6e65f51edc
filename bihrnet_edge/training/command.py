"""``bihrnet-edge train``: the recipe with a progress bar around it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bihrnet_edge.data.dataset import load_annotations

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

_LABELS = {"images_per_second": "images/s", "data_share": "waiting"}


def progress_columns() -> tuple[ProgressColumn, ...]:
    """What the bar shows; names are shown as they are, brackets included."""
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    return (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
    )


def run_recipe(
    source: str,
    folder: Path,
    *,
    threads: int | None = None,
    accelerator: Literal["auto", "cpu", "cuda"] = "auto",
    devices: int = 1,
    nodes: int = 1,
    save_seconds: float = 120.0,
) -> Path | None:
    """Train or resume; returns the final checkpoint's path, None in all processes but the first.

    Fabric starts this very command once more for every other process. They keep quiet about what the first says.

    Args:
        source: a recipe's path, or the name of a bundled one.
        folder: of the run.
        threads: of each process; its part of the cores unless given.
        save_seconds: as in :class:`bihrnet_edge.training.trainer.Trainer`.
        accelerator, devices, nodes: as in :func:`bihrnet_edge.training.processes.make_fabric`.
    """
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from bihrnet_edge.training.processes import is_first_process, make_fabric
    from bihrnet_edge.training.recipe import load_recipe
    from bihrnet_edge.training.trainer import Trainer

    recipe = load_recipe(source)
    torch.set_num_threads(threads or max(1, torch.get_num_threads() // devices))
    fabric = make_fabric(accelerator, devices, nodes, recipe.precision)
    train = load_annotations(recipe.train_annotations, recipe.train_images)
    val = load_annotations(recipe.val_annotations, recipe.val_images)
    first = is_first_process()
    with Progress(*progress_columns(), console=Console(stderr=True), disable=not first) as progress:
        tasks: dict[str, int] = {}

        def show(phase: str, step: int, steps: int, figures: dict[str, float]) -> None:
            if not first:
                return
            if phase not in tasks:
                tasks[phase] = progress.add_task(phase, total=steps, figures="")
            text = "  ".join(f"{_LABELS.get(name, name)} {value:.3g}" for name, value in figures.items())
            progress.update(tasks[phase], completed=step, figures=text)  # type: ignore[arg-type]

        Trainer(recipe, folder, train, val, show, fabric=fabric, save_seconds=save_seconds).run()
    return folder / f"{recipe.name}.pt" if first else None
