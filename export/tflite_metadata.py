"""Writes :class:`~bihrnet_edge.pose.metadata.PoseMetadata` into a ``.tflite``, in the schema's own list for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bihrnet_edge.pose.metadata import METADATA_KEY, PoseMetadata
from bihrnet_edge.runtimes.tflite_file import parse_tflite

#: ``force_align`` of Buffer.data in TensorFlow Lite's schema: kernels load weights from the mapped file.
BUFFER_ALIGNMENT = 16


def embed_metadata(data: bytes, metadata: PoseMetadata) -> bytes:
    """The same ``.tflite`` with the metadata as JSON under ``METADATA_KEY`` in its ``metadata`` list.

    Metadata that is already there under that key is replaced; all else is kept, buffers 16-byte aligned.

    Raises:
        UserError: the bytes are not a TensorFlow Lite flatbuffer.
    """
    model = unpack(data)
    text = np.frombuffer(metadata.to_json().encode(), np.uint8)
    model.metadata = list(model.metadata or [])
    for entry in model.metadata:
        if entry.name == METADATA_KEY.encode():
            model.buffers[entry.buffer].data = text
            break
    else:
        model.buffers.append(schema.BufferT(data=text))
        model.metadata.append(schema.MetadataT(name=METADATA_KEY, buffer=len(model.buffers) - 1))
    return pack(model, len(data) + len(text))


def unpack(data: bytes) -> Any:
    """A ``.tflite`` as the schema's objects, ``schema.ModelT``.

    Raises:
        UserError: the bytes are not a TensorFlow Lite flatbuffer.
    """
    parse_tflite(data, Path("the converted model"))  # the object API trusts every offset
    return schema.ModelT.InitFromPackedBuf(data, 0)


def pack(model: Any, size: int) -> bytes:
    """Inverse of :func:`unpack`, of about ``size`` bytes; buffers are 16-byte aligned."""
    builder = _AligningBuilder(size + 1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class _AligningBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """Honours ``force_align`` of byte vectors, which Python's object API drops."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802, N803  # the base's names
        if elemSize == 1:
            alignment = max(alignment, BUFFER_ALIGNMENT)
        return super().StartVector(elemSize, numElems, alignment)
