"""Hand-built ``.tflite`` models with Larq Compute Engine's operators, for the tests of the native delegate.

No converter runs: a :class:`GraphBuilder` writes tensors and operators as told, so a test can have any attribute that
the file format can say, sound or not. The methods named after operators infer the shape of their output; ``builtin``
and ``custom`` take everything as given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from lce_graph import TYPES, Graph, Shape
from numpy.typing import NDArray

Array = NDArray[Any]
Pair = tuple[int, int]

WORD = 32
PADDING = {"SAME": 0, "VALID": 1}
ACTIVATION = {"NONE": 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}


def words(channels: int) -> int:
    """Number of int32 words that hold one bit for every channel."""
    return -(-channels // WORD)


def pack_signs(values: Array) -> NDArray[np.int32]:
    """LCE's bit packing of the last axis: bit = 1 where negative, least significant bit first, rest of the word 0."""
    bits = np.zeros((*values.shape[:-1], words(values.shape[-1]) * WORD), np.uint8)
    bits[..., : values.shape[-1]] = values < 0
    return np.packbits(bits, axis=-1, bitorder="little").view("<i4").reshape(*values.shape[:-1], -1)


def unpack_signs(packed: Array, channels: int) -> NDArray[np.float32]:
    """The +1 and -1 that :func:`pack_signs` packed."""
    data = np.ascontiguousarray(packed, "<i4").view(np.uint8)
    bits = np.unpackbits(data, axis=-1, bitorder="little")[..., :channels]
    return 1 - 2 * bits.astype(np.float32)


def output_size(size: int, kernel: int, stride: int, dilation: int, padding: str) -> int:
    """Rows or columns that TFLite gives a convolution or pooling."""
    reach = (kernel - 1) * dilation + 1
    return -(-size // stride) if padding == "SAME" else -(-(size - reach + 1) // stride)


class GraphBuilder(Graph):
    """A graph whose operators know the shape of what they give."""

    # LCE's operators

    def quantize(self, x: int) -> int:
        """LceQuantize of a float32, int8 or bool tensor."""
        shape = self.shape(x)
        y = self.tensor((*shape[:-1], words(shape[-1])), "int32")
        self.custom("LceQuantize", [x], [y])
        return y

    def dequantize(
        self, x: int, channels: int, dtype: str = "float32", *, scale: float | None = None, zero_point: int = 0
    ) -> int:
        """LceDequantize to float32, int8 or bool."""
        y = self.tensor((*self.shape(x)[:-1], channels), dtype, scale=scale, zero_point=zero_point)
        self.custom("LceDequantize", [x], [y])
        return y

    def bconv(
        self,
        x: int,
        kernel: Array,
        channels_in: int,
        *,
        multiplier: Array | None = None,
        bias: Array | None = None,
        thresholds: Array | None = None,
        stride: Pair = (1, 1),
        dilation: Pair = (1, 1),
        padding: str = "SAME",
        pad_values: int = 1,
        activation: str = "NONE",
        output: str = "float32",
        scale: float | None = None,
        zero_point: int = 0,
    ) -> int:
        """LceBconv2d of a bitpacked tensor.

        ``kernel`` is OHWI, its signs count; I is ``channels_in`` over the number of groups. Float32 and int8 output
        want ``multiplier`` and ``bias``, int32 (bitpacked) output wants ``thresholds``.
        """
        batch, height, width = self.shape(x)[:3]
        channels_out, rows, columns = kernel.shape[:3]
        y = self.tensor(
            (
                batch,
                output_size(height, rows, stride[0], dilation[0], padding),
                output_size(width, columns, stride[1], dilation[1], padding),
                words(channels_out) if output == "int32" else channels_out,
            ),
            output,
            scale=scale,
            zero_point=zero_point,
        )
        optional = [
            -1 if value is None else self.constant(value, dtype)
            for value, dtype in ((multiplier, "float32"), (bias, "float32"), (thresholds, "int32"))
        ]
        options = {
            "channels_in": channels_in,
            "dilation_height_factor": dilation[0],
            "dilation_width_factor": dilation[1],
            "fused_activation_function": ACTIVATION[activation],
            "pad_values": pad_values,
            "padding": PADDING[padding],
            "stride_height": stride[0],
            "stride_width": stride[1],
        }
        self.custom("LceBconv2d", [x, self.constant(pack_signs(kernel)), *optional], [y], options)
        return y

    def bmaxpool(self, x: int, size: Pair = (2, 2), stride: Pair = (2, 2), padding: str = "SAME") -> int:
        """LceBMaxPool2d of a bitpacked tensor."""
        batch, height, width, depth = self.shape(x)
        rows = output_size(height, size[0], stride[0], 1, padding)
        y = self.tensor((batch, rows, output_size(width, size[1], stride[1], 1, padding), depth), "int32")
        options = {
            "filter_height": size[0],
            "filter_width": size[1],
            "padding": PADDING[padding],
            "stride_height": stride[0],
            "stride_width": stride[1],
        }
        self.custom("LceBMaxPool2d", [x], [y], options)
        return y

    # Built-in operators

    def unary(self, name: str, x: int) -> int:
        """An operator of one input, without options and with the output like the input: RELU, RELU6, ROUND..."""
        y = self.tensor(self.shape(x), self.dtype(x))
        self.builtin(name, [x], [y])
        return y

    def binary(self, name: str, a: int, b: int, activation: str = "NONE", **quantization: Any) -> int:
        """ADD, SUB, MUL, MINIMUM, MAXIMUM or PRELU, with broadcasting; of int8, ``quantization`` is the output's."""
        y = self.tensor(np.broadcast_shapes(self.shape(a), self.shape(b)), self.dtype(a), **quantization)
        fused = name in ("ADD", "SUB", "MUL")
        options = {"fusedActivationFunction": ACTIVATION[activation]} if fused else {}
        self.builtin(name, [a, b], [y], **options)
        return y

    def concat(self, tensors: Sequence[int], axis: int = 3, activation: str = "NONE") -> int:
        shape = list(self.shape(tensors[0]))
        shape[axis] = sum(self.shape(tensor)[axis] for tensor in tensors)
        y = self.tensor(shape, self.dtype(tensors[0]), **self.quantization(tensors[0]))
        self.builtin("CONCATENATION", tensors, [y], axis=axis, fusedActivationFunction=ACTIVATION[activation])
        return y

    def strided_slice(self, x: int, begin: Shape, end: Shape, strides: Shape | None = None, **masks: int) -> int:
        """STRIDED_SLICE; ``masks`` are beginMask and endMask, the only ones whose shape is inferred."""
        strides = strides or [1] * len(begin)
        shape = []
        for axis, size in enumerate(self.shape(x)):
            low = None if masks.get("beginMask", 0) >> axis & 1 else begin[axis]
            high = None if masks.get("endMask", 0) >> axis & 1 else end[axis]
            shape.append(len(range(*slice(low, high, strides[axis]).indices(size))))
        y = self.tensor(shape, self.dtype(x), **self.quantization(x))
        self.builtin("STRIDED_SLICE", [x, *(self.constant(v, "int32") for v in (begin, end, strides))], [y], **masks)
        return y

    def channels(self, x: int, begin: int, end: int) -> int:
        """The channel slice that TensorFlow writes for ``x[..., begin:end]``."""
        rest = len(self.shape(x)) - 1
        mask = (1 << rest) - 1
        return self.strided_slice(x, [0] * rest + [begin], [0] * rest + [end], beginMask=mask, endMask=mask)

    def conv2d(
        self,
        x: int,
        kernel: Array,
        bias: Array | None = None,
        *,
        stride: Pair = (1, 1),
        dilation: Pair = (1, 1),
        padding: str = "SAME",
        activation: str = "NONE",
        scales: Array | None = None,
        **quantization: Any,
    ) -> int:
        """CONV_2D in float; ``kernel`` is OHWI.

        With ``scales``, one an output channel or a single one, in int8: kernel and bias are the integers, and
        ``quantization`` is the result's.
        """
        batch, height, width, _ = self.shape(x)
        channels_out, rows, columns, _ = kernel.shape
        out_height = output_size(height, rows, stride[0], dilation[0], padding)
        out_width = output_size(width, columns, stride[1], dilation[1], padding)
        bias = np.zeros(channels_out, np.float32) if bias is None else bias
        if scales is None:
            y = self.tensor((batch, out_height, out_width, channels_out))
            constants = [self.constant(kernel, "float32"), self.constant(bias, "float32")]
        else:
            y = self.tensor((batch, out_height, out_width, channels_out), "int8", **quantization)
            of_bias = np.float32(self.quantization(x)["scale"]) * scales.astype(np.float32)
            constants = [
                self.constant(kernel, "int8", scale=scales.tolist()),
                self.constant(bias, "int32", scale=of_bias.tolist()),
            ]
        self.builtin(
            "CONV_2D",
            [x, *constants],
            [y],
            padding=PADDING[padding],
            strideH=stride[0],
            strideW=stride[1],
            dilationHFactor=dilation[0],
            dilationWFactor=dilation[1],
            fusedActivationFunction=ACTIVATION[activation],
        )
        return y

    def pool(self, name: str, x: int, size: Pair, stride: Pair, padding: str = "SAME", activation: str = "NONE") -> int:
        """AVERAGE_POOL_2D or MAX_POOL_2D."""
        batch, height, width, depth = self.shape(x)
        rows = output_size(height, size[0], stride[0], 1, padding)
        columns = output_size(width, size[1], stride[1], 1, padding)
        y = self.tensor((batch, rows, columns, depth), self.dtype(x), **self.quantization(x))
        self.builtin(
            name,
            [x],
            [y],
            padding=PADDING[padding],
            strideH=stride[0],
            strideW=stride[1],
            filterHeight=size[0],
            filterWidth=size[1],
            fusedActivationFunction=ACTIVATION[activation],
        )
        return y

    def resize_nearest(self, x: int, size: Pair, *, align_corners: bool = False, half_pixel: bool = False) -> int:
        batch, _, _, depth = self.shape(x)
        y = self.tensor((batch, *size, depth), self.dtype(x), **self.quantization(x))
        options = {"alignCorners": align_corners, "halfPixelCenters": half_pixel}
        self.builtin("RESIZE_NEAREST_NEIGHBOR", [x, self.constant(size, "int32")], [y], version=3, **options)
        return y

    def mean(self, x: int, axes: Sequence[int], *, keep_dims: bool = True) -> int:
        shape = [1 if axis in axes else size for axis, size in enumerate(self.shape(x))]
        if not keep_dims:
            shape = [size for axis, size in enumerate(self.shape(x)) if axis not in axes]
        y = self.tensor(shape, self.dtype(x))
        self.builtin("MEAN", [x, self.constant(axes, "int32")], [y], keepDims=keep_dims)
        return y


@dataclass(frozen=True)
class Bconv:
    """One LceBconv2d with random weights, and what stands before and behind it.

    ``source`` is what the graph's input is: "float32", "int8" (then LceQuantize follows) or "int32" (bitpacked).
    ``dequantize`` puts LceDequantize behind a bitpacked output.
    """

    channels_in: int = 64
    channels_out: int = 32
    height: int = 5
    width: int = 7
    batch: int = 1
    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: str = "SAME"
    pad_values: int = 1
    activation: str = "NONE"
    groups: int = 1
    source: str = "float32"
    output: str = "float32"
    scale: float = 0.75
    zero_point: int = -3
    dequantize: bool = False
    seed: int = 0
    #: Arguments of GraphBuilder.bconv that replace the random ones: multiplier, bias, thresholds.
    replace: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lce_can(self) -> bool:
        """Whether LCE's reference kernel takes it: zero padding only with an even number of channels."""
        return not (self.padding == "SAME" and self.pad_values == 0 and self.channels_in % 2)

    def add(self, graph: GraphBuilder, x: int) -> int:
        """The operator alone, on the bitpacked tensor ``x``."""
        rng = np.random.default_rng(self.seed)
        depth = self.channels_in // self.groups
        kernel = rng.choice([-1.0, 1.0], (self.channels_out, *self.kernel, depth))
        count = math.prod(self.kernel) * depth
        given: dict[str, Any] = {}
        if self.output == "int32":
            spread = max(1, math.isqrt(count))
            given["thresholds"] = count // 2 + rng.integers(-spread, spread + 1, self.channels_out)
        else:
            given["multiplier"] = rng.standard_normal(self.channels_out) / math.sqrt(count)
            given["bias"] = rng.standard_normal(self.channels_out)
            if self.output == "int8":  # spread over most of the 256 values
                given["multiplier"] *= 40 * self.scale
        if self.output == "int8":
            given |= {"scale": self.scale, "zero_point": self.zero_point}
        return graph.bconv(
            x,
            kernel,
            self.channels_in,
            stride=self.stride,
            dilation=self.dilation,
            padding=self.padding,
            pad_values=self.pad_values,
            activation=self.activation,
            output=self.output,
            **{**given, **self.replace},
        )

    def model(self, *, every_field: bool = False) -> bytes:
        graph = GraphBuilder()
        shape = (self.batch, self.height, self.width)
        if self.source == "int32":
            x = graph.input((*shape, words(self.channels_in)), "int32")
        elif self.source == "int8":
            x = graph.quantize(graph.input((*shape, self.channels_in), "int8", scale=0.5, zero_point=4))
        else:
            x = graph.quantize(graph.input((*shape, self.channels_in), self.source))
        y = self.add(graph, x)
        if self.dequantize:
            y = graph.dequantize(y, self.channels_out)
        return graph.finish(y, every_field=every_field)


def random_inputs(model: bytes, seed: int = 0, channels: int | None = None) -> list[Array]:
    """Inputs for a model of :class:`GraphBuilder`, exact zeros and both signs of zero among the floats.

    ``channels`` is how many bits of a bitpacked (int32) input mean something; the bits behind them are 0.
    """
    rng = np.random.default_rng(seed)
    graph = schema.ModelT.InitFromPackedBuf(model, 0).subgraphs[0]
    inputs: list[Array] = []
    for index in graph.inputs:
        entry = graph.tensors[index]
        shape = tuple(int(size) for size in entry.shape)
        if entry.type == TYPES["float32"]:
            values = rng.standard_normal(shape).astype(np.float32)
            values[rng.random(shape) < 0.05] = 0.0
            values[rng.random(shape) < 0.05] = -0.0
            inputs.append(values)
        elif entry.type == TYPES["bool"]:
            inputs.append(rng.random(shape) < 0.5)
        else:
            kind = np.dtype(next(name for name, code in TYPES.items() if code == entry.type))
            limits = np.iinfo(kind)
            values = rng.integers(limits.min, limits.max, shape, kind, endpoint=True)
            if channels is not None and kind == np.int32:
                values = pack_signs(unpack_signs(values, channels))
            inputs.append(values)
    return inputs


def run_lce(model: bytes, inputs: Sequence[Array]) -> list[Array]:
    """The outputs of LCE's own interpreter, with its reference kernel: it takes every attribute, groups too."""
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    outputs: list[Array] = Interpreter(model, use_reference_bconv=True).interpreter.predict(list(inputs))
    return outputs
