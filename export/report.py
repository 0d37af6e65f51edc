"""What an export did, for people and for machines."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bihrnet_edge.calibration.agreement import Agreement
from bihrnet_edge.model.config import ModelConfig
from bihrnet_edge.pose.metadata import PoseMetadata

_PACKAGES = (
    "bihrnet-edge", "torch", "tensorflow", "tf-keras", "larq", "larq-compute-engine", "onnx", "onnxruntime", "numpy",
)  # fmt: skip

#: What runs an artifact, where it is not the runner of its own name alone.
_RUNNERS = {"lce": ("lce", "delegate")}


@dataclass(frozen=True)
class ArtifactReport:
    """One written file.

    Attributes:
        key: ``lce``, ``tflite`` or ``onnx``.
        path: where it lies, ``.rejected`` included.
        size_bytes, sha256: of the file.
        form: what was chosen among an artifact's forms, as it came out, e.g. ``precision``: ``int8``.
        ops: operators by name.
        agreement: with torch's heatmaps.
        metric: per cent, None without a check set.
        rejected: why, or None.
    """

    key: str
    path: Path
    size_bytes: int
    sha256: str
    form: dict[str, str]
    ops: dict[str, int]
    agreement: Agreement
    metric: float | None
    rejected: str | None


@dataclass(frozen=True)
class ExportReport:
    """The whole export; :meth:`to_dict` is what ``NAME.export.json`` holds.

    LCE's artifact is judged in LCE's own interpreter; ``delegate_agreement`` and ``delegate_metric`` are what it does
    in the native delegate, None where this installation has none. ``latency_ms`` is the median of a few inferences
    of one image on ``threads`` threads of this machine, by the keys of the metrics; ``bench`` measures with more care.
    """

    path: Path
    source: str
    source_sha256: str
    config: ModelConfig
    metadata: PoseMetadata
    check: dict[str, Any]
    metric_name: str | None
    torch_metric: float | None
    artifacts: tuple[ArtifactReport, ...]
    larq_agreement: Agreement | None
    delegate_agreement: Agreement | None
    delegate_metric: float | None
    seconds: dict[str, float]
    threads: int
    latency_ms: dict[str, float]

    def latency(self, artifact: ArtifactReport) -> float:
        """Median milliseconds of an artifact in the fastest runtime that it was compared in."""
        return min(
            self.latency_ms[key] for key in _RUNNERS.get(artifact.key, (artifact.key,)) if key in self.latency_ms
        )

    def drop(self, artifact: ArtifactReport) -> str:
        """Points of the metric that an artifact loses against torch, with their interval; ``-`` without a check set."""
        drop = self.check.get("drops", {}).get(artifact.key)
        return "-" if drop is None else f"{drop['value']:.2f} ({drop['low']:.2f} to {drop['high']:.2f})"

    @property
    def failure(self) -> str | None:
        """One sentence about the rejected artifacts, None where there are none."""
        rejected = [artifact for artifact in self.artifacts if artifact.rejected]
        reasons = "; ".join(f"{artifact.key}: {artifact.rejected}" for artifact in rejected)
        return f"the export was rejected and kept as {self.path.name} and its like ({reasons})." if reasons else None

    def to_dict(self) -> dict[str, Any]:
        metrics: dict[str, Any] = {"name": self.metric_name, "torch": self.torch_metric}
        differences: dict[str, Any] = {}
        if self.larq_agreement is not None:
            differences["larq"] = self.larq_agreement.max_abs_diff
        if self.delegate_agreement is not None:
            differences["delegate"] = self.delegate_agreement.max_abs_diff
            metrics["delegate"] = self.delegate_metric
        for artifact in self.artifacts:
            metrics[artifact.key] = artifact.metric
            differences[artifact.key] = artifact.agreement.max_abs_diff
        return {
            "name": self.metadata.name,
            "source": {"path": self.source, "sha256": self.source_sha256},
            "config": self.config.to_dict(),
            "metadata": self.metadata.to_dict(),
            "check": self.check,
            "metrics": metrics,
            "max_abs_heatmap_diff": differences,
            "artifacts": {
                artifact.key: {
                    "file": artifact.path.name,
                    "bytes": artifact.size_bytes,
                    "sha256": artifact.sha256,
                    "form": artifact.form,
                    "ops": artifact.ops,
                    "agreement": artifact.agreement.to_dict(),
                    "rejected": artifact.rejected,
                }
                for artifact in self.artifacts
            },
            "latency": {"threads": self.threads, "median_ms": self.latency_ms},
            "seconds": self.seconds,
            "versions": _versions(),
        }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
