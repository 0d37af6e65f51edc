// int8 tensors: whatever one byte is made of is a table a channel, and a sum is TensorFlow Lite's.
#include <algorithm>
#include <array>
#include <cmath>

#include "compiler/byte_addition.h"
#include "compiler/byte_range.h"
#include "compiler/fixed_point.h"
#include "compiler/lowering.h"

namespace bihrnet {
namespace {

constexpr float kBeyondInt8 = 1e6f;  // saturates wherever it starts

int8_t Saturated(int64_t x, const std::pair<int32_t, int32_t>& range) {
  return static_cast<int8_t>(std::clamp<int64_t>(x, range.first, range.second));
}

}  // namespace

// The function of one byte that a node is: of LceDequantize, where the bytes are +1 and -1, too.
std::vector<int8_t> Lowering::MapOf(const Node& node) const {
  const Tensor& output = TensorOf(node.outputs[0]);
  const auto channels = static_cast<size_t>(ShapeOf(node.outputs[0]).channels);
  const std::pair<int32_t, int32_t> range = ByteRange(output, node.activation);
  std::vector<int8_t> map(256 * channels);
  // f(x, y), with y the constant's byte of the channel: of many channels that share one it is found once.
  const auto fill = [&](const Tensor* constant, const auto& f) {
    std::array<int, 256> known;
    known.fill(-1);
    for (size_t c = 0; c < channels; ++c) {
      const int y = constant == nullptr ? 0 : constant->bytes[constant->bytes.size() == 1 ? 0 : c];
      int& alike = known[static_cast<size_t>(y + 128)];
      int8_t* to = &map[256 * c];
      if (alike >= 0) {
        std::copy_n(&map[256 * static_cast<size_t>(alike)], 256, to);
        continue;
      }
      alike = static_cast<int>(c);
      for (int x = -128; x < 128; ++x) to[x + 128] = Saturated(f(x, y), range);
    }
  };
  if (node.op == Op::kDequantize) {
    const auto one = static_cast<int>(std::floor(std::min(1.0f / output.scale + 0.5f, kBeyondInt8)));
    fill(nullptr, [&](int x, int) { return x * one + output.zero_point; });
    return map;
  }
  const size_t constant = TensorOf(node.inputs[0]).constant ? 0 : 1;
  const Tensor& input = TensorOf(node.inputs[1 - constant]);
  const Tensor& operand = TensorOf(node.inputs[constant]);
  if (node.op == Op::kAdd) {
    const bool larger = operand.scale > input.scale;
    const ByteAddition sum = ByteAdditionOf(larger ? operand : input, larger ? input : operand, output, {0, 0});
    fill(&operand, [&](int x, int y) { return larger ? AddBytes(sum, y, x) : AddBytes(sum, x, y); });
    return map;
  }
  // TensorFlow Lite divides and multiplies these in float32.
  const Multiplier product = QuantizeMultiplier(input.scale * operand.scale / output.scale);
  const Multiplier same = QuantizeMultiplier(input.scale / output.scale);
  fill(&operand, [&](int x, int y) {
    const int from = x - input.zero_point;
    const bool kept = node.op == Op::kPrelu && from >= 0;
    return (kept ? Multiply(from, same) : Multiply(from * (y - operand.zero_point), product)) + output.zero_point;
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
  const bool larger = TensorOf(node.inputs[1]).scale > TensorOf(node.inputs[0]).scale;
  const int first = node.inputs[larger ? 1 : 0], second = node.inputs[larger ? 0 : 1];
  const Tensor& a = TensorOf(first);
  const Tensor& b = TensorOf(second);
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
  if (added) out_.program.additions.push_back(ByteAdditionOf(a, b, sum, range));
  const Shape& shape = ShapeOf(node.outputs[0]);
  const int value = AddValue(Element::kBytes, shape.channels, GeometryOf(shape));
  ForEachShared(PlacedOf(first).segments, PlacedOf(second).segments,
                [&](int channel, int channels, PlaneRef x, PlaneRef y) {
                  RangeOp& op = AddOp(StepKind::kRead, value, channel, channels);
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
  bool falls = false, changes = false;
  for (size_t c = 0; c < map.size(); c += 256) {
    for (size_t i = 0; i < 256; ++i) changes |= map[c + i] != static_cast<int>(i) - 128;
    for (size_t i = 1; i < 256; ++i) falls |= map[c + i] < map[c + i - 1];
  }
  if (!changes) return;
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
