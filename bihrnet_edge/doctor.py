"""What is installed here and what each task needs, without importing any of it but the delegate's library."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes.delegate import delegate_info

_BASE = ("numpy", "pillow", "ai-edge-litert", "onnxruntime")
_EXPORT = ("torch", "tensorflow", "tf-keras", "larq", "larq-compute-engine", "onnx")
_TRAIN = ("torch", "pyyaml", "lightning-fabric", "tensorboardX")
_VIDEO = ("av",)
#: Task to the packages it needs and the command that installs them.
_TASKS = {
    "run .onnx": (("onnxruntime",), "pip install bihrnet-edge"),
    "run .tflite, .lce.tflite": (("ai-edge-litert",), "pip install bihrnet-edge"),
    "run .lce.tflite on LCE's interpreter": (
        ("larq-compute-engine", "tensorflow"),
        'pip install "bihrnet-edge[export]"',
    ),
    "run checkpoints": (("torch",), 'pip install "bihrnet-edge[export]"'),
    "export --target lce-arm64, tflite": (
        ("torch", "tensorflow", "tf-keras", "larq", "larq-compute-engine"),
        'pip install "bihrnet-edge[export]"',
    ),
    "export --target onnx": (("torch", "onnx", "onnxruntime"), 'pip install "bihrnet-edge[export]"'),
    "predict videos, cameras": (_VIDEO, 'pip install "bihrnet-edge[video]"'),
    "train": (_TRAIN, 'pip install "bihrnet-edge[train]"'),
}


@dataclass(frozen=True)
class Task:
    """One thing the package does, and the packages that it lacks here."""

    name: str
    missing: tuple[str, ...]
    install: str


@dataclass(frozen=True)
class DoctorReport:
    """Outcome of :func:`examine`."""

    packages: dict[str, str | None]
    tasks: list[Task]
    machine: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _delegate() -> str:
    """What runs LCE's operators in LiteRT, or the sentence why nothing does."""
    try:
        info = delegate_info()
    except UserError as error:
        return str(error)
    return f"{info.version}, {info.kernel} kernels, {info.path}"


def examine() -> DoctorReport:
    """Look at the installed packages and the machine."""
    packages = {name: _installed(name) for name in dict.fromkeys(("bihrnet-edge", *_BASE, *_EXPORT, *_TRAIN, *_VIDEO))}
    tasks = [
        Task(name, tuple(p for p in needs if packages[p] is None), install) for name, (needs, install) in _TASKS.items()
    ]
    machine = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count() or 1),
        "delegate": _delegate(),
    }
    return DoctorReport(packages, tasks, machine)
