"""Artifacts that take a camera's bytes and give bytes: no pixel is converted before the network.

A byte tensor stands for ``(pixel - 128) / 64``. That is what the exact form takes anyway; the normalisation of any
other checkpoint is folded into its first convolution beforehand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bihrnet_edge.errors import UserError
from bihrnet_edge.export.tflite_metadata import pack, unpack

if TYPE_CHECKING:
    from bihrnet_edge.model.checkpoint import Checkpoint

TYPES = ("float32", "int8", "uint8")
_CODES = {"int8": schema.TensorType.INT8, "uint8": schema.TensorType.UINT8}
#: Pixel 128 is zero; pixels step by 1/64, as in :mod:`bihrnet_edge.model.exact`.
_SCALE, _ZERO = 1.0 / 64.0, 128
#: Zero points of a uint8 tensor and of the int8 tensor with the same values.
_OFFSET = {"int8": -128, "uint8": 0}


@dataclass(frozen=True)
class TensorTypes:
    """Types of an artifact's input and output.

    Attributes:
        input: ``float32`` (normalised), ``uint8`` (pixels) or ``int8`` (pixels - 128).
        output: ``float32``, or how an int8 artifact's heatmaps are stored: ``int8``, ``uint8``.
    """

    input: str = "float32"
    output: str = "float32"

    @classmethod
    def of(cls, source: str, target: str, precision: str, artifacts: Collection[str]) -> TensorTypes:
        """As the options say.

        Raises:
            UserError: a type is unknown, or the precision or the artifacts (names of targets) have no such input or
                output.
        """
        for option, value in (("--input-type", source), ("--output-type", target)):
            if value not in TYPES:
                raise UserError(f"{option} is {value!r}; choose one of {', '.join(TYPES)}.")
        if (source, target) != ("float32", "float32") and ("tflite" in artifacts or "lce-arm64" not in artifacts):
            raise UserError(
                "--input-type and --output-type are an .lce.tflite's; give --target lce-arm64, and export --target "
                "tflite without them."
            )
        if target != "float32" and precision != "int8":
            raise UserError(
                f"--output-type {target} stores int8 heatmaps, which --precision {precision} has none of; give "
                "--precision int8."
            )
        return cls(source, target)


def fold_normalisation(checkpoint: Checkpoint) -> Checkpoint:
    """The network on ``(pixel - 128) / 64`` in place of its own mean and standard deviation; the exact form is on it.

    Zero padding of the first convolution comes to mean pixel 128 where it meant the mean; all else is equal but for
    rounding.
    """
    from bihrnet_edge.model.exact import PIXEL_MEAN, PIXEL_STD, fold_pixels

    metadata = checkpoint.metadata
    if metadata.mean == (PIXEL_MEAN,) * 3 and metadata.std == (PIXEL_STD,) * 3:
        return checkpoint
    state = dict(checkpoint.state)
    kernel, constant = fold_pixels(state["stem.0.conv.weight"].double(), metadata.mean, metadata.std)
    state["stem.0.conv.weight"] = kernel.float()
    state["stem.0.bn.running_mean"] = (state["stem.0.bn.running_mean"].double() - constant).float()
    return dataclasses.replace(
        checkpoint,
        metadata=dataclasses.replace(metadata, mean=(PIXEL_MEAN,) * 3, std=(PIXEL_STD,) * 3),
        state=state,
    )


def retype(data: bytes, types: TensorTypes) -> bytes:
    """The same ``.tflite`` with another input and output.

    Args:
        data: one float32 input ``(pixel - 128) / 64`` and one float32 output.
        types: what they become.

    Raises:
        UserError: the output is not int8 before it becomes float32.
    """
    if types == TensorTypes():
        return data
    model = unpack(data)
    editor = _Editor(model)
    if types.input != "float32":
        editor.take(types.input)
    if types.output != "float32":
        editor.give(types.output)
    return pack(model, len(data))


class _Editor:
    def __init__(self, model: Any) -> None:
        self._model, self._graph = model, model.subgraphs[0]

    def take(self, kind: str) -> None:
        (source,) = self._graph.inputs
        scale, zero_point = _SCALE, _ZERO + _OFFSET[kind]
        readers = [op for op in self._graph.operators if source in op.inputs]
        if len(readers) == 1 and self._is(readers[0], schema.BuiltinOperator.QUANTIZE):
            inner = int(readers[0].outputs[0])
            if kind == "int8" and self._grid(inner) == (scale, zero_point):
                self._graph.operators.remove(readers[0])
                self._rename(source, inner)
                self._graph.inputs = [inner]
                return
            # QUANTIZE from one type of bytes to the other moves the zero point.
            self._make(source, kind, scale, zero_point)
            return
        entry = self._add(source, kind, scale, zero_point)
        self._rename(source, entry)
        self._graph.operators.insert(0, self._operator(schema.BuiltinOperator.DEQUANTIZE, entry, source))
        self._graph.inputs = [entry]

    def give(self, kind: str) -> None:
        (target,) = self._graph.outputs
        (writer,) = (op for op in self._graph.operators if target in op.outputs)
        inner = int(writer.inputs[0])
        if not self._is(writer, schema.BuiltinOperator.DEQUANTIZE) or self._graph.tensors[inner].type != _CODES["int8"]:
            raise UserError(
                f"the heatmaps are not int8, so that --output-type {kind} would round them; leave it float32, or give "
                "--precision int8."
            )
        if kind == "int8":
            self._graph.operators.remove(writer)
            self._rename(target, inner)
            self._graph.outputs = [inner]
            return
        scale, zero_point = self._grid(inner)
        self._make(target, kind, scale, zero_point - _OFFSET["int8"])
        self._graph.operators[self._graph.operators.index(writer)] = self._operator(
            schema.BuiltinOperator.QUANTIZE, inner, target
        )

    def _grid(self, tensor: int) -> tuple[float, int]:
        quantization = self._graph.tensors[tensor].quantization
        return float(quantization.scale[0]), int(quantization.zeroPoint[0])

    def _make(self, tensor: int, kind: str, scale: float, zero_point: int) -> None:
        self._graph.tensors[tensor].type = _CODES[kind]
        self._graph.tensors[tensor].quantization = _quantization(scale, zero_point)

    def _add(self, like: int, kind: str, scale: float, zero_point: int) -> int:
        original = self._graph.tensors[like]
        self._model.buffers.append(schema.BufferT())
        self._graph.tensors.append(
            schema.TensorT(
                shape=original.shape, type=_CODES[kind], buffer=len(self._model.buffers) - 1, hasRank=original.hasRank,
                quantization=_quantization(scale, zero_point),
            )
        )  # fmt: skip
        return len(self._graph.tensors) - 1

    def _rename(self, outer: int, inner: int) -> None:
        """The interface keeps its name; what stood there before gets a longer one."""
        tensors = self._graph.tensors
        tensors[inner].name = tensors[outer].name
        tensors[outer].name = tensors[outer].name + b"_float32"

    def _is(self, operator: Any, builtin: int) -> bool:
        return _builtin(self._model.operatorCodes[operator.opcodeIndex]) == builtin

    def _operator(self, builtin: int, source: int, target: int) -> Any:
        codes = self._model.operatorCodes
        index = next((index for index, code in enumerate(codes) if _builtin(code) == builtin), len(codes))
        if index == len(codes):
            # DEQUANTIZE of int8 came with version 2, as did QUANTIZE of bytes to bytes.
            codes.append(schema.OperatorCodeT(builtinCode=builtin, deprecatedBuiltinCode=builtin, version=2))
        return schema.OperatorT(
            opcodeIndex=index,
            inputs=np.array([source], np.int32),
            outputs=np.array([target], np.int32),
        )


def _builtin(code: Any) -> int:
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def _quantization(scale: float, zero_point: int) -> Any:
    return schema.QuantizationParametersT(
        scale=np.array([scale], np.float32), zeroPoint=np.array([zero_point], np.int64), quantizedDimension=0
    )
