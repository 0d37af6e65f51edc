// The convolution before one of integers: its rows become words, so that its result is never there as a whole.
#include "compiler/lowering.h"

namespace bihrnet {
namespace {

void PackImageConv(const Tensor& filter, const Tensor* bias, ImageConv* conv) {
  const auto channels = static_cast<size_t>(filter.dims[0]);
  const size_t inputs =
      static_cast<size_t>(filter.dims[1]) * static_cast<size_t>(filter.dims[2]) * static_cast<size_t>(filter.dims[3]);
  constexpr size_t kGroup = kConvChannels;
  const size_t padded = (channels + kGroup - 1) / kGroup * kGroup;
  conv->weights.assign(padded * inputs, 0.0f);
  conv->bias.assign(padded, 0.0f);
  for (size_t c = 0; c < channels; ++c) {
    if (bias != nullptr) conv->bias[c] = bias->floats[c];
    float* group = conv->weights.data() + c / kGroup * kGroup * inputs;
    for (size_t i = 0; i < inputs; ++i) group[i * kGroup + c % kGroup] = filter.floats[c * inputs + i];
  }
}

}  // namespace

void Lowering::LowerImage(const Node& node, Step* step) {
  const Tensor& filter = TensorOf(node.inputs[1]);
  const Window& window = node.window;
  const Shape& from = ShapeOf(node.inputs[0]);
  const Shape& to = ShapeOf(node.outputs[0]);
  ImageConv& conv = step->words.conv;
  conv.rows = window.height;
  conv.taps = window.width;
  conv.depth = from.channels;
  conv.height = from.height;
  conv.width = from.width;
  conv.stride_height = window.stride_height;
  conv.stride_width = window.stride_width;
  conv.dilation_height = window.dilation_height;
  conv.dilation_width = window.dilation_width;
  conv.pad_top =
      PlaceWindow(from.height, window.height, window.stride_height, window.dilation_height, window.same).pad_before;
  conv.pad_left =
      PlaceWindow(from.width, window.width, window.stride_width, window.dilation_width, window.same).pad_before;
  PackImageConv(filter, node.inputs[2] >= 0 ? &TensorOf(node.inputs[2]) : nullptr, &conv);
  // Columns that no window of the next convolution reaches are not computed.
  const int columns = std::min(to.width, step->words.columns - step->words.pad_left);
  for (int x = 0; x < columns; ++x) {
    const auto [first, end] =
        TapsInside(x * conv.stride_width - conv.pad_left, conv.taps, conv.dilation_width, conv.width);
    const bool alike = !conv.runs.empty() && conv.runs.back().pixels < ImageConv::kRunPixels &&
                       conv.runs.back().first_tap == first && conv.runs.back().taps == end - first;
    if (!alike) conv.runs.push_back({x, 0, first, end - first});
    ++conv.runs.back().pixels;
  }
  step->name = ConvName(node, filter);
  step->macs = int64_t{conv.rows} * conv.taps * conv.depth * to.channels * to.height * to.width;
}

}  // namespace bihrnet
