"""Keras/Larq model to Larq Compute Engine ``.tflite``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bihrnet_edge.errors import UserError
from bihrnet_edge.export.tensorflow_env import tf, tf_keras
from bihrnet_edge.export.tflite_graph import BINARY_CONV, FLOAT_CONV, count_ops, slow_binary_convs
from bihrnet_edge.model.config import ModelConfig

#: Names of the input and output tensors in the file.
INPUT_NAME = "images"
OUTPUT_NAME = "heatmaps"

_TARGET = "arm"
#: What makes the converter emit int8 tensors.
_FAKE_QUANT = "FakeQuantWithMinMaxVars"
_USE_OUR_LCE = "install the larq-compute-engine version that bihrnet-edge asks for"


@dataclass(frozen=True)
class Traced:
    """A model's inference as a TensorFlow concrete function ``images -> heatmaps``.

    The function refers to the variables only weakly, so the model that owns them is kept beside it.
    """

    model: tf_keras.Model
    function: Any


def trace(model: tf_keras.Model) -> Traced:
    """Trace the model's inference once.

    Args:
        model: from :func:`bihrnet_edge.export.larq_model.build_larq_model`; one input, one output.
    """
    spec = tf.TensorSpec(model.inputs[0].shape.as_list(), tf.float32, name=INPUT_NAME)
    # Keras needs no autograph for layers without Python loops over tensors; without it tracing takes half as long.
    infer = tf.function(lambda images: tf.identity(model(images, training=False), OUTPUT_NAME), autograph=False)
    return Traced(model, infer.get_concrete_function(spec))


def convert_to_lce(model: tf_keras.Model) -> bytes:
    """:func:`convert_traced` of a model from :func:`bihrnet_edge.export.larq_model.build_larq_model`."""
    return convert_traced(trace(model))


def convert_traced(traced: Traced) -> bytes:
    """A ``.tflite`` with Larq Compute Engine's 1-bit ops, for ARM.

    Puts the weights into the graph as constants and hands that to LCE's converter.
    ``lce.convert_keras_model`` takes five times as long: it has Keras write a SavedModel, which traces every
    layer several times, and reads that back. The converter's entry for graphs is the one that
    ``lce.convert_keras_model`` itself falls back to (larq-compute-engine 0.16).

    Args:
        traced: from :func:`trace`.

    Returns:
        The flatbuffer, with tensors ``images`` and ``heatmaps``; the same bytes for the same weights.
    """
    from larq_compute_engine.mlir._tf_tfl_flatbuffer import convert_graphdef_to_tflite_flatbuffer

    graph = _frozen_graph(traced.function)
    data: bytes = convert_graphdef_to_tflite_flatbuffer(
        graph.SerializeToString(deterministic=True),
        [INPUT_NAME],
        ["DT_FLOAT"],
        [traced.function.inputs[0].shape.as_list()],
        [OUTPUT_NAME],
        any(node.op == _FAKE_QUANT for node in graph.node),
        _TARGET,
        None,
    )
    return data


def check_binary_ops(data: bytes, config: ModelConfig) -> None:
    """Make sure that every convolution of the network arrived as what it was.

    Args:
        data: a ``.tflite`` from :func:`convert_to_lce`.
        config: the network's; its ``BinaryConv2d`` modules must be ``LceBconv2d``, padded SAME with +1, and its other
            convolutions ``CONV_2D``.

    Raises:
        UserError: the counts differ, as when a binary convolution fell back to a float one.
    """
    binary, real = _count_convolutions(config)
    ops = count_ops(data)
    found_binary, found_real = ops.get(BINARY_CONV, 0), ops.get(FLOAT_CONV, 0)
    if (found_binary, found_real) != (binary, real):
        raise UserError(
            f"the .tflite has {found_binary} binary and {found_real} float convolutions, the network has {binary} and "
            f"{real}; the converter did not recognise all of them, {_USE_OUR_LCE}."
        )
    if slow := slow_binary_convs(data):
        raise UserError(
            f"{len(slow)} of {binary} binary convolutions in the .tflite do not pad SAME with +1, the first has "
            f"{slow[0]}; {_USE_OUR_LCE}."
        )


def _count_convolutions(config: ModelConfig) -> tuple[int, int]:
    """Binary and real-valued convolutions of the PyTorch network."""
    import torch

    from bihrnet_edge.model.binary import BinaryConv2d
    from bihrnet_edge.model.hrnet import BiHRNet

    with torch.device("meta"):  # shapes without values
        modules = list(BiHRNet(config).modules())
    binary = sum(isinstance(module, BinaryConv2d) for module in modules)
    return binary, sum(isinstance(module, torch.nn.Conv2d) for module in modules) - binary


def _frozen_graph(function: Any) -> Any:
    """The GraphDef of a concrete function with every variable read replaced by a constant.

    TensorFlow's ``convert_variables_to_constants_v2`` imports the result again, op by op in Python, which takes
    longer than the conversion.
    """
    values = {variable.handle.ref(): variable.numpy() for variable in function.graph.variables}
    captured = {inner.op.name: values[outer.ref()] for outer, inner in function.graph.captures}
    source = function.graph.as_graph_def()
    if source.library.function:
        raise RuntimeError("the traced model calls functions; only a flat graph can be frozen here")
    frozen = tf.compat.v1.GraphDef(versions=source.versions)
    for node in source.node:
        if node.name in captured:
            continue
        if node.op == "ReadVariableOp":
            constant = frozen.node.add(name=node.name, op="Const")
            constant.attr["dtype"].CopyFrom(node.attr["dtype"])
            constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(captured[node.input[0]]))
        else:
            frozen.node.add().CopyFrom(node)
    return frozen
