// The kernels of convolutions of integers: see kernels_test.cc.
#include <algorithm>

#include "kernel_rows.h"

namespace bihrnet {
namespace {

// Floats around the bounds and ties, and NaN, which must become the lower bound.
float AnyToRound(int bound) {
  const int kind = Random(0, 9);
  if (kind == 0) return Any(true);
  if (kind == 1) return Random(0, 1) ? NAN : -NAN;
  if (kind < 5) return static_cast<float>(Random(-2 * bound - 4, 2 * bound + 4)) / 2;
  return std::uniform_real_distribution<float>(-1.2f, 1.2f)(Rng()) * static_cast<float>(bound);
}

// Pixels with gaps between them, which are not touched.
void TestWords(const Kernels& set, int channels) {
  const int pixels = Random(1, 9);
  const int bound = Random(0, 1) ? 127 : Random(0, 32767);
  const auto high = static_cast<float>(bound), low = static_cast<float>(Random(-bound, bound));
  const int written = PixelWords(channels);
  const int from_pitch = channels + Random(0, 1) * Random(1, 20), to_pitch = written + Random(0, 1) * Random(1, 20);
  const size_t floats = static_cast<size_t>((pixels - 1) * from_pitch + channels);
  const Input<float> nhwc(floats), alpha(channels);
  for (size_t i = 0; i < floats; ++i) nhwc[i] = AnyToRound(bound);
  const bool prelu = Random(0, 1);
  for (int c = 0; c < channels; ++c) alpha[c] = Any(true);
  Output<int16_t> words(static_cast<size_t>((pixels - 1) * to_pitch + written));
  const std::vector<int16_t> before(words.data(), words.data() + words.size());
  set.words_from_nhwc(
      {nhwc.get(), words.data(), prelu ? alpha.get() : nullptr, low, high, channels, pixels, from_pitch, to_pitch});
  bool same = words.GuardsHold();
  for (size_t i = 0; i < words.size(); ++i) {
    const int p = static_cast<int>(i) / to_pitch, c = static_cast<int>(i) % to_pitch;
    float x = c < written ? 0.0f : before[i];
    if (c < channels) {
      x = nhwc[p * from_pitch + c];
      if (prelu && x < 0.0f) x *= alpha[c];
      x = std::isnan(x) ? low : std::nearbyintf(std::min(std::max(x, low), high));
    }
    same = same && words.data()[i] == static_cast<int16_t>(x);
  }
  if (!same) Fail("words of " + std::to_string(channels) + " channels", set.name);
}

// Windows at any place of an image that ends where the last one ends.
void TestConv(const Kernels& set, int channels, int pixels) {
  const int runs = Random(1, 5), pairs = Random(1, 40), step = 2 * Random(0, 40);
  const bool extreme = Random(0, 4) == 0;  // the largest words and weights whose sums int32 holds
  const int reach = 2 * Random(0, 50);
  const size_t count = static_cast<size_t>(reach + (pixels - 1) * step + 2 * pairs);
  const Input<int16_t> words(count);
  for (size_t i = 0; i < count; ++i) words[i] = static_cast<int16_t>(extreme ? -32768 : Random(-127, 127));
  const Input<int32_t> offsets(runs);
  for (int run = 0; run < runs; ++run) offsets[run] = 2 * Random(0, reach / 2);
  offsets[0] = reach;
  const size_t of_run = 2 * static_cast<size_t>(pairs) * kConvChannels;
  const Input<int16_t> weights(runs * of_run);
  const int largest = extreme ? std::min(32767, 65535 / (2 * runs * pairs)) : 2000;
  for (size_t i = 0; i < runs * of_run; ++i) {
    weights[i] = static_cast<int16_t>(extreme ? largest : Random(-largest, largest));
  }
  const std::vector<float> multiplier = Floats(kConvChannels), bias = Floats(kConvChannels);
  std::vector<Output<float>> rows;
  std::vector<float*> pointers;
  for (int c = 0; c < channels; ++c) {
    rows.emplace_back(pixels);
    pointers.push_back(rows.back().data());
  }
  ConvRow args;
  args.words = words.get();
  args.offsets = offsets.get();
  args.weights = weights.get();
  args.multiplier = multiplier.data();
  args.bias = bias.data();
  args.rows = pointers.data();
  args.runs = runs;
  args.pairs = pairs;
  args.step = step;
  args.channels = channels;
  args.pixels = pixels;
  set.conv(args);
  bool same = true;
  for (int c = 0; c < channels; ++c) {
    same = same && rows[c].GuardsHold();
    for (int p = 0; p < pixels; ++p) {
      int64_t sum = 0;
      for (int run = 0; run < runs; ++run) {
        for (int i = 0; i < 2 * pairs; ++i) {
          const int weight = weights[run * of_run + (static_cast<size_t>(i / 2) * kConvChannels + c) * 2 + i % 2];
          sum += int64_t{weight} * words[static_cast<size_t>(p) * step + offsets[run] + i];
        }
      }
      volatile float y = static_cast<float>(sum);  // volatile: each step is rounded on its own
      y = y * multiplier[c];
      y = y + bias[c];
      same = same && SameBits(y, pointers[c][p]);
    }
  }
  if (!same) Fail("conv of " + std::to_string(channels) + " channels", set.name);
}

float AnyOrNan() { return Random(0, 29) == 0 ? NAN : Any(Random(0, 9) == 0); }

// Windows of any rows and taps, none among them, whose last one ends where the image ends.
void TestFloatConv(const Kernels& set, int pixels) {
  const int rows = Random(0, 4), taps = Random(0, 4), depth = Random(0, 12);
  const int step = Random(0, 30), tap_step = Random(0, 40), row_step = Random(0, 90);
  const int weight_row = taps * depth * kConvChannels + Random(0, 1) * kConvChannels;
  const bool any = rows > 0 && taps > 0 && depth > 0;
  const auto floats =
      static_cast<size_t>(any ? (pixels - 1) * step + (rows - 1) * row_step + (taps - 1) * tap_step + depth : 0);
  const auto weight_count = static_cast<size_t>(any ? (rows - 1) * weight_row + taps * depth * kConvChannels : 0);
  const Input<float> image(floats), weights(weight_count), bias(kConvChannels);
  for (size_t i = 0; i < floats; ++i) image[i] = AnyOrNan();
  for (size_t i = 0; i < weight_count; ++i) weights[i] = Any(false);
  for (int c = 0; c < kConvChannels; ++c) bias[c] = Any(false);
  Output<float> nhwc(static_cast<size_t>(pixels) * kConvChannels);
  FloatConvRow args;
  args.image = image.get();
  args.weights = weights.get();
  args.bias = bias.get();
  args.nhwc = nhwc.data();
  args.row_step = static_cast<size_t>(row_step);
  args.weight_row = static_cast<size_t>(weight_row);
  args.tap_step = static_cast<size_t>(tap_step);
  args.step = static_cast<size_t>(step);
  args.rows = rows;
  args.taps = taps;
  args.depth = depth;
  args.pixels = pixels;
  set.float_conv(args);
  bool same = nhwc.GuardsHold();
  for (int i = 0; i < pixels * kConvChannels; ++i) {
    const int p = i / kConvChannels, c = i % kConvChannels;
    volatile float y = bias[c];  // volatile: each step is rounded on its own
    for (int k = 0; k < rows * taps * depth; ++k) {
      const int row = k / (taps * depth), in_row = k % (taps * depth);
      const float x = image[p * step + row * row_step + in_row / depth * tap_step + in_row % depth];
      volatile float product = x * weights[row * weight_row + in_row * kConvChannels + c];
      y = y + product;
    }
    same = same && SameBits(y, nhwc.data()[i]);
  }
  if (!same) Fail("float conv of " + std::to_string(pixels) + " pixels", set.name);
}

}  // namespace

void TestConvs(const Kernels& set) {
  for (int channels = 1; channels <= 70; ++channels) {
    for (int i = 0; i < 6; ++i) TestWords(set, channels);
  }
  for (int channels = 1; channels <= kConvChannels; ++channels) {
    for (int pixels = 1; pixels <= 19; ++pixels) TestConv(set, channels, pixels);
  }
  for (int pixels = 1; pixels <= 70; ++pixels) {
    for (int i = 0; i < 20; ++i) TestFloatConv(set, pixels);
  }
}

}  // namespace bihrnet
