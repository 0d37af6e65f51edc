#include "compiler/exact_conv.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace bihrnet {
namespace {

constexpr double kWord = 32767.0;
constexpr double kExact = 16777216.0;  // 2^24: up to here float32 holds every integer
// Powers of two of weights and biases: in between, no number that occurs is too small to be normal, or too large.
constexpr int kLowestPower = -100;
constexpr int kHighestPower = 60;

// Walks from the convolution's input to where the rounding starts.
class Chain {
 public:
  Chain(const Graph& graph, int conv) : graph_(graph), conv_(conv), at_(NodeAt(conv).inputs[0]) {}

  // Sets all of `found` but its scales.
  bool Find(ExactConv* found) {
    bool minimum = false, maximum = false;
    for (int i = 0; i < 2; ++i) {
      if (Step(Op::kMinimum, &found->before)) {
        if (minimum || !Bound(found->before.back(), &found->high)) return false;
        minimum = true;
      } else if (Step(Op::kMaximum, &found->before)) {
        if (maximum || !Bound(found->before.back(), &found->low)) return false;
        maximum = true;
      }
    }
    if (!minimum || !maximum || found->low > found->high || !Step(Op::kRound, &found->before)) return false;
    if (Step(Op::kPrelu, &found->before)) found->slopes = NodeAt(found->before.back()).inputs[1];
    found->input = at_;
    return Writer(at_) < 0;
  }

 private:
  const Node& NodeAt(int node) const { return graph_.nodes[static_cast<size_t>(node)]; }
  const Tensor& TensorAt(int tensor) const { return graph_.tensors[static_cast<size_t>(tensor)]; }

  int Writer(int tensor) const {
    for (int n = conv_ - 1; n >= 0; --n) {
      if (NodeAt(n).outputs[0] == tensor) return n;
    }
    return -1;
  }

  bool ReadOnce(int tensor) const {
    size_t readers = 0;
    for (const Node& node : graph_.nodes) {
      readers += static_cast<size_t>(std::count(node.inputs.begin(), node.inputs.end(), tensor));
    }
    return readers == 1 && std::find(graph_.outputs.begin(), graph_.outputs.end(), tensor) == graph_.outputs.end();
  }

  // One node back, where it is of this kind.
  bool Step(Op op, std::vector<int>* before) {
    const int writer = Writer(at_);
    if (writer < 0 || NodeAt(writer).op != op || !ReadOnce(at_)) return false;
    const Node& node = NodeAt(writer);
    before->push_back(writer);
    at_ = TensorAt(node.inputs[0]).constant ? node.inputs[1] : node.inputs[0];
    return true;
  }

  // The one integer that a node compares with.
  bool Bound(int index, float* bound) const {
    const Node& node = NodeAt(index);
    for (const int input : node.inputs) {
      const Tensor& tensor = TensorAt(input);
      if (!tensor.constant || tensor.floats.size() != 1) continue;
      *bound = tensor.floats[0];
      return std::fabs(*bound) <= kWord && std::nearbyint(*bound) == *bound;
    }
    return false;
  }

  const Graph& graph_;
  int conv_;
  int at_;
};

// The power of two of a float's last bit that is set: the float is an odd integer times it.
int LastBit(float value) {
  int exponent = 0;
  const float fraction = std::frexp(value, &exponent);
  const auto mantissa = static_cast<unsigned>(std::ldexp(std::fabs(fraction), 24));
  return exponent - 24 + __builtin_ctz(mantissa);
}

// The scale of one output channel's weights; 0 where a sum could round.
float ScaleOf(const Tensor& filter, size_t channel, size_t count, double largest_word, float bias) {
  int power = kHighestPower + 1;
  for (size_t i = 0; i < count; ++i) {
    const float weight = FilterAt(filter, channel * count + i);
    if (!std::isfinite(weight)) return 0.0f;
    if (weight != 0.0f) power = std::min(power, LastBit(weight));
  }
  if (power > kHighestPower) power = 0;  // nothing but zeros
  if (power < kLowestPower || !std::isfinite(bias)) return 0.0f;
  double sum = 0.0;
  for (size_t i = 0; i < count; ++i) {
    const double weight = std::ldexp(std::fabs(FilterAt(filter, channel * count + i)), -power);
    if (weight > kWord) return 0.0f;
    sum += weight * largest_word;
  }
  if (sum >= kExact) return 0.0f;
  if (bias != 0.0f) {
    const int bias_power = LastBit(bias);
    if (bias_power < kLowestPower || bias_power > kHighestPower) return 0.0f;
    const int grid = std::min(power, bias_power);
    if (std::ldexp(sum, power - grid) + std::ldexp(std::fabs(static_cast<double>(bias)), -grid) > kExact) return 0.0f;
  }
  return std::ldexp(1.0f, power);
}

}  // namespace

float FilterAt(const Tensor& filter, size_t i) {
  float value;
  std::memcpy(&value, filter.filter + i * sizeof(value), sizeof(value));
  return value;
}

bool FindExactConv(const Graph& graph, int node, ExactConv* found) {
  *found = ExactConv{};
  if (!Chain(graph, node).Find(found)) return false;
  const Node& conv = graph.nodes[static_cast<size_t>(node)];
  const Tensor& filter = graph.tensors[static_cast<size_t>(conv.inputs[1])];
  const Tensor* bias = conv.inputs[2] >= 0 ? &graph.tensors[static_cast<size_t>(conv.inputs[2])] : nullptr;
  const double largest_word = std::max(std::fabs(found->low), std::fabs(found->high));
  const auto channels = static_cast<size_t>(filter.dims[0]);
  const size_t count =
      static_cast<size_t>(filter.dims[1]) * static_cast<size_t>(filter.dims[2]) * static_cast<size_t>(filter.dims[3]);
  for (size_t c = 0; c < channels; ++c) {
    found->scale.push_back(ScaleOf(filter, c, count, largest_word, bias != nullptr ? bias->floats[c] : 0.0f));
    if (found->scale.back() == 0.0f) return false;
  }
  return true;
}

}  // namespace bihrnet
