#include <algorithm>

#include "impl.h"

namespace bihrnet {
namespace {

constexpr float kIntegers = 8388608.0f;  // 2^23: from here on every float is an integer

int Saturate(int x) { return std::clamp(x, -128, 127); }

int Nearest(float y) {
  if (y >= 128.0f) return 127;
  if (!(y >= -128.0f)) return -128;
  const float a = __builtin_fabsf(y);
  const volatile float shifted = a + kIntegers;  // rounded to an integer, ties to even
  return Saturate(static_cast<int>(__builtin_copysignf(shifted - kIntegers, y)));
}

}  // namespace

void ByteEpilogueScalar(const ByteEpilogue& args) {
  for (int c = 0; c < args.channels; ++c) {
    const ByteCurve& curve = args.curves[c];
    if (curve.table != nullptr) {
      ByteTableRow(args, c);
      continue;
    }
    for (int p = 0; p < args.pixels; ++p) {
      const int32_t twice = std::max(std::min(2 * args.acc[c * kTilePixels + p], args.clamp_max), args.clamp_min);
      int x = Nearest(static_cast<float>(twice) * curve.multiplier + curve.bias);
      if (curve.has_slope) {
        const int scaled = (x * 256 * curve.slope + (1 << 14)) >> 15;
        x = std::max(x, Saturate((scaled + curve.round) >> 8));
      }
      if (args.residual != nullptr) x = Saturate(x + args.residual[c][p]);
      if (args.second_residual != nullptr) x = Saturate(x + args.second_residual[c][p]);
      args.rows[c][p] = static_cast<int8_t>(x);
    }
  }
}

void ByteSumOfScalar(const ByteSum& args) {
  for (int c = 0; c < args.channels; ++c) {
    for (int p = 0; p < args.pixels; ++p) args.rows[c][p] = static_cast<int8_t>(Saturate(args.a[c][p] + args.b[c][p]));
  }
}

void ByteSignsScalar(const ByteSigns& args) {
  for (int p = 0; p < args.pixels; ++p) {
    unsigned nibble = args.always;
    for (int c = 0; c < args.channels; ++c) nibble |= unsigned{args.rows[c][p] < args.thresholds[c]} << c;
    args.nibbles[p] = static_cast<uint8_t>(nibble & args.mask[p]);
  }
}

}  // namespace bihrnet
