#include "compiler/shapes.h"

#include <algorithm>

namespace bihrnet {
namespace {

int64_t Elements(const Shape& shape) { return int64_t{shape.batch} * shape.height * shape.width * shape.channels; }

bool SameImage(const Shape& a, const Shape& b) {
  return a.batch == b.batch && a.height == b.height && a.width == b.width;
}

std::string Mismatch(const Node& node, const char* what) { return node.name + ": " + what + "."; }

std::string InferNode(const Graph& graph, const Node& node, std::vector<Shape>* shapes) {
  const auto input = [&](size_t i) -> const Shape& { return (*shapes)[static_cast<size_t>(node.inputs[i])]; };
  const auto constant = [&](size_t i) { return graph.tensors[static_cast<size_t>(node.inputs[i])].constant; };
  Shape shape = input(constant(0) ? 1 : 0);
  switch (node.op) {
    case Op::kConv:
    case Op::kByteConv:
    case Op::kBconv: {
      const std::vector<int>& filter = graph.tensors[static_cast<size_t>(node.inputs[1])].dims;
      const bool fits = node.op != Op::kBconv ? shape.channels == filter[3]
                                              : shape.channels >= node.channels_in &&
                                                    (shape.channels + 31) / 32 == (node.channels_in + 31) / 32;
      if (!fits) {
        return Mismatch(node, "its input has other channels than its filter");
      }
      const WindowAxis y = PlaceWindow(shape.height, filter[1], node.window.stride_height, node.window.dilation_height,
                                       node.window.same);
      const WindowAxis x =
          PlaceWindow(shape.width, filter[2], node.window.stride_width, node.window.dilation_width, node.window.same);
      if (y.output < 1 || x.output < 1) return Mismatch(node, "its input is smaller than its filter");
      shape.height = y.output;
      shape.width = x.output;
      shape.channels = filter[0];
      break;
    }
    case Op::kBinaryMaxPool:
    case Op::kAveragePool:
    case Op::kMaxPool: {
      const WindowAxis y =
          PlaceWindow(shape.height, node.window.height, node.window.stride_height, 1, node.window.same);
      const WindowAxis x = PlaceWindow(shape.width, node.window.width, node.window.stride_width, 1, node.window.same);
      if (y.output < 1 || x.output < 1) return Mismatch(node, "its input is smaller than its window");
      shape.height = y.output;
      shape.width = x.output;
      break;
    }
    case Op::kMean:
      shape.height = shape.width = 1;
      shape.flat = graph.tensors[static_cast<size_t>(node.outputs[0])].dims.size() == 2;
      break;
    case Op::kDequantize: {
      const std::vector<int>& dims = graph.tensors[static_cast<size_t>(node.outputs[0])].dims;
      if (shape.channels < dims.back() || (dims.back() + 31) / 32 != (shape.channels + 31) / 32) {
        return Mismatch(node, "its output has other channels than its input");
      }
      shape.channels = dims.back();
      break;
    }
    case Op::kConcat:
      for (size_t i = 1; i < node.inputs.size(); ++i) {
        if (!SameImage(shape, input(i))) return Mismatch(node, "its inputs differ in size");
        if (shape.channels > kMaxDimension - input(i).channels) return Mismatch(node, "it has too many channels");
        shape.channels += input(i).channels;
      }
      break;
    case Op::kSlice: {
      const std::vector<int32_t>& range = graph.tensors[static_cast<size_t>(node.inputs[1])].ints;
      const int last = range[1] < 0 ? shape.channels : range[1];
      if (last > shape.channels || range[0] >= last) return Mismatch(node, "it slices past its input's channels");
      shape.channels = last - range[0];
      break;
    }
    case Op::kResizeNearest: {
      const std::vector<int32_t>& size = graph.tensors[static_cast<size_t>(node.inputs[1])].ints;
      shape.height = size[0];
      shape.width = size[1];
      break;
    }
    case Op::kAdd:
    case Op::kSub:
    case Op::kMul:
    case Op::kMaximum:
    case Op::kMinimum:
      for (size_t i = 0; i < 2; ++i) {
        if (constant(i)) {
          const size_t count = graph.tensors[static_cast<size_t>(node.inputs[i])].count();
          if (count != 1 && count != static_cast<size_t>(shape.channels)) {
            return Mismatch(node, "its constant has other channels than its input");
          }
        } else if (!SameImage(shape, input(i)) || shape.channels != input(i).channels) {
          return Mismatch(node, "its inputs differ in size");
        }
      }
      break;
    case Op::kPrelu: {
      const size_t count = graph.tensors[static_cast<size_t>(node.inputs[1])].count();
      if (count != 1 && count != static_cast<size_t>(shape.channels)) {
        return Mismatch(node, "its slopes are not one a channel");
      }
      break;
    }
    case Op::kQuantize:
    case Op::kRelu:
    case Op::kRelu6:
    case Op::kReluN1To1:
    case Op::kRound:
      break;
  }
  if (Elements(shape) > kMaxElements) return Mismatch(node, "its output is too large");
  (*shapes)[static_cast<size_t>(node.outputs[0])] = shape;
  return "";
}

int RoundUp(int value, int to) { return (value + to - 1) / to * to; }

}  // namespace

WindowAxis PlaceWindow(int input, int size, int stride, int dilation, bool same) {
  const int64_t extent = int64_t{size - 1} * dilation + 1;
  WindowAxis axis;
  if (same) {
    axis.output = (input + stride - 1) / stride;
    const int64_t padding = std::max<int64_t>(0, int64_t{axis.output - 1} * stride + extent - input);
    axis.pad_before = static_cast<int>(padding / 2);
  } else if (extent <= input) {
    axis.output = static_cast<int>((input - extent) / stride) + 1;
  }
  return axis;
}

std::string InferShapes(const Graph& graph, const std::vector<std::vector<int>>& input_dims,
                        std::vector<Shape>* shapes) {
  shapes->assign(graph.tensors.size(), Shape{});
  for (size_t i = 0; i < graph.inputs.size(); ++i) {
    const Tensor& tensor = graph.tensors[static_cast<size_t>(graph.inputs[i])];
    const std::vector<int>& dims = input_dims[i];
    if (dims.size() != 4) return tensor.name + ": it has " + std::to_string(dims.size()) + " dimensions, not 4.";
    for (const int size : dims) {
      if (size < 1 || size > kMaxDimension) return tensor.name + ": a dimension of it is empty or too large.";
    }
    Shape shape{dims[0], dims[1], dims[2], dims[3], false};
    if (tensor.type == TensorType::kBits) {
      if (dims[3] > kMaxDimension / 32) return tensor.name + ": a dimension of it is too large.";
      shape.channels = 32 * dims[3];
    }
    // A product of four sizes below 2^20 may pass 2^63: multiply under a bound.
    int64_t elements = shape.batch;
    for (const int size : {shape.height, shape.width, shape.channels}) {
      elements *= size;
      if (elements > kMaxElements) return tensor.name + ": it is too large.";
    }
    (*shapes)[static_cast<size_t>(graph.inputs[i])] = shape;
  }
  for (const Node& node : graph.nodes) {
    const std::string error = InferNode(graph, node, shapes);
    if (!error.empty()) return error;
  }
  const Shape& first = (*shapes)[static_cast<size_t>(graph.inputs[0])];
  for (const int tensor : graph.inputs) {
    if ((*shapes)[static_cast<size_t>(tensor)].batch != first.batch) {
      return graph.tensors[static_cast<size_t>(tensor)].name + ": its batch differs from that of other inputs.";
    }
  }
  return "";
}

std::vector<int> RuntimeDims(const Tensor& tensor, const Shape& shape) {
  const int last = tensor.type == TensorType::kBits ? (shape.channels + 31) / 32 : shape.channels;
  if (shape.flat) return {shape.batch, last};
  return {shape.batch, shape.height, shape.width, last};
}

Reach FindReach(const Window& window, int taps_height, int taps_width, const Shape& input) {
  Reach reach;
  reach.vertical = PlaceWindow(input.height, taps_height, window.stride_height, window.dilation_height, window.same);
  reach.horizontal = PlaceWindow(input.width, taps_width, window.stride_width, window.dilation_width, window.same);
  reach.direct = window.stride_height == 1 && window.stride_width == 1 && reach.vertical.output == input.height &&
                 reach.horizontal.output == input.width;
  const auto floor_div = [](int a, int b) { return (a >= 0 ? a : a - b + 1) / b; };
  reach.first_row = floor_div(-reach.vertical.pad_before, window.stride_height);
  reach.first_column = floor_div(-reach.horizontal.pad_before, window.stride_width);
  reach.last_row =
      floor_div((taps_height - 1) * window.dilation_height - reach.vertical.pad_before, window.stride_height) +
      reach.vertical.output - 1;
  reach.last_column =
      floor_div((taps_width - 1) * window.dilation_width - reach.horizontal.pad_before, window.stride_width) +
      reach.horizontal.output - 1;
  return reach;
}

Geometries::Geometries(const Graph& graph, const std::vector<Shape>& shapes) {
  std::map<std::pair<int, int>, int> pitches;
  const auto want = [&](int height, int width, int pitch) {
    int& known = pitches[{height, width}];
    known = std::max(known, pitch);
  };
  for (const int tensor : graph.inputs) {
    const Shape& shape = shapes[static_cast<size_t>(tensor)];
    want(shape.height, shape.width, shape.width);
  }
  for (const Node& node : graph.nodes) {
    const Shape& output = shapes[static_cast<size_t>(node.outputs[0])];
    want(output.height, output.width, output.width);
    if (node.op != Op::kBconv) continue;
    const Shape& input = shapes[static_cast<size_t>(node.inputs[0])];
    const std::vector<int>& filter = graph.tensors[static_cast<size_t>(node.inputs[1])].dims;
    const Reach reach = FindReach(node.window, filter[1], filter[2], input);
    if (reach.direct) {
      // The pads right of a row are those left of the next one.
      const int after = (filter[2] - 1) * node.window.dilation_width - reach.horizontal.pad_before;
      want(input.height, input.width, input.width + std::max(reach.horizontal.pad_before, after));
    } else {
      want(output.height, output.width, reach.last_column - reach.first_column + 1);
    }
  }
  for (const auto& [size, pitch] : pitches) {
    if (int64_t{size.first} * pitch > kMaxElements) {
      too_large_ = true;
      return;
    }
    Geometry geometry;
    geometry.height = size.first;
    geometry.width = size.second;
    geometry.pitch = pitch;
    geometry.pixels = RoundUp(geometry.height * pitch, kLanes);
    by_size_[size] = static_cast<int>(list_.size());
    list_.push_back(geometry);
  }
  for (const Node& node : graph.nodes) {
    if (node.op != Op::kBconv) continue;
    const Shape& input = shapes[static_cast<size_t>(node.inputs[0])];
    const std::vector<int>& filter = graph.tensors[static_cast<size_t>(node.inputs[1])].dims;
    const Reach reach = FindReach(node.window, filter[1], filter[2], input);
    if (!reach.direct) continue;
    Geometry& geometry = list_[static_cast<size_t>(Find(input.height, input.width))];
    const int above = reach.vertical.pad_before;
    const int below = (filter[1] - 1) * node.window.dilation_height - above;
    const int left = reach.horizontal.pad_before;
    const int right = (filter[2] - 1) * node.window.dilation_width - left;
    const int64_t front = int64_t{above} * geometry.pitch + left;
    const int64_t back = int64_t{below} * geometry.pitch + right;
    if (front > kMaxElements || back > kMaxElements) {
      too_large_ = true;
      return;
    }
    geometry.margin_front = std::max(geometry.margin_front, static_cast<int>(front));
    geometry.margin_back = std::max(geometry.margin_back, static_cast<int>(back));
  }
  for (Geometry& geometry : list_) {
    geometry.mask.assign(static_cast<size_t>(geometry.pixels), 0);
    for (int y = 0; y < geometry.height; ++y) {
      std::fill_n(geometry.mask.begin() + y * geometry.pitch, geometry.width, uint8_t{0x0f});
    }
  }
}

int Geometries::Find(int height, int width) const { return by_size_.at({height, width}); }

}  // namespace bihrnet
