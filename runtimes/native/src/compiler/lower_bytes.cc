// int8 tensors: whatever one byte is made of is a table a channel, and a sum is TensorFlow Lite's.
#include <cmath>

#include "compiler/byte_range.h"
#include "compiler/fixed_point.h"
#include "compiler/lowering.h"

namespace bihrnet {
namespace {

constexpr float kBeyondInt8 = 1e6f;  // saturates wherever it starts
constexpr int kAdditionShift = 20;   // TensorFlow Lite, add.cc: bits that operands gain before they are scaled

int8_t Saturated(int64_t x, const std::pair<int32_t, int32_t>& range) {
  return static_cast<int8_t>(std::clamp<int64_t>(x, range.first, range.second));
}

// TensorFlow Lite, add.cc, before the sum is saturated.
class Addition {
 public:
  Addition(const Tensor& a, const Tensor& b, const Tensor& sum)
      : zero_points_{a.zero_point, b.zero_point, sum.zero_point} {
    const double twice = 2 * std::max(a.scale, b.scale);
    factors_[0] = QuantizeMultiplier(a.scale / twice);
    factors_[1] = QuantizeMultiplier(b.scale / twice);
    factors_[2] = QuantizeMultiplier(twice / ((1 << kAdditionShift) * sum.scale));
  }

  int32_t operator()(int a, int b) const {
    const int32_t raw = Operand(a - zero_points_[0], factors_[0]) + Operand(b - zero_points_[1], factors_[1]);
    return Multiply(raw, factors_[2]) + zero_points_[2];
  }

 private:
  // The optimized kernels round an operand once, after all of its shifts; the reference kernels do so twice.
  static int32_t Operand(int x, const Multiplier& factor) {
    if (factor.shift < -kAdditionShift) return 0;
    return DoublingHighMultiply(x * (1 << (kAdditionShift + factor.shift)), factor.mantissa);
  }

  int32_t zero_points_[3];
  Multiplier factors_[3];
};

}  // namespace

// The function of one byte that a node is: of LceDequantize, where the bytes are +1 and -1, too.
std::vector<int8_t> Lowering::MapOf(const Node& node) const {
  const Tensor& output = TensorOf(node.outputs[0]);
  const auto channels = static_cast<size_t>(ShapeOf(node.outputs[0]).channels);
  const std::pair<int32_t, int32_t> range = ByteRange(output, node.activation);
  std::vector<int8_t> map(256 * channels);
  const auto fill = [&](const auto& f) {
    for (size_t c = 0; c < channels; ++c) {
      for (int x = -128; x < 128; ++x) map[256 * c + static_cast<size_t>(x + 128)] = Saturated(f(x, c), range);
    }
  };
  if (node.op == Op::kDequantize) {
    const auto one = static_cast<int>(std::floor(std::min(1.0f / output.scale + 0.5f, kBeyondInt8)));
    fill([&](int x, size_t) { return x * one + output.zero_point; });
    return map;
  }
  const size_t constant = TensorOf(node.inputs[0]).constant ? 0 : 1;
  const Tensor& input = TensorOf(node.inputs[1 - constant]);
  const Tensor& operand = TensorOf(node.inputs[constant]);
  const auto value = [&](size_t channel) {
    return operand.bytes[operand.bytes.size() == 1 ? 0 : channel] - operand.zero_point;
  };
  if (node.op == Op::kAdd) {
    const Addition sum(TensorOf(node.inputs[0]), TensorOf(node.inputs[1]), output);
    fill([&](int x, size_t c) {
      const int y = value(c) + operand.zero_point;
      return constant == 0 ? sum(y, x) : sum(x, y);
    });
    return map;
  }
  // TensorFlow Lite divides and multiplies these in float32.
  const Multiplier product = QuantizeMultiplier(input.scale * operand.scale / output.scale);
  const Multiplier same = QuantizeMultiplier(input.scale / output.scale);
  fill([&](int x, size_t c) {
    const int from = x - input.zero_point;
    const bool kept = node.op == Op::kPrelu && from >= 0;
    return (kept ? Multiply(from, same) : Multiply(from * value(c), product)) + output.zero_point;
  });
  return map;
}

// A tensor's bytes through a map, or, without one, as they are.
void Lowering::MapBytes(int tensor, std::vector<int8_t> map) {
  const Shape& shape = ShapeOf(tensor);
  if (map.empty()) {
    for (int c = 0; c < shape.channels; ++c) {
      for (int x = -128; x < 128; ++x) map.push_back(static_cast<int8_t>(x));
    }
  }
  const int value = AddValue(Element::kBytes, shape.channels, GeometryOf(shape));
  int first = 0;
  for (const Segment& segment : PlacedOf(tensor).segments) {
    RangeOp& range = AddOp(StepKind::kRead, value, first, segment.channels);
    range.inputs = {segment.from};
    range.map.assign(map.begin() + 256 * ptrdiff_t{first}, map.begin() + 256 * ptrdiff_t{first + segment.channels});
    first += segment.channels;
  }
  PlacedOf(tensor).segments = {{{value, 0}, shape.channels}};
}

void Lowering::LowerByteAddition(const Node& node) {
  const Tensor& a = TensorOf(node.inputs[0]);
  const Tensor& b = TensorOf(node.inputs[1]);
  const Tensor& sum = TensorOf(node.outputs[0]);
  const std::pair<int32_t, int32_t> range = ByteRange(sum, node.activation);
  const std::vector<float> key = {a.scale,
                                  b.scale,
                                  sum.scale,
                                  static_cast<float>(a.zero_point),
                                  static_cast<float>(b.zero_point),
                                  static_cast<float>(sum.zero_point),
                                  static_cast<float>(range.first),
                                  static_cast<float>(range.second)};
  const auto [known, added] = additions_.try_emplace(key, static_cast<int>(out_.program.additions.size()));
  if (added) {
    ByteAddition addition;
    addition.plain = a.scale == sum.scale && b.scale == sum.scale && a.zero_point + b.zero_point == sum.zero_point &&
                     range.first == -128 && range.second == 127;
    if (!addition.plain) {
      const Addition add(a, b, sum);
      for (int x = -128; x < 128; ++x) {
        for (int y = -128; y < 128; ++y) addition.table.push_back(Saturated(add(x, y), range));
      }
    }
    out_.program.additions.push_back(std::move(addition));
  }
  const Shape& shape = ShapeOf(node.outputs[0]);
  const int value = AddValue(Element::kBytes, shape.channels, GeometryOf(shape));
  ForEachShared(PlacedOf(node.inputs[0]).segments, PlacedOf(node.inputs[1]).segments,
                [&](int first, int channels, PlaneRef x, PlaneRef y) {
                  RangeOp& op = AddOp(StepKind::kRead, value, first, channels);
                  op.inputs = {x, y};
                  op.addition = known->second;
                });
  PlacedOf(node.outputs[0]).segments = {{{value, 0}, shape.channels}};
}

void Lowering::LowerBytes(const Node& node) {
  const int output = node.outputs[0];
  const bool first_constant = TensorOf(node.inputs[0]).constant;
  if (!first_constant && !TensorOf(node.inputs[1]).constant) return LowerByteAddition(node);
  const int input = node.inputs[first_constant ? 1 : 0];
  PlacedOf(output).segments = PlacedOf(input).segments;
  std::vector<int8_t> map = MapOf(node);
  bool falls = false;
  for (size_t i = 1; i < map.size(); ++i) falls = falls || (i % 256 != 0 && map[i] < map[i - 1]);
  if (OnlySignsRead(output) && !falls) {
    PlacedOf(output).map = std::move(map);
  } else {
    MapBytes(output, std::move(map));
  }
}

// A byte is negative where what the map makes of it is below the zero point; the map does not fall.
void Lowering::ByteThresholds(const std::vector<int8_t>& map, int32_t zero_point, RangeOp* range) const {
  for (int c = 0; c < range->channels; ++c) {
    int threshold = -128;
    const auto negative = [&](int x) {
      return (map.empty() ? x : map[256 * static_cast<size_t>(c) + static_cast<size_t>(x + 128)]) < zero_point;
    };
    while (threshold < 128 && negative(threshold)) ++threshold;
    range->always.push_back(threshold == 128 ? 1 : 0);
    range->thresholds.push_back(static_cast<int8_t>(std::min(threshold, 127)));
  }
}

}  // namespace bihrnet
