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

int MulHigh(int a, int b) { return (a * b + (1 << 14)) >> 15; }

int Sloped(int x, int16_t slope, int16_t round, int shift) {
  const int word = MulHigh(256 * x, slope) + round;
  return Saturate(std::clamp(word, -32768, 32767) >> shift);
}

int OnCurve(const ByteEpilogue& args, const ByteCurve& curve, unsigned count) {
  if (curve.gain != 0) {
    const auto word = static_cast<int16_t>(count * curve.gain + static_cast<unsigned>(int{curve.base}));
    return Saturate((MulHigh(word, curve.factor) + curve.more) >> 8);
  }
  const int32_t twice = std::max(std::min(static_cast<int32_t>(2 * count), args.clamp_max), args.clamp_min);
  return Nearest(static_cast<float>(twice) * curve.multiplier + curve.bias);
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
      int x = OnCurve(args, curve, args.acc[c * kTilePixels + AccumulatorAt(p, true)]);
      if (curve.has_slope) x = std::max(x, Sloped(x, curve.slope, curve.round, 8));
      if (args.residual != nullptr) x = Saturate(x + args.residual[c][p]);
      if (args.second_residual != nullptr) x = Saturate(x + args.second_residual[c][p]);
      args.rows[c][p] = static_cast<int8_t>(x);
    }
  }
}

void ByteSumOfScalar(const ByteSum& args) {
  const ByteAddition& how = *args.how;
  for (int c = 0; c < args.channels; ++c) {
    for (int p = 0; p < args.pixels; ++p) {
      const int a = args.a[c][p], b = args.b[c][p];
      int8_t& sum = args.rows[c][p];
      if (how.kind == ByteAddition::Kind::kExact) {
        sum = ExactSum(how, a, b);
      } else if (how.kind == ByteAddition::Kind::kWhole) {
        sum = WholeSum(how, a, b);
      } else {
        sum = static_cast<int8_t>(Saturate(a + b));
      }
    }
  }
}

void ByteMapScalar(const ByteMapArgs& args) {
  for (int c = 0; c < args.channels; ++c) {
    const ByteMap& map = args.maps[c];
    if (map.table != nullptr) {
      const int8_t* table = map.table + 128;
      for (int p = 0; p < args.pixels; ++p) args.rows[c][p] = table[args.source[c][p]];
      continue;
    }
    for (int p = 0; p < args.pixels; ++p) {
      const int x = args.source[c][p];
      const int y = Sloped(x, map.slope, map.round, map.shift);
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

void ByteRepeatScalar(const ByteRepeat& args) { RepeatEach(args); }

void ByteSignsScalar(const ByteSigns& args) {
  for (int p = 0; p < args.pixels; ++p) {
    unsigned nibble = args.always;
    for (int c = 0; c < args.channels; ++c) nibble |= unsigned{args.rows[c][p] < args.thresholds[c]} << c;
    args.nibbles[p] = static_cast<uint8_t>(nibble & args.mask[p]);
  }
}

}  // namespace bihrnet
