// The state of one lowering; lower.cc has the border, the pointwise operators and the pools, lower_bconv.cc the binary
// convolutions, lower_conv.cc those of integers, lower_byte_conv.cc those of bytes, lower_image.cc the convolution
// before one.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "compiler/exact_conv.h"
#include "compiler/lower.h"
#include "compiler/shapes.h"

namespace bihrnet {

// Where a tensor's channels lie: runs of planes, in order.
struct Segment {
  PlaneRef from;
  int channels = 0;
};

struct Placed {
  std::vector<Segment> segments;
  std::vector<float> bias;  // of an addition that only signs read: it is done where the signs are made
  std::vector<int8_t> map;  // the same of any function of bytes that does not fall, [channels][256] from -128 on
};

// The convolution of bytes that makes what another one reads, and a PRELU between them; -1 without.
struct ByteChain {
  int conv = -1;
  int prelu = -1;
  std::vector<ByteMap> maps;  // of the PRELU
};

// Calls f(first, channels, a, b) for every run of channels that lies in one segment of both.
template <typename F>
void ForEachShared(const std::vector<Segment>& a, const std::vector<Segment>& b, F f) {
  size_t ia = 0, ib = 0;
  int in_a = 0, in_b = 0;
  for (int first = 0; ia < a.size() && ib < b.size();) {
    const int run = std::min(a[ia].channels - in_a, b[ib].channels - in_b);
    f(first, run, PlaneRef{a[ia].from.value, a[ia].from.plane + in_a},
      PlaneRef{b[ib].from.value, b[ib].from.plane + in_b});
    first += run;
    if ((in_a += run) == a[ia].channels) ++ia, in_a = 0;
    if ((in_b += run) == b[ib].channels) ++ib, in_b = 0;
  }
}

inline size_t RoundUpBytes(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

// What a convolution of floats is called in a profile.
std::string ConvName(const Node& node, const Tensor& filter);

class Lowering {
 public:
  Lowering(const Graph& graph, Lowered* lowered)
      : graph_(graph), out_(*lowered), placed_(graph.tensors.size()), consumers_(graph.tensors.size()) {}

  std::string Run(const std::vector<std::vector<int>>& input_dims);

 private:
  const Tensor& TensorOf(int index) const { return graph_.tensors[static_cast<size_t>(index)]; }
  const Shape& ShapeOf(int index) const { return shapes_[static_cast<size_t>(index)]; }
  Placed& PlacedOf(int index) { return placed_[static_cast<size_t>(index)]; }
  int GeometryOf(const Shape& shape) const { return geometries_->Find(shape.height, shape.width); }
  bool IsOutput(int tensor) const {
    return std::find(graph_.outputs.begin(), graph_.outputs.end(), tensor) != graph_.outputs.end();
  }

  enum class Element : uint8_t { kFloats, kSigns, kBytes };
  int AddValue(Element element, int channels, int geometry);
  int AddValue(bool sign, int channels, int geometry) {
    return AddValue(sign ? Element::kSigns : Element::kFloats, channels, geometry);
  }
  // Of a tensor's numbers.
  int AddValueOf(int tensor) {
    const bool bytes = TensorOf(tensor).type == TensorType::kInt8;
    return AddValue(bytes ? Element::kBytes : Element::kFloats, ShapeOf(tensor).channels, GeometryOf(ShapeOf(tensor)));
  }
  int AddDetail(Step step) {
    out_.details.push_back(std::move(step));
    return static_cast<int>(out_.details.size()) - 1;
  }
  RangeOp& AddOp(StepKind kind, int value, int first, int channels) {
    RangeOp op;
    op.kind = kind;
    op.value = value;
    op.first = first;
    op.channels = channels;
    op.node = node_;
    out_.ops.push_back(std::move(op));
    return out_.ops.back();
  }

  void LowerNode(const Node& node);
  void LowerBconv(const Node& node);
  void LowerConv(const Node& node);
  void LowerImage(const Node& node, Step* step);
  void LowerByteConv(const Node& node);
  int PlaceByteConv(int index, Step* step);
  int WordsForBytes(int index);
  void FindByteChains();
  int LoadWordsFor(const ExactConv& exact, const Node& node);
  int PlaceWords(const Node& node, const Shape& shape, int spare, LoadWords* load);
  void PlaceWindows(const Node& node, int words, int pixel, Step* step);
  std::string FindExactConvs();
  void LowerQuantize(const Node& node);
  void LowerDequantize(const Node& node);
  void LowerPool(const Node& node);
  void LowerResize(const Node& node);
  void LowerBinary(const Node& node);
  int Pointwise2(Pointwise op, const std::vector<Segment>& a, const std::vector<Segment>* b,
                 const std::vector<float>& constants, int geometry);
  void Constant(int tensor, Pointwise op, float constant);
  void Activate(const Node& node);
  bool OnlySignsRead(int tensor) const;
  void LowerBytes(const Node& node);
  void LowerByteAddition(const Node& node);
  std::vector<int8_t> MapOf(const Node& node) const;
  void MapBytes(int tensor, std::vector<int8_t> map);
  void ByteThresholds(const std::vector<int8_t>& map, int32_t zero_point, RangeOp* range) const;
  std::vector<Segment> Contiguous(int tensor, int alignment);
  PlaneRef RegridFor(PlaneRef source, int planes, const Window& window, const Reach& reach, int taps_height,
                     int taps_width, const Shape& input, const Shape& output, std::vector<int32_t>* tap_offsets);
  void Load(size_t input);
  void Store(size_t output);

  const Graph& graph_;
  Lowered& out_;
  std::vector<Shape> shapes_;
  std::unique_ptr<Geometries> geometries_;
  std::vector<Placed> placed_;
  std::vector<std::vector<int>> consumers_;  // nodes that read a tensor
  std::map<std::vector<int>, PlaneRef> regrids_;
  std::map<std::vector<float>, int> additions_;  // by scales, zero points and range
  std::map<int, ExactConv> exact_;               // by node
  std::map<int, ByteChain> byte_chains_;         // by node
  std::vector<bool> taken_along_;                // nodes that are part of such a convolution
  int node_ = -1;
  std::string error_;
};

}  // namespace bihrnet
