#include "impl.h"

namespace bihrnet {
namespace {

// Added to and taken off again, it rounds to integers, ties to even, whatever is below 2^22.
constexpr float kRound = 12582912.0f;

int16_t Clamped(float x, float low, float high) {
  x = x > low ? x : low;  // and so is NaN
  x = x < high ? x : high;
  return static_cast<int16_t>((x + kRound) - kRound);
}

}  // namespace

void WordsFromNhwcScalar(const Words& args) {
  for (int p = 0; p < args.pixels; ++p) {
    const float* from = args.nhwc + static_cast<size_t>(p) * args.nhwc_pitch;
    int16_t* to = args.words + static_cast<size_t>(p) * args.words_pitch;
    for (int c = 0; c < args.channels; ++c) {
      float x = from[c];
      if (args.alpha != nullptr) x = x >= 0.0f ? x : x * args.alpha[c];
      to[c] = Clamped(x, args.low, args.high);
    }
    if (args.channels % 2 != 0) to[args.channels] = 0;
  }
}

void ConvScalar(const ConvRow& args) {
  for (int p = 0; p < args.pixels; ++p) {
    const int16_t* window = args.words + static_cast<size_t>(p) * args.step;
    int32_t sums[kConvChannels] = {};
    const int16_t* weight = args.weights;
    for (int run = 0; run < args.runs; ++run) {
      const int16_t* from = window + args.offsets[run];
      for (int pair = 0; pair < args.pairs; ++pair, from += 2) {
        for (int32_t& sum : sums) {
          sum += from[0] * weight[0] + from[1] * weight[1];
          weight += 2;
        }
      }
    }
    for (int c = 0; c < args.channels; ++c) {
      args.rows[c][p] = static_cast<float>(sums[c]) * args.multiplier[c] + args.bias[c];
    }
  }
}

}  // namespace bihrnet
