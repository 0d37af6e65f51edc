"""From a model to the runtime that runs it."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from bihrnet_edge.errors import UserError
from bihrnet_edge.model.zoo import bundled_names
from bihrnet_edge.runtimes import delegate
from bihrnet_edge.runtimes.base import Runner
from bihrnet_edge.runtimes.tflite_file import read_tflite

#: Runtime name to the module and class behind it, and the suffix of the files it runs.
_RUNTIMES = {
    "torch": ("torch_runtime", "TorchRunner", ".pt"),
    "lce": ("lce_runtime", "LceRunner", ".tflite"),
    "litert": ("litert_runtime", "LitertRunner", ".tflite"),
    "onnxruntime": ("onnx_runtime", "OnnxRunner", ".onnx"),
}
RUNTIMES = tuple(_RUNTIMES)
_SUFFIXES = (".pt", ".pth", ".onnx", ".tflite")


def suffix_of(runtime: str) -> str:
    """Of the files that a runtime of :data:`RUNTIMES` runs, as :func:`kind_of` has it."""
    return _RUNTIMES[runtime][2]


def kind_of(model: str) -> str:
    """``.pt`` (a checkpoint or the name of a bundled one), ``.onnx`` or ``.tflite``.

    Raises:
        UserError: it is neither a bundled name nor a path with such a suffix.
    """
    names = bundled_names()
    if model in names:
        return ".pt"
    suffix = Path(model).suffix.lower()
    if suffix not in _SUFFIXES or Path(model).is_dir():
        known = f", or the name of a bundled checkpoint: {', '.join(names)}" if names else ""
        raise UserError(f"{model} is no model that bihrnet-edge knows; give a .pt, .onnx or .tflite file{known}.")
    return ".pt" if suffix == ".pth" else suffix


def runtime_for(model: str) -> str:
    """The runtime that runs a model unless another is asked for; errors as in :func:`open_runner`.

    LCE's own interpreter gets its files only where the native delegate is missing.
    """
    kind = kind_of(model)
    if kind != ".tflite":
        return "torch" if kind == ".pt" else "onnxruntime"
    without_delegate = read_tflite(Path(model)).needs_lce and delegate.find_library() is None
    return "lce" if without_delegate and importlib.util.find_spec("larq_compute_engine") else "litert"


def open_runner(
    model: str,
    threads: int = 1,
    runtime: str | None = None,
    *,
    preset: str | None = None,
    profile: Path | None = None,
) -> Runner:
    """Open a model.

    Args:
        model: a checkpoint (``.pt``), the name of a bundled one, an ``.onnx`` or a ``.tflite`` file.
        threads: threads for one inference.
        runtime: one of :data:`RUNTIMES`; chosen from the file unless given.
        preset: architecture of a bare ``state_dict``; only a checkpoint has use for it.
        profile: where the native delegate writes the time of every fused step when the runner is closed; read it
            with :func:`bihrnet_edge.runtimes.profile.read_profile`.

    Raises:
        UserError: the file is missing, damaged, without our metadata, of the wrong kind for the runtime, or
            the runtime is not installed.
    """
    chosen = runtime or runtime_for(model)
    if chosen not in _RUNTIMES:
        raise UserError(f"there is no runtime {chosen!r}; choose one of {', '.join(RUNTIMES)}.")
    module, name, suffix = _RUNTIMES[chosen]
    if kind_of(model) != suffix:
        raise UserError(f"the runtime {chosen} runs {suffix} files, not {model}; choose another runtime.")
    if preset is not None and suffix != ".pt":
        raise UserError(f"--preset names the architecture of a bare state_dict; {model} is not one, leave it out.")
    if profile is not None and chosen != "litert":
        raise UserError(f"only the native delegate has a profile; {model} runs on {chosen}, leave --profile out.")
    options: dict[str, Any] = {} if preset is None else {"preset": preset}
    if profile is not None:
        options["profile"] = profile
    runner: Runner = getattr(importlib.import_module(f"bihrnet_edge.runtimes.{module}"), name)(
        model, threads, **options
    )
    return runner
