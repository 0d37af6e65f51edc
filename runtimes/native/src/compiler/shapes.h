// Shape inference, and the geometry that every image size of a region gets.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "compiler/program.h"
#include "graph/graph.h"

namespace bihrnet {

// Sizes of one window along one axis, by TensorFlow's rules.
struct WindowAxis {
  int output = 0;
  int pad_before = 0;
};

// `output` is 0 where a VALID window does not fit.
WindowAxis PlaceWindow(int input, int size, int stride, int dilation, bool same);

// The last axis of a bitpacked tensor counts words of 32 channels; everywhere else here it counts channels.
struct Shape {
  int batch = 1;
  int height = 1;
  int width = 1;
  int channels = 1;
  bool flat = false;  // a rank-2 tensor (batch, channels)
};

// Infers the shape of every tensor that is not constant. Returns a sentence where shapes do not fit each other.
std::string InferShapes(const Graph& graph, const std::vector<std::vector<int>>& input_dims,
                        std::vector<Shape>* shapes);

// The dimensions that the runtime sees.
std::vector<int> RuntimeDims(const Tensor& tensor, const Shape& shape);

// How a convolution reaches its input: in place, through the pads of the input's planes, or by a regrid.
struct Reach {
  bool direct = false;
  WindowAxis vertical;
  WindowAxis horizontal;
  int first_row = 0;  // of a regrid, in phase coordinates
  int last_row = 0;
  int first_column = 0;
  int last_column = 0;
};

Reach FindReach(const Window& window, int taps_height, int taps_width, const Shape& input);

// One geometry an image size, wide enough for every convolution that reads or writes it.
class Geometries {
 public:
  Geometries(const Graph& graph, const std::vector<Shape>& shapes);

  // Pads, at some size of window and dilation, would take more memory than any plan may.
  bool too_large() const { return too_large_; }
  int Find(int height, int width) const;
  std::vector<Geometry> Take() { return std::move(list_); }
  const Geometry& operator[](int index) const { return list_[static_cast<size_t>(index)]; }

 private:
  bool too_large_ = false;
  std::vector<Geometry> list_;
  std::map<std::pair<int, int>, int> by_size_;
};

}  // namespace bihrnet
