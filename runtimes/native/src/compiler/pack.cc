#include "compiler/pack.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace bihrnet {
namespace {

// Bit c of a filter's tap, LCE's order: 32 channels a little-endian word, lowest bit first.
class FilterBits {
 public:
  explicit FilterBits(const Tensor& filter)
      : data_(filter.filter),
        taps_(size_t(filter.dims[1]) * size_t(filter.dims[2])),
        bytes_(4 * size_t(filter.dims[3])) {}

  // Four channels from 4 * quad on; channels past `channels` are 0, which is what the sign planes hold there.
  unsigned Nibble(size_t output, size_t tap, int quad, int channels) const {
    const uint8_t byte = data_[(output * taps_ + tap) * bytes_ + static_cast<size_t>(quad) / 2];
    const unsigned nibble = quad % 2 == 0 ? byte & 15u : byte >> 4;
    const int valid = std::min(kQuad, channels - kQuad * quad);
    return nibble & ((1u << valid) - 1);
  }

 private:
  const uint8_t* data_;
  size_t taps_;
  size_t bytes_;
};

float At(const Tensor& tensor, int channel) { return tensor.floats[static_cast<size_t>(channel)]; }

void SetTransform(const BconvSource& source, int receptive_field, Bconv* bconv) {
  int64_t lowest = std::numeric_limits<int32_t>::min();
  int64_t highest = std::numeric_limits<int32_t>::max();
  if (source.activation == Activation::kRelu || source.activation == Activation::kRelu6) lowest = 0;
  if (source.activation == Activation::kRelu6) highest = 6;
  if (source.activation == Activation::kReluN1To1) lowest = -1, highest = 1;
  // In terms of 2 a = K - result; without an activation nothing is clamped, and kernels see that it is so.
  const auto limit = [](int64_t value) {
    return static_cast<int32_t>(
        std::clamp<int64_t>(value, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()));
  };
  bconv->clamp_min = limit(receptive_field - highest);
  bconv->clamp_max = limit(receptive_field - lowest);
  const bool int8 = source.output->type == TensorType::kInt8;
  const double scale = int8 ? source.output->scale : 1.0;
  const double zero_point = int8 ? source.output->zero_point : 0.0;
  for (int i = 0; i < source.channels; ++i) {
    if (source.thresholds != nullptr) {
      // Bit = a > threshold, as the sign of threshold - a: both are integers that float32 holds exactly.
      const int32_t threshold = source.thresholds->ints[static_cast<size_t>(source.first + i)];
      bconv->multiplier.push_back(-0.5f);
      bconv->bias.push_back(static_cast<float>(std::clamp(threshold, -1, receptive_field + 1)));
      continue;
    }
    const double multiplier = At(*source.multiplier, source.first + i);
    const double bias = At(*source.bias, source.first + i);
    bconv->multiplier.push_back(static_cast<float>(-1 * multiplier / scale));
    bconv->bias.push_back(static_cast<float>((bias + receptive_field * multiplier) / scale + zero_point));
  }
  if (source.thresholds != nullptr) {
    bconv->clamp_min = std::numeric_limits<int32_t>::min();
    bconv->clamp_max = std::numeric_limits<int32_t>::max();
  }
}

}  // namespace

void PackBconv(const BconvSource& source, size_t plane_bytes, const std::vector<int32_t>& tap_offsets, Bconv* bconv) {
  const FilterBits bits(*source.filter);
  bconv->taps_height = source.filter->dims[1];
  bconv->taps_width = source.filter->dims[2];
  const int taps = bconv->taps_height * bconv->taps_width;
  const int nibbles = (source.channels_in + kQuad - 1) / kQuad;
  bconv->triples = (taps * nibbles + 2) / 3;
  const size_t entries = 3 * static_cast<size_t>(bconv->triples);
  bconv->offsets.reserve(entries);
  for (int tap = 0; tap < taps; ++tap) {
    for (int n = 0; n < nibbles; ++n) {
      bconv->offsets.push_back(tap_offsets[static_cast<size_t>(tap)] + static_cast<int32_t>(n * plane_bytes));
    }
  }
  // A triple's missing entries read what its first one reads, against weights that count nothing.
  while (bconv->offsets.size() < entries) bconv->offsets.push_back(bconv->offsets.front());

  const int quads = (source.channels + kQuad - 1) / kQuad;
  bconv->weights.assign(static_cast<size_t>(quads) * 2 * entries, kNoWeights);
  for (int i = 0; i < source.channels; i += 2) {
    const bool paired = i + 1 < source.channels;
    uint16_t* row = bconv->weights.data() + static_cast<size_t>(i / 2) * entries;
    const auto output = static_cast<size_t>(source.first + i);
    for (int tap = 0; tap < taps; ++tap) {
      for (int n = 0; n < nibbles; ++n) {
        const unsigned even = bits.Nibble(output, static_cast<size_t>(tap), n, source.channels_in);
        const unsigned odd = paired ? bits.Nibble(output + 1, static_cast<size_t>(tap), n, source.channels_in) : 0;
        *row++ = PairWeights(even, odd);
      }
    }
  }
  SetTransform(source, taps * source.channels_in, bconv);
}

void PackZeroPadding(const BconvSource& source, const Window& window, const Reach& reach, const Shape& input,
                     Bconv* bconv) {
  const FilterBits bits(*source.filter);
  const int taps = bconv->taps_height * bconv->taps_width;
  for (int i = 0; i < source.channels; ++i) {
    for (int tap = 0; tap < taps; ++tap) {
      int negative = 0;
      for (int n = 0; n * kQuad < source.channels_in; ++n) {
        negative += __builtin_popcount(
            bits.Nibble(static_cast<size_t>(source.first + i), static_cast<size_t>(tap), n, source.channels_in));
      }
      bconv->tap_sums.push_back(source.channels_in - 2 * negative);
    }
  }
  for (int y = 0; y < bconv->taps_height; ++y) {
    bconv->tap_y.push_back(y * window.dilation_height - reach.vertical.pad_before);
  }
  for (int x = 0; x < bconv->taps_width; ++x) {
    bconv->tap_x.push_back(x * window.dilation_width - reach.horizontal.pad_before);
  }
  bconv->stride_height = window.stride_height;
  bconv->stride_width = window.stride_width;
  bconv->input_height = input.height;
  bconv->input_width = input.width;
}

Bconv SliceBconv(const Bconv& whole, int offset, int channels) {
  Bconv part;
  part.taps_height = whole.taps_height;
  part.taps_width = whole.taps_width;
  part.offsets = whole.offsets;
  part.triples = whole.triples;
  part.clamp_min = whole.clamp_min;
  part.clamp_max = whole.clamp_max;
  part.tap_y = whole.tap_y;
  part.tap_x = whole.tap_x;
  part.stride_height = whole.stride_height;
  part.stride_width = whole.stride_width;
  part.input_height = whole.input_height;
  part.input_width = whole.input_width;
  const auto cut = [](const auto& from, size_t first, size_t count, auto* to) {
    if (from.empty()) return;
    const auto begin = from.begin() + static_cast<ptrdiff_t>(first);
    to->assign(begin, begin + static_cast<ptrdiff_t>(count));
  };
  const auto first = static_cast<size_t>(offset), count = static_cast<size_t>(channels);
  const size_t taps = static_cast<size_t>(whole.taps_height) * static_cast<size_t>(whole.taps_width);
  const size_t quad = 2 * 3 * static_cast<size_t>(whole.triples);
  cut(whole.multiplier, first, count, &part.multiplier);
  cut(whole.bias, first, count, &part.bias);
  cut(whole.tap_sums, first * taps, count * taps, &part.tap_sums);
  cut(whole.weights, first / kQuad * quad, (count + kQuad - 1) / kQuad * quad, &part.weights);
  return part;
}

}  // namespace bihrnet
