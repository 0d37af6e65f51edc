#include "compiler/lower.h"

#include <cmath>
#include <limits>
#include <tuple>

#include "compiler/byte_range.h"
#include "compiler/lowering.h"

namespace bihrnet {
namespace {

// Of what a byte of each channel of every int8 tensor may become: six times what bihrnet-w32 takes.
constexpr size_t kMostMapBytes = size_t{1} << 28;

}  // namespace

int Lowering::AddValue(Element element, int channels, int geometry) {
  const bool sign = element == Element::kSigns;
  Value value;
  value.sign = sign;
  value.bytes = element == Element::kBytes;
  value.channels = channels;
  value.geometry = geometry;
  const Geometry& place = (*geometries_)[geometry];
  if (sign) {
    value.planes = (channels + kQuad - 1) / kQuad;
    value.margin = RoundUpBytes(static_cast<size_t>(place.margin_front), 32);
    value.plane_bytes = RoundUpBytes(value.margin + place.pixels + static_cast<size_t>(place.margin_back), 64);
    // Planes a power of two apart would share the sets of a cache.
    if (value.plane_bytes % 1024 == 0) value.plane_bytes += 64;
  } else {
    value.planes = channels;
    value.plane_bytes = (value.bytes ? 1 : sizeof(float)) * static_cast<size_t>(place.pixels);
  }
  if (value.plane_bytes * static_cast<size_t>(value.planes) > static_cast<size_t>(kMaxElements) * 4 ||
      (sign && value.plane_bytes * static_cast<size_t>(value.planes) > std::numeric_limits<int32_t>::max())) {
    error_ = "a tensor of the region is too large.";
  }
  out_.program.values.push_back(value);
  return static_cast<int>(out_.program.values.size()) - 1;
}

// x = f(a, b or constants) over all channels; splits where either input changes planes.
int Lowering::Pointwise2(Pointwise op, const std::vector<Segment>& a, const std::vector<Segment>* b,
                         const std::vector<float>& constants, int geometry) {
  int channels = 0;
  for (const Segment& segment : a) channels += segment.channels;
  const int value = AddValue(false, channels, geometry);
  size_t ia = 0, ib = 0;
  int in_a = 0, in_b = 0;
  for (int first = 0; first < channels;) {
    int run = a[ia].channels - in_a;
    if (b != nullptr) run = std::min(run, (*b)[ib].channels - in_b);
    RangeOp& range = AddOp(StepKind::kRead, value, first, run);
    range.op = op;
    range.inputs.push_back({a[ia].from.value, a[ia].from.plane + in_a});
    if (b != nullptr) {
      range.inputs.push_back({(*b)[ib].from.value, (*b)[ib].from.plane + in_b});
    } else if (!constants.empty()) {
      for (int i = 0; i < run; ++i) {
        range.constants.push_back(constants.size() == 1 ? constants[0] : constants[static_cast<size_t>(first + i)]);
      }
    }
    first += run;
    if ((in_a += run) == a[ia].channels) ++ia, in_a = 0;
    if (b != nullptr && (in_b += run) == (*b)[ib].channels) ++ib, in_b = 0;
  }
  return value;
}

void Lowering::Constant(int tensor, Pointwise op, float constant) {
  Placed& placed = PlacedOf(tensor);
  const Shape& shape = ShapeOf(tensor);
  const int value = Pointwise2(op, placed.segments, nullptr, {constant}, GeometryOf(shape));
  placed.segments = {{{value, 0}, shape.channels}};
}

void Lowering::Activate(const Node& node) {
  const int output = node.outputs[0];
  if (node.activation == Activation::kRelu || node.activation == Activation::kRelu6) {
    Constant(output, Pointwise::kMax, 0.0f);
  }
  if (node.activation == Activation::kRelu6) Constant(output, Pointwise::kMin, 6.0f);
  if (node.activation == Activation::kReluN1To1) {
    Constant(output, Pointwise::kMax, -1.0f);
    Constant(output, Pointwise::kMin, 1.0f);
  }
}

// A tensor's segments, copied to planes of their own where one begins inside a group of `alignment` channels, or, for
// alignment 0, where there are several.
std::vector<Segment> Lowering::Contiguous(int tensor, int alignment) {
  Placed& placed = PlacedOf(tensor);
  int first = 0;
  bool fits = alignment != 0 || placed.segments.size() == 1;
  for (const Segment& segment : placed.segments) {
    fits = fits && (alignment == 0 || first % alignment == 0);
    first += segment.channels;
  }
  if (!fits && TensorOf(tensor).type == TensorType::kInt8) {
    MapBytes(tensor, {});
  } else if (!fits) {
    Constant(tensor, Pointwise::kMul, 1.0f);
  }
  return placed.segments;
}

bool Lowering::OnlySignsRead(int tensor) const {
  const std::vector<int>& nodes = consumers_[static_cast<size_t>(tensor)];
  return !IsOutput(tensor) && std::all_of(nodes.begin(), nodes.end(), [&](int n) {
    return graph_.nodes[static_cast<size_t>(n)].op == Op::kQuantize;
  });
}

void Lowering::LowerBinary(const Node& node) {
  const int output = node.outputs[0];
  if (TensorOf(output).type == TensorType::kInt8) return LowerBytes(node);
  const Shape& shape = ShapeOf(output);
  Pointwise op = Pointwise::kAdd;
  if (node.op == Op::kSub) op = Pointwise::kSub;
  if (node.op == Op::kMul) op = Pointwise::kMul;
  if (node.op == Op::kMaximum) op = Pointwise::kMax;
  if (node.op == Op::kMinimum) op = Pointwise::kMin;
  if (node.op == Op::kPrelu) op = Pointwise::kPrelu;
  int left = node.inputs[0], right = node.inputs[1];
  if (TensorOf(left).constant) {
    std::swap(left, right);
    if (op == Pointwise::kSub) op = Pointwise::kRsub;
  }
  const bool constant = TensorOf(right).constant;
  if (constant && op == Pointwise::kAdd && node.activation == Activation::kNone && OnlySignsRead(output) &&
      PlacedOf(left).bias.empty()) {
    PlacedOf(output).segments = PlacedOf(left).segments;
    PlacedOf(output).bias = TensorOf(right).floats.Copy();
    if (PlacedOf(output).bias.size() == 1) {
      PlacedOf(output).bias.assign(static_cast<size_t>(shape.channels), TensorOf(right).floats[0]);
    }
    return;
  }
  const int value =
      constant ? Pointwise2(op, PlacedOf(left).segments, nullptr, TensorOf(right).floats.Copy(), GeometryOf(shape))
               : Pointwise2(op, PlacedOf(left).segments, &PlacedOf(right).segments, {}, GeometryOf(shape));
  PlacedOf(output).segments = {{{value, 0}, shape.channels}};
  Activate(node);
}

void Lowering::LowerQuantize(const Node& node) {
  const int input = node.inputs[0];
  const int output = node.outputs[0];
  const Shape& shape = ShapeOf(input);
  std::vector<float> bias = PlacedOf(input).bias;
  const Tensor& tensor = TensorOf(input);
  const std::vector<int8_t> map = PlacedOf(input).map;
  const std::vector<Segment> segments = Contiguous(input, kQuad);
  const int value = AddValue(true, shape.channels, GeometryOf(shape));
  int first = 0;
  for (const Segment& segment : segments) {
    RangeOp& range = AddOp(StepKind::kRead, value, first, segment.channels);
    range.sign = true;
    range.inputs = {segment.from};
    if (!bias.empty()) range.constants.assign(bias.begin() + first, bias.begin() + first + segment.channels);
    if (tensor.type == TensorType::kInt8) {
      const auto at = [&](int channel) { return map.empty() ? map.begin() : map.begin() + 256 * ptrdiff_t{channel}; };
      ByteThresholds({at(first), at(first + segment.channels)}, tensor.zero_point, &range);
    }
    first += segment.channels;
  }
  PlacedOf(output).segments = {{{value, 0}, shape.channels}};
}

void Lowering::LowerDequantize(const Node& node) {
  const int output = node.outputs[0];
  const Shape& shape = ShapeOf(output);
  const int value = AddValueOf(output);
  RangeOp& range = AddOp(StepKind::kDequantize, value, 0, shape.channels);
  range.inputs = {PlacedOf(node.inputs[0]).segments[0].from};
  PlacedOf(output).segments = {{{value, 0}, shape.channels}};
  const Tensor& tensor = TensorOf(output);
  if (tensor.type == TensorType::kInt8) MapBytes(output, MapOf(node));
}

void Lowering::LowerPool(const Node& node) {
  const Shape& from = ShapeOf(node.inputs[0]);
  const int output = node.outputs[0];
  const Shape& to = ShapeOf(output);
  Step step;
  Pool& pool = step.pool;
  pool.average = node.op != Op::kMaxPool;
  pool.height = node.op == Op::kMean ? from.height : node.window.height;
  pool.width = node.op == Op::kMean ? from.width : node.window.width;
  pool.stride_height = node.window.stride_height;
  pool.stride_width = node.window.stride_width;
  pool.pad_top = PlaceWindow(from.height, pool.height, pool.stride_height, 1, node.window.same).pad_before;
  pool.pad_left = PlaceWindow(from.width, pool.width, pool.stride_width, 1, node.window.same).pad_before;
  const bool binary = node.op == Op::kBinaryMaxPool;
  if (TensorOf(output).type == TensorType::kInt8) {
    std::tie(pool.low, pool.high) = ByteRange(TensorOf(output), node.activation);
  }
  step.name = std::string(binary         ? "binary max"
                          : pool.average ? "average"
                                         : "max") +
              " pool " + std::to_string(pool.height) + "x" + std::to_string(pool.width);
  const int detail = AddDetail(std::move(step));
  const int value = binary ? AddValue(true, to.channels, GeometryOf(to)) : AddValueOf(output);
  int first = 0;
  for (const Segment& segment : PlacedOf(node.inputs[0]).segments) {
    RangeOp& op = AddOp(binary ? StepKind::kBinaryPool : StepKind::kPool, value, first, segment.channels);
    op.inputs = {segment.from};
    op.detail = detail;
    first += segment.channels;
  }
  PlacedOf(output).segments = {{{value, 0}, to.channels}};
  if (!binary && TensorOf(output).type != TensorType::kInt8) Activate(node);
}

void Lowering::LowerResize(const Node& node) {
  const Shape& from = ShapeOf(node.inputs[0]);
  const int output = node.outputs[0];
  const Shape& to = ShapeOf(output);
  Step step;
  step.name = "nearest resize";
  // TensorFlow Lite, resize_nearest_neighbor: where an output pixel looks.
  const auto axis = [&](int input, int size) {
    const float scale = node.align_corners && size > 1 ? static_cast<float>(input - 1) / static_cast<float>(size - 1)
                                                       : static_cast<float>(input) / static_cast<float>(size);
    std::vector<int> sources;
    for (int i = 0; i < size; ++i) {
      const float at = (static_cast<float>(i) + (node.half_pixel_centers ? 0.5f : 0.0f)) * scale;
      const int nearest = static_cast<int>(node.align_corners ? at + 0.5f : at);
      sources.push_back(std::clamp(nearest, 0, input - 1));
    }
    return sources;
  };
  step.resize.row = axis(from.height, to.height);
  step.resize.column = axis(from.width, to.width);
  const int factor = to.width / from.width;
  bool repeats = to.width % from.width == 0;
  for (int x = 0; repeats && x < to.width; ++x) repeats = step.resize.column[static_cast<size_t>(x)] == x / factor;
  if (repeats) step.resize.factor = factor;
  const int detail = AddDetail(std::move(step));
  const int value = AddValueOf(output);
  int first = 0;
  for (const Segment& segment : PlacedOf(node.inputs[0]).segments) {
    RangeOp& op = AddOp(StepKind::kResize, value, first, segment.channels);
    op.inputs = {segment.from};
    op.detail = detail;
    first += segment.channels;
  }
  PlacedOf(output).segments = {{{value, 0}, to.channels}};
}

void Lowering::LowerNode(const Node& node) {
  const int output = node.outputs[0];
  switch (node.op) {
    case Op::kBconv:
      return LowerBconv(node);
    case Op::kConv:
      return LowerConv(node);
    case Op::kByteConv:
      return LowerByteConv(node);
    case Op::kQuantize:
      return LowerQuantize(node);
    case Op::kDequantize:
      return LowerDequantize(node);
    case Op::kBinaryMaxPool:
    case Op::kAveragePool:
    case Op::kMaxPool:
    case Op::kMean:
      return LowerPool(node);
    case Op::kResizeNearest:
      return LowerResize(node);
    case Op::kAdd:
    case Op::kSub:
    case Op::kMul:
    case Op::kMaximum:
    case Op::kMinimum:
    case Op::kPrelu:
      return LowerBinary(node);
    case Op::kConcat:
      for (const int input : node.inputs) {
        const std::vector<Segment> segments = PlacedOf(input).segments;
        PlacedOf(output).segments.insert(PlacedOf(output).segments.end(), segments.begin(), segments.end());
      }
      return Activate(node);
    case Op::kSlice: {
      const std::vector<int32_t>& range = TensorOf(node.inputs[1]).ints;
      int begin = range[0], left = ShapeOf(output).channels;
      for (const Segment& segment : PlacedOf(node.inputs[0]).segments) {
        const int skip = std::min(begin, segment.channels);
        const int take = std::min(left, segment.channels - skip);
        if (take > 0) {
          PlacedOf(output).segments.push_back({{segment.from.value, segment.from.plane + skip}, take});
        }
        begin -= skip;
        left -= std::max(take, 0);
      }
      return;
    }
    case Op::kRelu:
    case Op::kRelu6:
    case Op::kReluN1To1: {
      PlacedOf(output).segments = PlacedOf(node.inputs[0]).segments;
      Node activated = node;
      activated.activation = node.op == Op::kRelu    ? Activation::kRelu
                             : node.op == Op::kRelu6 ? Activation::kRelu6
                                                     : Activation::kReluN1To1;
      return Activate(activated);
    }
    case Op::kRound: {
      const int value = Pointwise2(Pointwise::kRoundEven, PlacedOf(node.inputs[0]).segments, nullptr, {},
                                   GeometryOf(ShapeOf(output)));
      PlacedOf(output).segments = {{{value, 0}, ShapeOf(output).channels}};
      return;
    }
  }
}

void Lowering::Load(size_t input) {
  const int tensor = graph_.inputs[input];
  const std::vector<int>& readers = consumers_[static_cast<size_t>(tensor)];
  const auto taken = [&](int node) {
    return taken_along_[static_cast<size_t>(node)] || graph_.nodes[static_cast<size_t>(node)].op == Op::kByteConv;
  };
  if (!readers.empty() && std::all_of(readers.begin(), readers.end(), taken)) return;
  const Shape& shape = ShapeOf(tensor);
  const TensorType type = TensorOf(tensor).type;
  const bool bits = type == TensorType::kBits;
  const int value = bits ? AddValue(true, shape.channels, GeometryOf(shape)) : AddValueOf(tensor);
  Step step;
  step.name = "load " + TensorOf(tensor).name;
  step.tensor = static_cast<int>(input);
  step.tensor_is_int8 = type == TensorType::kInt8;
  AddOp(bits ? StepKind::kLoadBits : StepKind::kLoad, value, 0, shape.channels).detail = AddDetail(std::move(step));
  PlacedOf(tensor).segments = {{{value, 0}, shape.channels}};
}

void Lowering::Store(size_t output) {
  const int tensor = graph_.outputs[output];
  Step step;
  step.name = "store " + TensorOf(tensor).name;
  step.tensor = static_cast<int>(output);
  step.tensor_is_int8 = TensorOf(tensor).type == TensorType::kInt8;
  step.geometry = GeometryOf(ShapeOf(tensor));
  step.channels = ShapeOf(tensor).channels;
  const bool bits = TensorOf(tensor).type == TensorType::kBits;
  int first = 0;
  for (const Segment& segment : PlacedOf(tensor).segments) {
    step.parts.push_back({segment.from, first, segment.channels});
    first += segment.channels;
  }
  RangeOp& op = AddOp(bits ? StepKind::kStoreBits : StepKind::kStore, -1, 0, step.channels);
  for (const Part& part : step.parts) op.inputs.push_back(part.source);
  op.detail = AddDetail(std::move(step));
}

std::string Lowering::Run(const std::vector<std::vector<int>>& input_dims) {
  std::string error = InferShapes(graph_, input_dims, &shapes_);
  if (!error.empty()) return error;
  geometries_ = std::make_unique<Geometries>(graph_, shapes_);
  if (geometries_->too_large()) return "the pads of a convolution take too much memory.";
  size_t map_bytes = 0;
  for (const Node& node : graph_.nodes) {
    for (const int output : node.outputs) {
      if (TensorOf(output).type == TensorType::kInt8) map_bytes += 256 * static_cast<size_t>(ShapeOf(output).channels);
    }
  }
  if (map_bytes > kMostMapBytes) return "the int8 tensors of the region have too many channels.";
  error = FindExactConvs();
  if (!error.empty()) return error;
  for (size_t n = 0; n < graph_.nodes.size(); ++n) {
    for (const int input : graph_.nodes[n].inputs) {
      if (input >= 0) consumers_[static_cast<size_t>(input)].push_back(static_cast<int>(n));
    }
  }
  FindByteChains();
  for (size_t i = 0; i < graph_.inputs.size(); ++i) Load(i);
  for (size_t n = 0; n < graph_.nodes.size() && error_.empty(); ++n) {
    node_ = static_cast<int>(n);
    if (taken_along_[n]) continue;
    LowerNode(graph_.nodes[n]);
  }
  node_ = -1;
  for (size_t i = 0; i < graph_.outputs.size(); ++i) Store(i);
  for (const int tensor : graph_.outputs) {
    out_.program.output_dims.push_back(RuntimeDims(TensorOf(tensor), ShapeOf(tensor)));
  }
  out_.program.batch = ShapeOf(graph_.inputs[0]).batch;
  out_.program.geometries = geometries_->Take();
  return error_;
}

std::string Lower(const Graph& graph, const std::vector<std::vector<int>>& input_dims, Lowered* lowered) {
  return Lowering(graph, lowered).Run(input_dims);
}

}  // namespace bihrnet
