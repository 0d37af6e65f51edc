"""The library in the runtimes that people have: LiteRT from 1.4 to 2.3, and TensorFlow's tf.lite."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import side_packages
from delegate_runs import Array, invoke, run_delegate
from lce_models import Bconv, GraphBuilder, random_inputs
from random_graphs import RandomGraph

from bihrnet_edge.native_output import silenced_stderr


def models() -> dict[str, tuple[bytes, list[Array]]]:
    """Every operator, and graphs of them."""
    found: dict[str, bytes] = {
        "float": Bconv(channels_in=70, channels_out=33, padding="VALID", stride=(2, 1)).model(),
        "int8": Bconv(source="int8", output="int8", activation="RELU").model(),
        "bits": Bconv(output="int32", dequantize=True, dilation=(2, 2)).model(),
    }
    graph = GraphBuilder()
    pooled = graph.bmaxpool(graph.quantize(graph.input((2, 9, 7, 40))))
    found["pool"] = graph.finish(graph.dequantize(pooled, 40))
    result = {name: (model, random_inputs(model)) for name, model in found.items()}
    for seed in range(12):
        drawn = RandomGraph(seed, batch=1 + seed % 2)
        result[f"graph{seed}"] = drawn.model(operators=12), [*drawn.inputs()]
    return result


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.4.0", "2.3.0"])
def test_other_versions_of_litert(version: str, tmp_path: Path) -> None:
    packages = side_packages.install(tmp_path / "packages", f"ai-edge-litert=={version}", "backports.strenum==1.2.8")
    expected = {}
    for name, (model, inputs) in models().items():
        (tmp_path / f"{name}.tflite").write_bytes(model)
        np.savez(tmp_path / f"{name}.npz", *inputs)
        expected[name] = run_delegate(model, inputs)
    printed = side_packages.run(packages, Path(__file__).with_name("runtime_run.py"), tmp_path)
    assert printed.split()[-1] == version
    for name, outputs in expected.items():
        with np.load(tmp_path / f"{name}.out.npz") as stored:
            got = [stored[key] for key in stored.files]
        for one, other in zip(got, outputs, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is deprecated")
def test_tensorflow_lite(library: Path) -> None:
    with silenced_stderr():
        tf = pytest.importorskip("tensorflow")

        def run(model: bytes, inputs: list[Array], threads: int) -> list[Array]:
            delegate: Any = tf.lite.experimental.load_delegate(str(library), {"threads": str(threads)})
            interpreter = tf.lite.Interpreter(
                model_content=model, experimental_delegates=[delegate], num_threads=threads
            )
            interpreter.allocate_tensors()
            return invoke(interpreter, inputs)

        for name, (model, inputs) in models().items():
            for threads in (1, 2):
                got = run(model, inputs, threads)
                for one, other in zip(got, run_delegate(model, inputs), strict=True):
                    np.testing.assert_array_equal(one, other, err_msg=name)
        gc.collect()  # whatever goes wrong in destroying them goes wrong here
