// The executor's work for convolutions of integers.
#include <algorithm>
#include <cstring>

#include "runtime/executor.h"
#include "runtime/image_rows.h"

namespace bihrnet {

// Rows of the image of words, the pads among them: the memory had other uses before.
void Executor::LoadWordRows(const Step& step, int first, int count) const {
  const Value& image = ValueOf(step.target);
  const Geometry& geometry = GeometryOf(step);
  const LoadWords& load = step.words;
  const auto pixel = static_cast<size_t>(load.pixel);
  const int columns = std::min(geometry.width, load.columns - load.pad_left);
  const int right = load.columns - load.pad_left - columns;
  for (int row = first; row < first + count; ++row) {
    auto* words =
        reinterpret_cast<int16_t*>(arena_.get() + image.offset + static_cast<size_t>(row) * image.plane_bytes);
    const int y = row - load.pad_top;
    if (y < 0 || y >= geometry.height) {
      std::fill_n(words, static_cast<size_t>(load.columns) * pixel, int16_t{0});
      continue;
    }
    std::fill_n(words, static_cast<size_t>(load.pad_left) * pixel, int16_t{0});
    words += static_cast<size_t>(load.pad_left) * pixel;
    if (step.bytes) {
      ByteWordsRow(step, y, columns, words);
    } else if (load.conv.runs.empty()) {
      const auto* data = reinterpret_cast<const float*>(inputs_[static_cast<size_t>(step.tensor)]);
      const size_t begin =
          static_cast<size_t>(y) * static_cast<size_t>(geometry.width) * static_cast<size_t>(step.channels);
      kernels_.words_from_nhwc({data + begin, words, load.alpha.empty() ? nullptr : load.alpha.data(), load.low,
                                load.high, step.channels, columns, step.channels, load.pixel});
    } else {
      ImageConvRow(step, y, words);
    }
    std::fill_n(words + static_cast<size_t>(columns) * pixel, static_cast<size_t>(right) * pixel, int16_t{0});
  }
}

void Executor::RunConv(const Step& step, const BoundStep& bound, const Item& item) const {
  alignas(64) float scratch[kConvChannels][kConvPixels];
  const Conv& conv = step.conv;
  const Value& image = ValueOf(step.source);
  const auto* words = reinterpret_cast<const int16_t*>(arena_.get() + image.offset);
  const size_t row_words = image.plane_bytes / sizeof(int16_t);
  const int first = item.first_quad * kQuad;
  const int channels = std::min(item.quads * kQuad, step.channels - first);
  float *rows[kConvChannels], *temporary[kConvChannels];
  for (int c = 0; c < kConvChannels; ++c) {
    temporary[c] = scratch[c];
    rows[c] = bound.target.first != nullptr ? bound.target.Row(first + c) + item.first_pixel : scratch[c];
  }
  ConvRow args;
  float* targets[kConvChannels];
  args.offsets = conv.offsets.data();
  args.runs = static_cast<int>(conv.offsets.size());
  args.pairs = conv.pairs;
  args.weights =
      conv.weights.data() + static_cast<size_t>(first) * 2 * conv.offsets.size() * static_cast<size_t>(conv.pairs);
  args.multiplier = &conv.multiplier[static_cast<size_t>(first)];
  args.bias = &conv.bias[static_cast<size_t>(first)];
  args.rows = targets;
  args.step = conv.column_step;
  args.channels = channels;
  ForEachRun(GeometryOf(step), item.first_pixel, item.pixels, [&](int y, int x, int at, int count) {
    for (int c = 0; c < channels; ++c) targets[c] = rows[c] + at;
    args.words = words + static_cast<size_t>(y) * static_cast<size_t>(conv.row_step) * row_words +
                 static_cast<size_t>(x) * static_cast<size_t>(conv.column_step);
    args.pixels = count;
    kernels_.conv(args);
  });
  for (int c = 0; c < channels; c += kQuad) {
    RunLinks(step, bound, (first + c) / kQuad, std::min(kQuad, channels - c), item.first_pixel, item.pixels, rows + c,
             temporary + c);
  }
}

}  // namespace bihrnet
