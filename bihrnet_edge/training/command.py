"""``bihrnet-edge train``: the recipe with a progress bar around it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bihrnet_edge.data.dataset import load_annotations

if TYPE_CHECKING:
    from rich.progress import ProgressColumn


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


def run_recipe(config: Path, folder: Path, threads: int | None) -> Path:
    """Train or resume; returns the final checkpoint's path."""
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from bihrnet_edge.training.recipe import load_recipe
    from bihrnet_edge.training.trainer import Trainer

    recipe = load_recipe(config)
    if threads is not None:
        torch.set_num_threads(threads)
    train = load_annotations(recipe.train_annotations, recipe.train_images)
    val = load_annotations(recipe.val_annotations, recipe.val_images)
    with Progress(*progress_columns(), console=Console(stderr=True)) as progress:
        tasks: dict[str, int] = {}

        def show(phase: str, step: int, steps: int, figures: dict[str, float]) -> None:
            if phase not in tasks:
                tasks[phase] = progress.add_task(phase, total=steps, figures="")
            text = "  ".join(f"{name} {value:.3g}" for name, value in figures.items())
            progress.update(tasks[phase], completed=step, figures=text)  # type: ignore[arg-type]

        Trainer(recipe, folder, train, val, show).run()
    return folder / f"{recipe.name}.pt"
