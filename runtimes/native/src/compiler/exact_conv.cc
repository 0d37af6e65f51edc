#include "compiler/exact_conv.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace bihrnet {
namespace {

constexpr double kWord = 32767.0;
constexpr double kExact = 16777216.0;  // 2^24: up to here float32 holds every integer
// Powers of two of weights and biases: in between, no number that occurs is too small to be normal, or too large.
constexpr int kLowestPower = -100;
constexpr int kHighestPower = 60;
constexpr double kPixel = 255.0;
constexpr int kPixelPowers = 9;  // pixels as they are, halves, and so on to 2^-8

bool ReadOnce(const Graph& graph, int tensor) {
  size_t readers = 0;
  for (const Node& node : graph.nodes) {
    readers += static_cast<size_t>(std::count(node.inputs.begin(), node.inputs.end(), tensor));
  }
  return readers == 1 && std::find(graph.outputs.begin(), graph.outputs.end(), tensor) == graph.outputs.end();
}

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
    const int writer = Writer(at_);
    if (writer < 0) return true;
    if (NodeAt(writer).op != Op::kConv) return false;
    found->image = writer;
    return true;
  }

 private:
  const Node& NodeAt(int node) const { return graph_.nodes[static_cast<size_t>(node)]; }
  const Tensor& TensorAt(int tensor) const { return graph_.tensors[static_cast<size_t>(tensor)]; }

  int Writer(int tensor) const { return WriterBefore(graph_, conv_, tensor); }

  // One node back, where it is of this kind.
  bool Step(Op op, std::vector<int>* before) {
    const int writer = Writer(at_);
    if (writer < 0 || NodeAt(writer).op != op || !ReadOnce(graph_, at_)) return false;
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

// The weights of an output channel as integers times 2^power.
struct Grid {
  int power = 0;
  double largest = 0.0;
  double sum = 0.0;  // of their magnitudes
};

bool FindGrid(const Tensor& filter, size_t channel, size_t count, Grid* grid) {
  grid->power = kHighestPower + 1;
  for (size_t i = 0; i < count; ++i) {
    const float weight = filter.floats[channel * count + i];
    if (!std::isfinite(weight)) return false;
    if (weight != 0.0f) grid->power = std::min(grid->power, LastBit(weight));
  }
  if (grid->power > kHighestPower) grid->power = 0;  // nothing but zeros
  if (grid->power < kLowestPower) return false;
  for (size_t i = 0; i < count; ++i) {
    const double weight = std::ldexp(std::fabs(filter.floats[channel * count + i]), -grid->power);
    grid->largest = std::max(grid->largest, weight);
    grid->sum += weight;
  }
  return true;
}

// Whether float32 holds every part of a sum of integers times 2^power, and of that and a bias.
bool Holds(double sum, int power, float bias) {
  if (sum >= kExact || !std::isfinite(bias)) return false;
  if (bias == 0.0f) return true;
  const int bias_power = LastBit(bias);
  if (bias_power < kLowestPower || bias_power > kHighestPower) return false;
  const int grid = std::min(power, bias_power);
  return std::ldexp(sum, power - grid) + std::ldexp(std::fabs(static_cast<double>(bias)), -grid) <= kExact;
}

// The scale of one output channel's weights; 0 where a sum could round.
float ScaleOf(const Tensor& filter, size_t channel, size_t count, double largest_word, float bias) {
  Grid grid;
  const bool exact = FindGrid(filter, channel, count, &grid) && grid.largest <= kWord &&
                     Holds(grid.sum * largest_word, grid.power, bias);
  return exact ? std::ldexp(1.0f, grid.power) : 0.0f;
}

// What a kConv multiplies and adds.
struct Constants {
  Constants(const Graph& graph, int node) : Constants(graph, graph.nodes[static_cast<size_t>(node)].inputs) {}
  Constants(const Graph& graph, const std::vector<int>& inputs)
      : filter(graph.tensors[static_cast<size_t>(inputs[1])]),
        bias(inputs[2] >= 0 ? &graph.tensors[static_cast<size_t>(inputs[2])] : nullptr),
        channels(static_cast<size_t>(filter.dims[0])),
        count(static_cast<size_t>(filter.dims[1]) * static_cast<size_t>(filter.dims[2]) *
              static_cast<size_t>(filter.dims[3])) {}
  float BiasOf(size_t channel) const { return bias != nullptr ? bias->floats[channel] : 0.0f; }

  const Tensor& filter;
  const Tensor* bias;
  size_t channels;
  size_t count;  // weights of a channel
};

}  // namespace

int WriterBefore(const Graph& graph, int node, int tensor) {
  for (int n = node - 1; n >= 0; --n) {
    if (graph.nodes[static_cast<size_t>(n)].outputs[0] == tensor) return n;
  }
  return -1;
}

bool IsImageConv(const Graph& graph, int node) {
  if (graph.nodes[static_cast<size_t>(node)].activation != Activation::kNone) return false;
  const Constants constants(graph, node);
  std::vector<int> powers(kPixelPowers);  // minus those of pixels; all channels see the same pixels
  std::iota(powers.begin(), powers.end(), 0);
  for (size_t c = 0; c < constants.channels && !powers.empty(); ++c) {
    Grid grid;
    if (!FindGrid(constants.filter, c, constants.count, &grid)) return false;
    const auto rounds = [&](int power) { return !Holds(grid.sum * kPixel, grid.power - power, constants.BiasOf(c)); };
    powers.erase(std::remove_if(powers.begin(), powers.end(), rounds), powers.end());
  }
  return !powers.empty();
}

bool FindExactConv(const Graph& graph, int node, ExactConv* found) {
  *found = ExactConv{};
  if (!Chain(graph, node).Find(found)) return false;
  const Constants constants(graph, node);
  const double largest_word = std::max(std::fabs(found->low), std::fabs(found->high));
  const int image = std::exchange(found->image, -1);
  for (size_t c = 0; c < constants.channels; ++c) {
    found->scale.push_back(ScaleOf(constants.filter, c, constants.count, largest_word, constants.BiasOf(c)));
    if (found->scale.back() == 0.0f) return false;
  }
  found->image = image;
  if (image < 0) return true;
  const int pixels = graph.nodes[static_cast<size_t>(image)].inputs[0];
  return ReadOnce(graph, found->input) && WriterBefore(graph, image, pixels) < 0 && IsImageConv(graph, image);
}

}  // namespace bihrnet
