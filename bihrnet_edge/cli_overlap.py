"""The command that looks for images that sets share: ``overlap``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bihrnet_edge.cli_options import JsonOption
from bihrnet_edge.errors import UserError


def overlap(
    sets: Annotated[
        list[Path],
        typer.Argument(
            help="Two or more of: annotations, a manifest of --write-subset, ranges of calibrate.", show_default=False
        ),
    ],
    images: Annotated[
        list[Path], typer.Option(help="Folder of their images: one for all, or one for each set, in order.")
    ],
    alike: Annotated[
        int,
        typer.Option(min=0, max=64, help="Alike are images whose hashes differ in so many of 256 bits."),
    ] = 8,
    json: JsonOption = None,
) -> None:
    """Check that sets of images share none: not to train on, calibrate and measure on the same.

    Every image is read. The same bytes or the same pixels in two sets are an error, exit code 2; images that only look
    alike are counted, and listed with --json. Of ranges, which name no files, the digests alone are compared.
    """
    from bihrnet_edge.calibration.overlap import compare, list_images, read_prints
    from bihrnet_edge.console import print_table, progress_steps, write_json

    if len(sets) < 2:
        raise UserError("one set overlaps with nothing; give two or more files.")
    if len(images) not in (1, len(sets)):
        raise UserError(f"--images is given {len(images)} times for {len(sets)} sets; give it once, or once for each.")
    folders = images * len(sets) if len(images) == 1 else images
    listed = [list_images(source, folder) for source, folder in zip(sets, folders, strict=True)]
    prints = []
    with progress_steps() as step:
        for one in listed:
            with step(f"read the images of {one.source}") as advance:
                prints.append(read_prints(one, advance))
        with step("compare"):
            found = list(compare(sets, prints, alike))
    print_table(
        "",
        ["set", "kind", "images"],
        [[str(one.source), one.kind, str(len(one.noted or one.images))] for one in listed],
    )
    rows = [
        [f"{pair.first} and {pair.second}", *(str(len(same)) for same in (pair.contents, pair.pixels, pair.alike))]
        for pair in found
    ]
    print_table("", ["in both", "same bytes", "same pixels", "alike"], rows)
    if json is not None:
        write_json(json, {"alike_bits": alike, "pairs": [pair.to_dict() for pair in found]})
    failure = next((pair.failure for pair in found if pair.failure), None)
    if failure is not None:
        raise UserError(failure)
    typer.echo("no image is in two of them")
