"""One command from a checkpoint to verified artifacts: build, convert, compare, gate, write.

Artifacts are made in a temporary folder inside the output folder and renamed at the end, so that an
interrupted export leaves the previous artifacts as they were.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bihrnet_edge.calibration.agreement import Agreement
from bihrnet_edge.calibration.manifest import read_manifest
from bihrnet_edge.calibration.ranges import weights_sha256
from bihrnet_edge.calibration.subset import subset_of
from bihrnet_edge.calibration.verification import compare_on_images, compare_on_people, synthetic_images
from bihrnet_edge.console import Advance, Step, write_json
from bihrnet_edge.data.dataset import PoseDataset, load_annotations
from bihrnet_edge.errors import UserError
from bihrnet_edge.export.builtin_form import BuiltinForm
from bihrnet_edge.export.int8_form import Int8Form
from bihrnet_edge.export.onnx_form import OnnxForm
from bihrnet_edge.export.pixels import TensorTypes, fold_normalisation, retype
from bihrnet_edge.export.report import ArtifactReport, ExportReport
from bihrnet_edge.export.tflite_graph import builtin_precision
from bihrnet_edge.files import make_folder, sha256, write_bytes
from bihrnet_edge.metrics.pck import metric_for
from bihrnet_edge.model.zoo import bundled_path
from bihrnet_edge.pose.matching import common_joints
from bihrnet_edge.pose.metadata import PoseMetadata
from bihrnet_edge.runtimes.base import Images, Runner
from bihrnet_edge.runtimes.crops import person_batches
from bihrnet_edge.runtimes.delegate import find_library
from bihrnet_edge.runtimes.inspect import inspect_artifact
from bihrnet_edge.runtimes.onnx_file import load_graph
from bihrnet_edge.runtimes.onnx_graph import packed_kernels
from bihrnet_edge.runtimes.registry import open_runner
from bihrnet_edge.runtimes.tflite_file import read_tflite, real_precision

if TYPE_CHECKING:
    from bihrnet_edge.model.checkpoint import Checkpoint
    from bihrnet_edge.model.hrnet import BiHRNet

#: Images on which the Keras rebuild is compared as well; it is slow, and only a step towards LCE.
_LARQ_IMAGES = 4
_SYNTHETIC_IMAGES = 8
#: Inferences of which the report gives the median, after one that warms up.
_TIMED_RUNS = 5
#: An artifact whose median image correlates less is another network, whatever its accuracy.
_MIN_CORRELATION = 0.99
#: With int8 activations or float16 weights signs near their thresholds flip, as they do from one training run's
#: rounding to the next.
_MIN_CORRELATION_INT8 = 0.9
_REJECTED = ".rejected"
#: What LCE's artifact is called where it ran in the native delegate, not in LCE's interpreter.
_DELEGATE = "delegate"
#: Keys of what ranges make int8.
_INT8 = ("lce", _DELEGATE)

Timed = Callable[[str, str], AbstractContextManager[Advance]]


@dataclass(frozen=True)
class CheckSet:
    """Labelled people to check the accuracy on, and the points of the metric that an artifact may lose.

    Attributes:
        annotations, images: the file, and the folder of its images.
        limit: only so many of the first people.
        max_drop: points of the metric.
        subset: manifest of the people to check on.
    """

    annotations: Path
    images: Path
    limit: int | None = None
    max_drop: float = 0.5
    subset: Path | None = None

    def load(self) -> PoseDataset:
        """The people, all of them, or those of the manifest ``subset``.

        Raises:
            UserError: the annotations or the manifest are not usable, or do not belong together.
        """
        dataset = load_annotations(self.annotations, self.images)
        return dataset if self.subset is None else subset_of(dataset, read_manifest(self.subset), self.annotations)


@dataclass(frozen=True)
class _Forms:
    """What is chosen of an artifact's form, by target; of an ``.lce.tflite`` what is int8, its input and output."""

    onnx: OnnxForm
    tflite: BuiltinForm
    int8: Int8Form | None
    types: TensorTypes


@dataclass(frozen=True)
class _Target:
    key: str
    suffix: str
    runtime: str
    build: Callable[[Checkpoint, BiHRNet, Path, Timed, _Forms], Runner | None]


def export_checkpoint(
    model: str,
    targets: Sequence[str],
    out: Path,
    *,
    check: CheckSet | None = None,
    preset: str | None = None,
    onnx: OnnxForm | None = None,
    tflite: BuiltinForm | None = None,
    int8: Int8Form | None = None,
    types: TensorTypes | None = None,
    step: Step,
) -> ExportReport:
    """Export a checkpoint to every target and write ``NAME.export.json`` beside the artifacts.

    Args:
        model: a path or a bundled name.
        targets: names of :data:`TARGETS`.
        out: folder for the artifacts; made where it does not exist.
        check: what to check the accuracy on. Without it heatmaps are compared on synthetic images.
        preset: architecture of a bare ``state_dict``.
        onnx: what form the ``.onnx`` takes; ``OnnxForm()`` unless given.
        tflite: what form the built-in-op ``.tflite`` takes; ``BuiltinForm()`` unless given.
        int8: what of an ``.lce.tflite`` is int8, at ranges of this checkpoint's activations; nothing unless given.
        types: of an ``.lce.tflite``'s input and output; float32 unless given. A byte input folds the normalisation into
            the network, which all artifacts and torch then are.
        step: shows progress.

    Returns:
        The report; its ``failure`` says why artifacts were rejected, None where none was.

    Raises:
        UserError: the checkpoint, a target or the check set is not usable.
    """
    from bihrnet_edge.model.checkpoint import load_checkpoint
    from bihrnet_edge.runtimes.torch_runtime import TorchRunner

    chosen = [_target(name) for name in dict.fromkeys(targets)]
    checkpoint = load_checkpoint(model, preset)
    network = checkpoint.build()
    dataset = None
    if check is not None:
        dataset = check.load()
        common_joints(checkpoint.metadata.keypoints, dataset.keypoints)  # refuses a set without any
    forms = _Forms(onnx or OnnxForm(), tflite or BuiltinForm(), int8, types or TensorTypes())
    for ranges in (int8.ranges if int8 else None, forms.tflite.ranges):
        if ranges is None:
            continue
        ranges.refuse_other_weights(weights_sha256(checkpoint.state), model)
        if dataset is not None:
            ranges.refuse_images(person.image_path for person in dataset.people[: check.limit if check else None])
    if forms.types.input != "float32":
        checkpoint = fold_normalisation(checkpoint)
        network = checkpoint.build()
    source_sha256 = sha256(bundled_path(model) or Path(model))
    make_folder(out)

    seconds: dict[str, float] = {}

    @contextmanager
    def timed(name: str, label: str) -> Iterator[Advance]:
        started = time.perf_counter()
        with step(label) as advance:
            yield advance
        seconds[name] = round(time.perf_counter() - started, 2)

    with _workspace(out) as folder, ExitStack() as stack:
        threads = os.cpu_count() or 1
        reference = TorchRunner.of(network, checkpoint.metadata, threads)
        paths = {target.key: folder / f"{checkpoint.metadata.name}{target.suffix}" for target in chosen}
        larq_agreement = None
        for target in chosen:
            rebuilt = target.build(checkpoint, network, paths[target.key], timed, forms)
            if rebuilt is not None:
                with timed("verify_larq", "compare the Larq rebuild with torch"):
                    images = _first_images(checkpoint.metadata, dataset, _LARQ_IMAGES)
                    larq_agreement = compare_on_images(reference, {"larq": rebuilt}, images)["larq"]
        runners = {t.key: stack.enter_context(open_runner(str(paths[t.key]), threads, t.runtime)) for t in chosen}
        if "lce" in paths and find_library() is not None:
            runners[_DELEGATE] = stack.enter_context(open_runner(str(paths["lce"]), threads, "litert"))
        with timed("verify", "compare the artifacts with torch") as advance:
            comparison = _compare(reference, runners, checkpoint.metadata, dataset, check, advance)
        with timed("time", "time the artifacts"):
            latency_ms = _latencies(runners, _first_images(checkpoint.metadata, dataset, 1))
        stack.close()  # a runtime may keep its file open, which some systems do not rename
        max_drop = check.max_drop if check else None
        failures = {target.key: _judge(target.key, comparison, max_drop, forms) for target in chosen}
        if _DELEGATE in runners and failures["lce"] is None:
            reason = _judge(_DELEGATE, comparison, max_drop, forms)
            failures["lce"] = reason and f"in the native delegate {reason}"
        # Accepted or rejected whole, so that artifacts and report under one name always belong together.
        suffix = _REJECTED if any(failures.values()) else ""
        artifacts = tuple(
            _describe(target, paths[target.key], out, suffix, comparison, failures[target.key]) for target in chosen
        )
        report = ExportReport(
            out / f"{checkpoint.metadata.name}.export.json{suffix}",
            model,
            source_sha256,
            checkpoint.config,
            checkpoint.metadata,
            comparison.description,
            comparison.metric_name,
            comparison.reference_metric,
            artifacts,
            larq_agreement,
            comparison.agreements.get(_DELEGATE),
            comparison.metrics.get(_DELEGATE),
            seconds,
            threads,
            latency_ms,
        )
        made = folder / "report.json"
        write_json(made, report.to_dict())
        _publish({paths[t.key]: a.path for t, a in zip(chosen, artifacts, strict=True)} | {made: report.path})
    return report


def _first_images(metadata: PoseMetadata, dataset: PoseDataset | None, count: int) -> Images:
    if dataset is None:
        return synthetic_images(metadata, count)
    _, images, _ = next(person_batches(dataset.people[:count], metadata, count))
    return images


def _latencies(runners: dict[str, Runner], image: Images) -> dict[str, float]:
    """Median milliseconds of one image in each runner, the network alone."""
    medians = {}
    for key, runner in runners.items():
        runner.prepare(image)
        times = []
        for _ in range(1 + _TIMED_RUNS):
            started = time.perf_counter()
            runner.invoke()
            times.append(time.perf_counter() - started)
        medians[key] = round(1000 * statistics.median(times[1:]), 3)
    return medians


@contextmanager
def _workspace(out: Path) -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix=".export-", dir=out)
    except OSError as error:
        raise UserError(f"cannot write into {out}: {error.strerror}; choose another folder with --out.") from error
    with folder as name:
        yield Path(name)


@dataclass(frozen=True)
class _Comparison:
    agreements: dict[str, Agreement]
    metrics: dict[str, float]
    metric_name: str | None
    reference_metric: float | None
    description: dict[str, Any]


def _compare(
    reference: Runner,
    runners: dict[str, Runner],
    metadata: PoseMetadata,
    dataset: PoseDataset | None,
    check: CheckSet | None,
    advance: Advance,
) -> _Comparison:
    if dataset is None or check is None:
        images = synthetic_images(metadata, _SYNTHETIC_IMAGES)
        description: dict[str, Any] = {"set": None, "synthetic_images": len(images)}
        return _Comparison(compare_on_images(reference, runners, images), {}, None, None, description)
    agreements, metric, metrics, drops = compare_on_people(reference, runners, dataset, check.limit, advance)
    description = {
        "set": dataset.name,
        "annotations_sha256": sha256(check.annotations),
        "people": len(dataset.people[: check.limit]),
        "joints": list(common_joints(metadata.keypoints, dataset.keypoints).names),
        "skipped": dataset.skipped,
        "max_drop": check.max_drop,
        "drops": {key: asdict(drop.drop) | {"confidence": drop.confidence} for key, drop in drops.items()},
    }
    return _Comparison(agreements, metrics, metric_for(dataset.keypoints).name, metric, description)


def _judge(key: str, comparison: _Comparison, max_drop: float | None, forms: _Forms) -> str | None:
    """Why an artifact is not good enough, None where it is."""
    median = comparison.agreements[key].median_correlation
    rounded = forms.int8 is not None if key in _INT8 else key == "tflite" and forms.tflite.rounds
    least = _MIN_CORRELATION_INT8 if rounded else _MIN_CORRELATION
    if not median >= least:
        return f"its heatmaps correlate with torch's at {median:.4f}, below {least}"
    metric, reference = comparison.metrics.get(key), comparison.reference_metric
    if metric is not None and reference is not None and max_drop is not None and not reference - metric <= max_drop:
        return f"it loses {reference - metric:.2f} points of {comparison.metric_name}, more than {max_drop:g}"
    return None


def _form(made: Path, key: str) -> dict[str, str]:
    """What was chosen, as it came out."""
    if key == "tflite":
        return {"precision": builtin_precision(read_tflite(made))}
    if made.suffix == ".tflite":
        file = read_tflite(made)
        form = {} if (precision := real_precision(file)) == "float" else {"precision": precision}
        ends = {"input": file.tensors[file.inputs[0]].dtype, "output": file.tensors[file.outputs[0]].dtype}
        return form | {end: f"{dtype} {end}" for end, dtype in ends.items() if dtype != "float32"}
    graph = load_graph(made) if made.suffix == ".onnx" else None
    return {} if graph is None else {"weights": "packed" if packed_kernels(graph)[0] else "plain"}


def _describe(
    target: _Target, made: Path, out: Path, suffix: str, comparison: _Comparison, rejected: str | None
) -> ArtifactReport:
    return ArtifactReport(
        target.key,
        out / f"{made.name}{suffix}",
        made.stat().st_size,
        sha256(made),
        _form(made, target.key),
        inspect_artifact(made).ops or {},
        comparison.agreements[target.key],
        comparison.metrics.get(target.key),
        rejected,
    )


def _publish(renames: dict[Path, Path]) -> None:
    """Give every file its final name, one right after the other; an accepted export clears an older rejected one."""
    for made, final in renames.items():
        try:
            made.replace(final)
            if final.suffix != _REJECTED:
                final.with_name(final.name + _REJECTED).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot write {final}: {error.strerror}; remove what is there, or choose another --out."
            ) from error


def _build_lce(checkpoint: Checkpoint, network: BiHRNet, path: Path, timed: Timed, forms: _Forms) -> Runner:
    from bihrnet_edge.export.larq_runner import LarqRunner

    with timed("import_tensorflow", "import TensorFlow"):
        from bihrnet_edge.export.larq_int8 import build_int8_model
        from bihrnet_edge.export.larq_model import build_larq_model
        from bihrnet_edge.export.lce import check_binary_ops, convert_traced, trace
        from bihrnet_edge.export.tflite_metadata import embed_metadata
    metadata = checkpoint.metadata
    with timed("build_larq", "rebuild in Larq"):
        if forms.int8 is None:
            size = metadata.input_height, metadata.input_width
            model = build_larq_model(checkpoint.config, checkpoint.state, *size)
        else:
            ranges = forms.int8.ranges
            model = build_int8_model(checkpoint, ranges.activations, forms.int8.kept, ranges.offset)
        traced = trace(model)
    with timed("convert_lce", "convert with Larq Compute Engine"):
        data = convert_traced(traced)
        check_binary_ops(data, checkpoint.config)
        data = retype(data, forms.types)
        write_bytes(path, embed_metadata(data, metadata))
    return LarqRunner(traced, metadata)


def _build_onnx(checkpoint: Checkpoint, network: BiHRNet, path: Path, timed: Timed, forms: _Forms) -> None:
    from bihrnet_edge.export.onnx_model import export_onnx

    with timed("export_onnx", "write ONNX"):
        write_bytes(path, export_onnx(network, checkpoint.metadata, forms.onnx.weights))


def _build_tflite(checkpoint: Checkpoint, network: BiHRNet, path: Path, timed: Timed, forms: _Forms) -> None:
    with timed("import_tensorflow", "import TensorFlow"):
        from bihrnet_edge.export.builtin import export_builtin
        from bihrnet_edge.export.tflite_metadata import embed_metadata
    with timed("convert_tflite", "convert to built-in operators"):
        write_bytes(path, embed_metadata(export_builtin(checkpoint, forms.tflite), checkpoint.metadata))


#: Target name to what makes it.
TARGETS = {
    "lce-arm64": _Target("lce", ".lce.tflite", "lce", _build_lce),
    "tflite": _Target("tflite", ".tflite", "litert", _build_tflite),
    "onnx": _Target("onnx", ".onnx", "onnxruntime", _build_onnx),
}


def _target(name: str) -> _Target:
    if name not in TARGETS:
        raise UserError(f"there is no target {name!r}; choose one of {', '.join(TARGETS)}.")
    return TARGETS[name]
