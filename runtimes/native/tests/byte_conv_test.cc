// The kernels of convolutions of int8 tensors, against the formula in kernels.h.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernel_rows.h"

namespace bihrnet {
namespace {

// a / 2^shift to the nearest integer, ties up.
int64_t Divided(int64_t a, int shift) {
  const int64_t by = int64_t{1} << shift;
  const int64_t twice = 2 * a + by;
  return twice / (2 * by) - (twice % (2 * by) < 0 ? 1 : 0);
}

// What follows the sums of a channel.
struct Scaling {
  Input<int32_t> bias{kConvChannels}, mantissa{kConvChannels}, shift{kConvChannels};
  Input<int16_t> slope{kConvChannels}, round{kConvChannels};
  int offset = Random(-128, 127);
  int low = Random(0, 2) ? -128 : Random(-128, 127);
  int high = Random(0, 2) ? 127 : Random(low, 127);
  bool prelu = Random(0, 1) != 0;
  bool words = Random(0, 1) != 0;
  int16_t zero_point = static_cast<int16_t>(Random(-128, 127));

  // `sum`: the most that a sum may be without its bias; `spread`: what most sums keep within.
  Scaling(int32_t sum, int spread) {
    const int32_t most = (1 << 30) - 1 - sum;
    const int kind = Random(0, 3);  // 0: the largest sums; 1: halves, and so ties, of small ones; else anything
    for (int c = 0; c < kConvChannels; ++c) {
      bias[c] = kind == 0 ? Random(0, 1) ? most : -most : Random(-spread, spread);
      mantissa[c] = kind == 1      ? 1 << 30
                    : Random(0, 9) ? Random(1 << 30, std::numeric_limits<int32_t>::max())
                                   : Random(0, 1 << 30);
      shift[c] = std::clamp(static_cast<int>(std::log2(spread)) - Random(4, 8), 0, 31);  // many bytes, few at a bound
      if (kind == 0) shift[c] = Random(20, 25);
      if (Random(0, 9) == 0) shift[c] = Random(0, 31);
      slope[c] = static_cast<int16_t>(Random(0, 4) ? Random(0, 32767) : 32767);
      round[c] = static_cast<int16_t>(Random(0, 1) ? Random(0, 255) : Random(-32768, 32767));
    }
  }

  int Byte(int64_t sum, int c) const {
    const int64_t x = Divided(Divided(sum * mantissa[c], 31), shift[c]) + offset;
    return static_cast<int>(std::max<int64_t>(low, std::min<int64_t>(high, x)));
  }

  int Word(int x, int c) const {
    if (prelu) {
      const double scaled = std::floor(x * (slope[c] / 128.0) + 0.5) + round[c];
      x = std::max(x, static_cast<int>(std::floor(std::clamp(scaled, -32768.0, 32767.0) / 256)));
    }
    return x - zero_point;
  }
};

// Windows at any place of an image that ends where the last one ends. Returns how many bytes were within the bounds.
int TestByteConv(const Kernels& set, int channels, int pixels) {
  const int runs = Random(1, 4), pairs = Random(1, 20), step = Random(0, 40);
  const bool extreme = Random(0, 4) == 0;  // the largest words and weights of bytes
  const int reach = Random(0, 50);
  const size_t count = static_cast<size_t>(reach + (pixels - 1) * step + 2 * pairs);
  const Input<int16_t> words(count);
  const int sign = Random(0, 1) ? 1 : -1;
  for (size_t i = 0; i < count; ++i) words[i] = static_cast<int16_t>(extreme ? 255 * sign : Random(-255, 255));
  const Input<int32_t> offsets(runs);
  for (int run = 0; run < runs; ++run) offsets[run] = Random(0, reach);
  offsets[0] = reach;
  const size_t of_run = 2 * static_cast<size_t>(pairs) * kConvChannels;
  const Input<int16_t> weights(runs * of_run);
  for (size_t i = 0; i < runs * of_run; ++i) weights[i] = static_cast<int16_t>(extreme ? -128 : Random(-128, 127));
  const int terms = 2 * runs * pairs;
  const Scaling scaling(terms * 255 * 128, static_cast<int>(std::sqrt(terms) * 10000));
  const bool to_words = scaling.words;
  const int to_pitch = channels + Random(0, 1) * Random(1, 20);
  Output<int16_t> to(to_words ? static_cast<size_t>((pixels - 1) * to_pitch + channels) : 0);
  const std::vector<int16_t> before(to.data(), to.data() + to.size());
  std::vector<Output<int8_t>> rows;
  std::vector<int8_t*> pointers;
  for (int c = 0; c < channels; ++c) {
    rows.emplace_back(pixels);
    pointers.push_back(rows.back().data());
  }
  ByteConvRow args = {};
  args.words = words.get();
  args.offsets = offsets.get();
  args.weights = weights.get();
  args.runs = runs;
  args.pairs = pairs;
  args.step = step;
  args.channels = channels;
  args.pixels = pixels;
  args.bias = scaling.bias.get();
  args.mantissa = scaling.mantissa.get();
  args.shift = scaling.shift.get();
  args.offset = scaling.offset;
  args.low = scaling.low;
  args.high = scaling.high;
  args.zero_point = scaling.zero_point;
  args.to_pitch = to_pitch;
  if (to_words) {
    args.to = to.data();
    if (scaling.prelu) args.slope = scaling.slope.get(), args.round = scaling.round.get();
  } else {
    args.rows = pointers.data();
  }
  set.byte_conv(args);
  bool same = to.GuardsHold();
  int within = 0;
  for (int c = 0; c < channels; ++c) {
    same = same && rows[c].GuardsHold();
    for (int p = 0; p < pixels; ++p) {
      int64_t sum = scaling.bias[c];
      for (int run = 0; run < runs; ++run) {
        const int16_t* from = words.get() + static_cast<size_t>(p) * step + offsets[run];
        const int16_t* weight = weights.get() + run * of_run + static_cast<size_t>(c) * 2;
        for (int i = 0; i < 2 * pairs; ++i) sum += int64_t{from[i]} * weight[i / 2 * 2 * kConvChannels + i % 2];
      }
      const int x = scaling.Byte(sum, c);
      within += x > scaling.low && x < scaling.high;
      const int got = to_words ? to.data()[p * to_pitch + c] : pointers[c][p];
      same = same && got == (to_words ? scaling.Word(x, c) : x);
    }
  }
  for (size_t i = 0; i < to.size(); ++i) {
    if (static_cast<int>(i) % to_pitch >= channels) same = same && to.data()[i] == before[i];
  }
  if (!same) Fail("byte conv of " + std::to_string(channels) + " channels", set.name);
  return within;
}

}  // namespace

void TestByteConvs(const Kernels& set) {
  int within = 0, all = 0;
  for (int channels = 1; channels <= kConvChannels; ++channels) {
    for (int pixels = 1; pixels <= 19; ++pixels, all += channels * pixels) {
      within += TestByteConv(set, channels, pixels);
    }
  }
  if (within < all / 4)
    Fail("byte conv, where the test leaves " + std::to_string(within) + " bytes to compare", set.name);
}

}  // namespace bihrnet
