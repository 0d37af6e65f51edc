// The executor's work for convolutions of bytes.
#include <algorithm>

#include "runtime/executor.h"
#include "runtime/image_rows.h"

namespace bihrnet {
namespace {

// All that does not change from a run of pixels to the next.
ByteConvRow RowOf(const Conv& conv, const int16_t* words, int first, int channels) {
  ByteConvRow args = {};
  args.words = words;
  args.offsets = conv.offsets.data();
  args.runs = static_cast<int>(conv.offsets.size());
  args.pairs = conv.pairs;
  args.weights =
      conv.weights.data() + static_cast<size_t>(first) * 2 * conv.offsets.size() * static_cast<size_t>(conv.pairs);
  args.step = conv.column_step;
  args.channels = channels;
  args.bias = &conv.sums[static_cast<size_t>(first)];
  args.mantissa = &conv.mantissas[static_cast<size_t>(first)];
  args.shift = &conv.shifts[static_cast<size_t>(first)];
  args.offset = conv.offset;
  args.low = conv.low;
  args.high = conv.high;
  return args;
}

}  // namespace

void Executor::ByteWordsRow(const Step& step, int y, int columns, int16_t* words) const {
  const LoadWords& load = step.words;
  const Geometry& geometry = GeometryOf(step);
  const int channels = step.channels;
  const auto less = static_cast<int16_t>(load.zero_point);
  if (!step.conv.offsets.empty()) {
    const Value& from = ValueOf(step.source);
    const auto* source = reinterpret_cast<const int16_t*>(
        arena_.get() + from.offset +
        static_cast<size_t>(y) * static_cast<size_t>(step.conv.row_step) * from.plane_bytes);
    for (int c = 0; c < channels; c += kConvChannels) {
      ByteConvRow args = RowOf(step.conv, source, c, std::min(kConvChannels, channels - c));
      args.pixels = columns;
      args.to = words + c;
      args.to_pitch = load.pixel;
      args.zero_point = less;
      if (!load.slope.empty()) {
        args.slope = &load.slope[static_cast<size_t>(c)];
        args.round = &load.round[static_cast<size_t>(c)];
      }
      kernels_.byte_conv(args);
    }
  } else if (step.tensor >= 0) {
    const auto* data = reinterpret_cast<const int8_t*>(inputs_[static_cast<size_t>(step.tensor)]) +
                       static_cast<size_t>(y) * static_cast<size_t>(geometry.width) * static_cast<size_t>(channels);
    if (load.pixel == channels) {
      for (int i = 0; i < columns * channels; ++i) words[i] = static_cast<int16_t>(data[i] - less);
      return;
    }
    for (int x = 0; x < columns; ++x, words += load.pixel, data += channels) {
      for (int c = 0; c < channels; ++c) words[c] = static_cast<int16_t>(data[c] - less);
    }
  } else {
    const Value& from = ValueOf(step.source);
    const uint8_t* planes = arena_.get() + from.offset + static_cast<size_t>(step.source.plane) * from.plane_bytes;
    for (int c = 0; c < channels; ++c) {
      const auto* row = reinterpret_cast<const int8_t*>(planes + static_cast<size_t>(c) * from.plane_bytes) +
                        ptrdiff_t{y} * geometry.pitch;
      for (int x = 0; x < columns; ++x) words[x * load.pixel + c] = static_cast<int16_t>(row[x] - less);
    }
  }
  // The second word of a last pair, whose weight is 0 but which is to be a number.
  if (load.pixel > channels) {
    for (int x = 0; x < columns && step.tensor < 0; ++x) words[x * load.pixel + channels] = 0;
  }
}

void Executor::RunByteConv(const Step& step, const BoundStep& bound, const Item& item) const {
  alignas(64) int8_t scratch[kConvChannels][kConvPixels];
  const Conv& conv = step.conv;
  const Value& image = ValueOf(step.source);
  const auto* words = reinterpret_cast<const int16_t*>(arena_.get() + image.offset);
  const size_t row_words = image.plane_bytes / sizeof(int16_t);
  const int first = item.first_quad * kQuad;
  const int channels = std::min(item.quads * kQuad, step.channels - first);
  int8_t *rows[kConvChannels], *temporary[kConvChannels], *targets[kConvChannels];
  for (int c = 0; c < kConvChannels; ++c) {
    temporary[c] = scratch[c];
    rows[c] = bound.target.first != nullptr ? bound.target.ByteRow(first + c) + item.first_pixel : scratch[c];
  }
  ForEachRun(GeometryOf(step), item.first_pixel, item.pixels, [&](int y, int x, int at, int count) {
    for (int c = 0; c < channels; ++c) targets[c] = rows[c] + at;
    ByteConvRow args = RowOf(conv,
                             words + static_cast<size_t>(y) * static_cast<size_t>(conv.row_step) * row_words +
                                 static_cast<size_t>(x) * static_cast<size_t>(conv.column_step),
                             first, channels);
    args.rows = targets;
    args.pixels = count;
    kernels_.byte_conv(args);
  });
  for (int c = 0; c < channels; c += kQuad) {
    RunByteLinks(step, bound, (first + c) / kQuad, std::min(kQuad, channels - c), item.first_pixel, item.pixels,
                 rows + c, temporary + c);
  }
}

}  // namespace bihrnet
