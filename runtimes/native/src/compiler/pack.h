// Weights from LCE's layout to the kernels'.
#pragma once

#include <string>

#include "compiler/program.h"
#include "compiler/shapes.h"
#include "graph/graph.h"

namespace bihrnet {

// Channels [first, first + channels) of a binary convolution: multipliers, biases and clamp as LCE's output transform
// has them (Larq Compute Engine, bconv2d.cc, OneTimeSetup), and weights for input planes that lie `plane_bytes` apart.
// `tap_offset(y, x)` says where a tap's plane 0 lies; all of [first, first + channels) is one group.
struct BconvSource {
  const Tensor* filter = nullptr;
  const Tensor* multiplier = nullptr;  // null for bitpacked output
  const Tensor* bias = nullptr;
  const Tensor* thresholds = nullptr;  // null for float and int8 output
  const Tensor* output = nullptr;      // its scale and zero point, for int8
  Activation activation = Activation::kNone;
  int channels_in = 0;  // of a group
  int first = 0;
  int channels = 0;
};

void PackBconv(const BconvSource& source, size_t plane_bytes, const std::vector<int32_t>& tap_offsets, Bconv* bconv);

// Sets tap_sums and what PadCorrection needs, for padding with real zeros.
void PackZeroPadding(const BconvSource& source, const Window& window, const Reach& reach, const Shape& input,
                     Bconv* bconv);

// The part of a packed convolution that computes channels [offset, offset + channels), offset a multiple of kQuad.
Bconv SliceBconv(const Bconv& whole, int offset, int channels);

}  // namespace bihrnet
