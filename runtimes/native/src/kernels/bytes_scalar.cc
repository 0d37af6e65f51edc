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

int Sloped(int x, int16_t slope, int16_t round) {
  const int scaled = (x * 256 * slope + (1 << 14)) >> 15;
  return Saturate((scaled + round) >> 8);
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
      if (curve.has_slope) x = std::max(x, Sloped(x, curve.slope, curve.round));
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

void ByteMapScalar(const ByteMapArgs& args) {
  for (int c = 0; c < args.channels; ++c) {
    const ByteMap& map = args.maps[c];
    if (map.table != nullptr) {
      ByteTableMap(args, c);
      continue;
    }
    for (int p = 0; p < args.pixels; ++p) {
      const int x = args.source[c][p];
      const int y = Sloped(x, map.slope, map.round);
      args.rows[c][p] = static_cast<int8_t>(map.or_x ? std::max(x, y) : y);
    }
  }
}

void ByteHalveScalar(const ByteHalve& args) {
  for (int row = 0; row < args.rows; ++row) {
    const int8_t* upper = args.from + ptrdiff_t{2} * row * args.from_pitch;
    for (int i = 0; i < args.pixels; ++i) {
      args.to[ptrdiff_t{row} * args.to_pitch + i] = HalfBytes(upper, upper + args.from_pitch, i);
    }
  }
}

void ByteRepeatScalar(const ByteRepeat& args) {
  for (int i = 0; i < args.pixels; ++i) args.to[i] = args.from[i / args.factor];
}

void ByteSignsScalar(const ByteSigns& args) {
  for (int p = 0; p < args.pixels; ++p) {
    unsigned nibble = args.always;
    for (int c = 0; c < args.channels; ++c) nibble |= unsigned{args.rows[c][p] < args.thresholds[c]} << c;
    args.nibbles[p] = static_cast<uint8_t>(nibble & args.mask[p]);
  }
}

}  // namespace bihrnet
