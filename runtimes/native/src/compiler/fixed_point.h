// TensorFlow Lite's arithmetic of quantized tensors: real factors as integers of 31 bits and a power of two.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace bihrnet {

struct Multiplier {
  int32_t mantissa = 0;
  int shift = 0;
};

// TensorFlow Lite, QuantizeMultiplier. Factors beyond 2^30 do not occur: callers refuse them.
inline Multiplier QuantizeMultiplier(double factor) {
  if (factor == 0.0) return {};
  Multiplier result;
  const double fraction = std::frexp(factor, &result.shift);
  auto mantissa = static_cast<int64_t>(std::round(fraction * static_cast<double>(int64_t{1} << 31)));
  if (mantissa == int64_t{1} << 31) {
    mantissa /= 2;
    ++result.shift;
  }
  if (result.shift < -31) return {};
  result.mantissa = static_cast<int32_t>(mantissa);
  return result;
}

// gemmlowp, SaturatingRoundingDoublingHighMul: a * b / 2^31 to the nearest, ties away from zero.
inline int32_t DoublingHighMultiply(int32_t a, int32_t b) {
  if (a == b && a == std::numeric_limits<int32_t>::min()) return std::numeric_limits<int32_t>::max();
  const int64_t product = int64_t{a} * b;
  const int64_t nudge = product >= 0 ? int64_t{1} << 30 : 1 - (int64_t{1} << 30);
  return static_cast<int32_t>((product + nudge) / (int64_t{1} << 31));
}

// gemmlowp, RoundingDivideByPOT: x / 2^exponent to the nearest, ties away from zero.
inline int32_t DivideByPowerOfTwo(int32_t x, int exponent) {
  const auto mask = static_cast<int32_t>((int64_t{1} << exponent) - 1);
  const int32_t threshold = (mask >> 1) + (x < 0 ? 1 : 0);
  return (x >> exponent) + ((x & mask) > threshold ? 1 : 0);
}

// TensorFlow Lite, MultiplyByQuantizedMultiplier with two roundings.
inline int32_t Multiply(int32_t x, const Multiplier& factor) {
  const int left = std::max(factor.shift, 0), right = std::max(-factor.shift, 0);
  const auto shifted = static_cast<int32_t>(static_cast<uint32_t>(x) << left);
  return DivideByPowerOfTwo(DoublingHighMultiply(shifted, factor.mantissa), right);
}

}  // namespace bihrnet
