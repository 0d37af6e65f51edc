"""A checkpoint as a ``.tflite`` of built-in operators, for runtimes that load no delegate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bihrnet_edge.errors import UserError
from bihrnet_edge.export.builtin_form import BuiltinForm
from bihrnet_edge.export.builtin_model import BuiltinBuilder, Int8BuiltinBuilder
from bihrnet_edge.export.builtin_storage import store_float16, store_signs
from bihrnet_edge.export.larq_int8 import checkpoint_grids
from bihrnet_edge.export.larq_model import build_larq_model
from bihrnet_edge.export.lce import convert_to_lce
from bihrnet_edge.export.tensorflow_env import tf_keras
from bihrnet_edge.runtimes.tflite_file import parse_tflite

if TYPE_CHECKING:
    from bihrnet_edge.model.checkpoint import Checkpoint

#: How kernels are stored, where not as the floats that they are.
_STORE = {"float16": store_float16, "dynamic": store_signs}


def export_builtin(checkpoint: Checkpoint, form: BuiltinForm) -> bytes:
    """A ``.tflite`` without custom operators, images ``(1, H, W, 3)`` to heatmaps ``(1, H/4, W/4, K)``, both float32.

    Args:
        checkpoint: a binary network; for ``float32`` and ``float16`` also the real-valued twin.
        form: its precision. ``float32`` and ``dynamic`` hold the checkpoint's weights exactly.

    Returns:
        The flatbuffer, without metadata; the same bytes for the same weights.

    Raises:
        UserError: the form is none for this network, or the ranges are another's.
    """
    if form.precision in ("dynamic", "int8") and not checkpoint.config.binary:
        raise UserError(
            f"checkpoint {checkpoint.metadata.name} is real-valued, and only binary kernels become int8 without loss; "
            "choose --tflite-precision float32 or float16."
        )
    # LCE's converter is TensorFlow's with passes for binary operators; where there are none it does the same in a
    # tenth of the time.
    data = convert_to_lce(build_builtin_model(checkpoint, form))
    if form.precision in _STORE:
        data = _STORE[form.precision](data)
    if custom := parse_tflite(data, Path("the converted model")).custom_ops:
        raise UserError(
            f"the converter left the custom operator {min(custom)} in the .tflite; install the larq-compute-engine "
            "version that bihrnet-edge asks for."
        )
    return data


def build_builtin_model(checkpoint: Checkpoint, form: BuiltinForm) -> tf_keras.Model:
    """The Keras model behind :func:`export_builtin`; float16 rounding and int8 grids are part of it."""
    config, metadata = checkpoint.config, checkpoint.metadata
    if form.ranges is None:
        builder: Any = partial(BuiltinBuilder, half=form.precision == "float16")
    else:
        grids = checkpoint_grids(checkpoint, form.ranges.activations)
        builder = partial(Int8BuiltinBuilder, grids=grids, offset=form.ranges.offset)
    return build_larq_model(config, checkpoint.state, metadata.input_height, metadata.input_width, builder=builder)
