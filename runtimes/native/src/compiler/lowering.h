// The state of one lowering; lower.cc has the border, the pointwise operators and the pools, lower_bconv.cc the binary
// convolutions, lower_conv.cc those of integers, lower_image.cc the convolution before one.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>
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
};

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

  int AddValue(bool sign, int channels, int geometry);
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
  int LoadWordsFor(const ExactConv& exact, const Node& node, int rows, int columns);
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
  void ToInt8(int tensor);
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
  std::map<int, ExactConv> exact_;  // by node
  std::vector<bool> taken_along_;   // nodes that are part of such a convolution
  int node_ = -1;
  std::string error_;
};

}  // namespace bihrnet
