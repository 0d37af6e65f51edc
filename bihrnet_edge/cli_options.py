"""Arguments and options that more than one command has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ModelArgument = Annotated[
    str, typer.Argument(help="Checkpoint (.pt) or the name of a bundled one.", show_default=False)
]
AnyModelArgument = Annotated[
    str, typer.Argument(help="Checkpoint, bundled name, .lce.tflite, .tflite or .onnx.", show_default=False)
]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Also write the result to this file.")]
PresetOption = Annotated[
    str | None,
    typer.Option("--preset", help="Architecture of a bare state_dict, e.g. bihrnet-w32."),
]
RuntimeOption = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        help="torch, lce (LCE's own interpreter), litert or onnxruntime; chosen from the file unless given.",
    ),
]
AnnotationsOption = Annotated[
    Path, typer.Option(help="COCO or MPII annotations (JSON, or MPII's .mat release).", show_default=False)
]
ImagesOption = Annotated[Path, typer.Option(help="Folder of their images.", show_default=False)]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Only the first N people.")]
ThreadsOption = Annotated[int, typer.Option(min=1, help="Threads of one inference.")]
WorkersOption = Annotated[
    int, typer.Option(min=0, help="Threads that read, crop and decode images while the network runs.")
]
BatchOption = Annotated[int, typer.Option(min=1, help="People per call of the runtime.")]
FlipTestOption = Annotated[
    bool, typer.Option("--flip-test", help="Average with the mirrored image, as HRNet does; takes twice the time.")
]
DecodingOption = Annotated[str, typer.Option(help="How a peak is placed: quarter (HRNet's) or dark.")]
SkipMissingOption = Annotated[
    bool, typer.Option("--skip-missing", help="Leave people out, and count them, whose image file is missing.")
]
