from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from export_helpers import SmallExport, run_lce

from bihrnet_edge.errors import UserError
from bihrnet_edge.export.tflite_graph import count_ops
from bihrnet_edge.export.tflite_metadata import BUFFER_ALIGNMENT, embed_metadata
from bihrnet_edge.pose.keypoints import COCO, KeypointSet
from bihrnet_edge.pose.metadata import METADATA_KEY, PoseMetadata

METADATA = PoseMetadata("test", 64, 64, KeypointSet("five", ("a", "b", "c", "d", "e")))


def buffer_offsets(data: bytes) -> Iterator[int]:
    model = schema.Model.GetRootAs(data)
    for index in range(model.BuffersLength()):
        table = model.Buffers(index)
        if table.DataLength():
            yield table._tab.Vector(table._tab.Offset(4))


def stored(data: bytes) -> list[tuple[str, bytes]]:
    model = schema.Model.GetRootAs(data)
    entries = [model.Metadata(index) for index in range(model.MetadataLength())]
    return [(entry.Name().decode(), model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()) for entry in entries]


def test_round_trip(small: SmallExport) -> None:
    data = embed_metadata(small.lce, METADATA)
    assert PoseMetadata.from_json(dict(stored(data))[METADATA_KEY]) == METADATA
    assert {name for name, _ in stored(data)} == {METADATA_KEY} | {name for name, _ in stored(small.lce)}


def test_buffers_are_aligned(small: SmallExport) -> None:
    offsets = list(buffer_offsets(embed_metadata(small.lce, METADATA)))
    assert len(offsets) > 100
    assert all(offset % BUFFER_ALIGNMENT == 0 for offset in offsets)


def test_network_is_unchanged(small: SmallExport) -> None:
    data = embed_metadata(small.lce, METADATA)
    assert count_ops(data) == count_ops(small.lce)
    np.testing.assert_array_equal(run_lce(data, small.images), run_lce(small.lce, small.images))


def test_second_embedding_replaces_the_first(small: SmallExport) -> None:
    once = embed_metadata(small.lce, METADATA)
    assert embed_metadata(once, METADATA) == once
    other = PoseMetadata("a longer name than before", 64, 64, COCO)
    twice = embed_metadata(once, other)
    assert [name for name, _ in stored(twice)].count(METADATA_KEY) == 1
    assert PoseMetadata.from_json(dict(stored(twice))[METADATA_KEY]) == other
    assert embed_metadata(twice, METADATA) == once


def test_other_files_are_refused() -> None:
    with pytest.raises(UserError, match="not a TFLite model"):
        embed_metadata(b"", METADATA)
