#include "impl.h"

namespace bihrnet {
namespace {

int Scaled(int32_t sum, int32_t mantissa, int shift) {
  const int64_t first = (int64_t{sum} * mantissa + (1 << 30)) >> 31;
  return static_cast<int>((first + ((int64_t{1} << shift) >> 1)) >> shift);
}

int Clamped(int x, int low, int high) { return x < low ? low : x > high ? high : x; }

}  // namespace

void ByteConvScalar(const ByteConvRow& args) {
  for (int p = 0; p < args.pixels; ++p) {
    const int16_t* window = args.words + static_cast<size_t>(p) * args.step;
    int32_t sums[kConvChannels];
    for (int c = 0; c < kConvChannels; ++c) sums[c] = args.bias[c];
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
      int x = Clamped(Scaled(sums[c], args.mantissa[c], args.shift[c]) + args.offset, args.low, args.high);
      if (args.to == nullptr) {
        args.rows[c][p] = static_cast<int8_t>(x);
        continue;
      }
      if (args.slope != nullptr) {
        const int y = Clamped((((x * 256 * args.slope[c] + (1 << 14)) >> 15) + args.round[c]) >> 8, -128, 127);
        x = x > y ? x : y;
      }
      args.to[static_cast<size_t>(p) * args.to_pitch + c] = static_cast<int16_t>(x - args.zero_point);
    }
  }
}

}  // namespace bihrnet
