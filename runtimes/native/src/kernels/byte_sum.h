// Sums of two bytes, one at a time: what every set of kernels gives.
#pragma once

#include "kernels.h"

namespace bihrnet {

namespace {  // a copy for every unit: each is compiled for its own ISA

// x * mantissa / 2^31 to the nearest integer, ties up.
inline int32_t HighProduct(int32_t x, int32_t mantissa) {
  return static_cast<int32_t>((int64_t{x} * mantissa + (1 << 30)) >> 31);
}

inline int8_t ExactSum(const ByteAddition& how, int a, int b) {
  const int32_t first = (a - how.zero_points[0]) * (1 << 19);
  const int32_t sum = first + HighProduct((b - how.zero_points[1]) * (1 << how.second_shift), how.second_mantissa);
  const int32_t scaled = HighProduct(sum, how.sum_mantissa);
  // Ties away from zero.
  const int64_t half = (int64_t{1} << how.sum_shift) >> 1;
  const auto y = static_cast<int>((scaled + half - (scaled < 0 && half > 0 ? 1 : 0)) >> how.sum_shift);
  const int byte = y + how.zero_points[2];
  return byte < how.low ? how.low : byte > how.high ? how.high : static_cast<int8_t>(byte);
}

// What the weighted sum of two bytes is where both are their zero points.
inline int WholeZero(const ByteAddition& how) {
  return how.weights[0] * how.zero_points[0] + how.weights[1] * how.zero_points[1];
}

// The magnitude of the weighted sum times the factor, rounded half up.
inline int8_t WholeSum(const ByteAddition& how, int a, int b) {
  const int sum = how.weights[0] * a + how.weights[1] * b - WholeZero(how);
  const int magnitude = ((sum < 0 ? -sum : sum) * how.factor + (1 << 14)) >> 15;
  const int byte = (sum < 0 ? -magnitude : magnitude) + how.zero_points[2];
  return static_cast<int8_t>(byte < -128 ? -128 : byte > 127 ? 127 : byte);
}

}  // namespace

}  // namespace bihrnet
