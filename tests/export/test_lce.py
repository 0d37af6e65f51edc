from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from export_helpers import SMALL, SmallExport, part_to_keras, random_network, run_lce, run_torch, tiny_checkpoint
from torch import nn

from bihrnet_edge.errors import UserError
from bihrnet_edge.export.larq_model import build_larq_model
from bihrnet_edge.export.lce import check_binary_ops, convert_to_lce, trace
from bihrnet_edge.export.tensorflow_env import larq
from bihrnet_edge.export.tflite_graph import binary_conv_options, count_ops, slow_binary_convs
from bihrnet_edge.model.binary import BinaryConv2d
from bihrnet_edge.model.exact import make_exact


def test_every_binary_convolution_arrives(small: SmallExport) -> None:
    binary = sum(isinstance(module, BinaryConv2d) for module in small.model.modules())
    ops = count_ops(small.lce)
    assert ops["LceBconv2d"] == ops["LceQuantize"] == binary
    assert ops["CONV_2D"] == 3  # two in the stem, one in the head
    assert ops["PRELU"] == binary + 2
    assert list(ops.values()) == sorted(ops.values(), reverse=True)
    check_binary_ops(small.lce, SMALL)


def test_binary_convolutions_take_the_fast_path(small: SmallExport) -> None:
    options = binary_conv_options(small.lce)
    assert {(o["padding"], o["pad_values"]) for o in options} == {(0, 1)}  # SAME, +1
    assert {o["dilation_height_factor"] for o in options} == {1, 2}
    assert {o["stride_width"] for o in options} == {1, 2}


def test_real_valued_twin_converts_and_is_no_binary_network(small: SmallExport) -> None:
    twin = random_network(SMALL.twin())
    data = convert_to_lce(build_larq_model(SMALL.twin(), twin.state_dict(), 64, 64))
    check_binary_ops(data, SMALL.twin())
    assert abs(run_lce(data, small.images) - run_torch(twin, small.images)).max() < 1e-4
    with pytest.raises(UserError, match=r"0 binary and \d+ float convolutions.*network has \d+ and 3"):
        check_binary_ops(data, SMALL)


def test_no_root_is_left_to_the_converting_machine() -> None:
    """Those with AVX-512 approximate it, and a file would depend on where it was converted."""
    checkpoint = make_exact(tiny_checkpoint())
    model = build_larq_model(checkpoint.config, checkpoint.state, 64, 64)
    operations = {operation.type for operation in trace(model).function.graph.get_operations()}
    assert "Conv2D" in operations
    assert not any(kind.startswith(("FusedBatchNorm", "Rsqrt", "Sqrt")) for kind in operations)
    norms = [layer for layer in model.layers if layer.name.endswith(".bn")]
    assert len(norms) == sum(name.endswith(".bn.weight") for name in checkpoint.state)
    for norm in norms:
        scale, offset = norm.get_weights()
        assert (scale == 1.0).all()
        assert (offset == checkpoint.state[f"{norm.name}.bias"].numpy()).all()


def test_zero_padding_is_not_the_fast_path() -> None:
    def make(_: Any, source: Any) -> Any:
        return larq.layers.QuantConv2D(
            32, 3, padding="same", input_quantizer="approx_sign", kernel_quantizer="ste_sign", use_bias=False
        )(source)

    data = convert_to_lce(part_to_keras(nn.Module(), (8, 8, 32), make))
    assert count_ops(data)["LceBconv2d"] == 1
    assert [options["pad_values"] for options in slow_binary_convs(data)] == [0]


def test_other_files_are_refused() -> None:
    with pytest.raises(UserError, match="not a TFLite model"):
        count_ops(b"\x08\x08\x12\x07pytorch")


@pytest.mark.thorough
def test_same_bytes_in_the_same_process(small: SmallExport) -> None:
    again = build_larq_model(SMALL, small.model.state_dict(), 64, 64)
    assert convert_to_lce(again) == small.lce


_OTHER_PROCESS = """
import hashlib
from export_helpers import SMALL, random_network
from bihrnet_edge.export.larq_model import build_larq_model
from bihrnet_edge.export.lce import check_binary_ops, convert_to_lce
model = random_network(SMALL)
print(hashlib.sha256(convert_to_lce(build_larq_model(SMALL, model.state_dict(), 64, 64))).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.thorough
def test_same_bytes_in_another_process(small: SmallExport) -> None:
    environment = os.environ | {"PYTHONHASHSEED": "4711", "PYTHONPATH": str(Path(__file__).parent)}
    run = subprocess.run(
        [sys.executable, "-c", _OTHER_PROCESS], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split()[-1] == hashlib.sha256(small.lce).hexdigest()
