from __future__ import annotations

import collections

import numpy as np
import onnx
import pytest
import torch
from export_helpers import SMALL, SmallExport, random_network, run_onnx, run_torch

from bihrnet_edge.errors import UserError
from bihrnet_edge.export.folding import fold
from bihrnet_edge.export.onnx_model import OPSET, export_onnx
from bihrnet_edge.model.binary import BinaryConv2d
from bihrnet_edge.pose.keypoints import COCO, KeypointSet
from bihrnet_edge.pose.metadata import METADATA_KEY, PoseMetadata

METADATA = PoseMetadata("test", 64, 64, KeypointSet("five", ("a", "b", "c", "d", "e")))


@pytest.fixture(scope="module")
def exported(small: SmallExport) -> bytes:
    return export_onnx(small.model, METADATA, "plain")


@pytest.mark.parametrize("batch", [1, 3])
def test_agrees_with_torch(small: SmallExport, exported: bytes, batch: int) -> None:
    images = np.random.default_rng(batch).standard_normal((batch, 64, 64, 3), np.float32)
    expected = run_torch(small.model, images)
    assert np.abs(run_onnx(exported, images) - expected).max() <= 1e-5 * np.ptp(expected)


def test_graph_is_what_it_should_be(small: SmallExport, exported: bytes) -> None:
    proto = onnx.load_model_from_string(exported)
    ops = collections.Counter(node.op_type for node in proto.graph.node)
    binary = sum(isinstance(module, BinaryConv2d) for module in small.model.modules())
    assert ops["Less"] == ops["Cast"] == binary
    assert ops["Conv"] == binary + 3
    assert not ops.keys() & {"Pad", "Where", "Abs", "ReduceMean", "BatchNormalization", "Shape", "Reshape"}
    assert [entry.version for entry in proto.opset_import] == [OPSET]
    (source,), (target,) = proto.graph.input, proto.graph.output
    dims = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (source, target)]
    assert (source.name, target.name) == ("images", "heatmaps")
    assert dims == [["N", 3, 64, 64], ["N", 5, 16, 16]]


def test_carries_metadata(exported: bytes) -> None:
    proto = onnx.load_model_from_string(exported)
    properties = {entry.key: entry.value for entry in proto.metadata_props}
    assert PoseMetadata.from_json(properties[METADATA_KEY]) == METADATA


def test_same_bytes_and_model_untouched(small: SmallExport, exported: bytes) -> None:
    before = {name: value.clone() for name, value in small.model.state_dict().items()}
    assert export_onnx(small.model, METADATA, "plain") == exported
    assert export_onnx(small.model, METADATA) == export_onnx(small.model, METADATA, "packed")
    assert all(torch.equal(value, before[name]) for name, value in small.model.state_dict().items())


def test_twin_agrees(small: SmallExport) -> None:
    twin = random_network(SMALL.twin())
    expected = run_torch(twin, small.images)
    assert np.abs(run_onnx(export_onnx(twin, METADATA), small.images) - expected).max() <= 1e-5 * np.ptp(expected)


def test_folding_leaves_no_parameter_of_a_unit(small: SmallExport) -> None:
    assert [name for name, _ in fold(small.model).named_parameters()] == ["head.weight", "head.bias"]


def test_keypoints_must_match(small: SmallExport) -> None:
    with pytest.raises(UserError, match=r"5 heatmaps.*'coco' 17 joints"):
        export_onnx(small.model, PoseMetadata("test", 64, 64, COCO))


def test_size_must_be_a_multiple_of_32(small: SmallExport) -> None:
    with pytest.raises(UserError, match="multiples of 32"):
        export_onnx(small.model, PoseMetadata("test", 64, 40, METADATA.keypoints))
