// Sums of two int8 tensors as TensorFlow Lite's optimized kernels round them, and the cheapest way to the same bytes.
#pragma once

#include <utility>

#include "compiler/fixed_point.h"
#include "graph/graph.h"
#include "kernels/kernels.h"

namespace bihrnet {

constexpr int kAdditionShift = 20;  // TensorFlow Lite, add.cc: bits that operands gain before they are scaled

// TensorFlow Lite's sum of two bytes, before it is saturated. The optimized kernels round an operand once, after all of
// its shifts, where the reference kernels do so twice.
inline int32_t AddBytes(const ByteAddition& how, int a, int b) {
  const int32_t first = (a - how.zero_points[0]) * (1 << (kAdditionShift - 1));
  const int32_t second = DoublingHighMultiply((b - how.zero_points[1]) * (1 << how.second_shift), how.second_mantissa);
  return Multiply(first + second, {how.sum_mantissa, -how.sum_shift}) + how.zero_points[2];
}

// `range`: the bytes that the sum's activation leaves. The first operand's scale must not be the smaller one: operands
// may change places.
ByteAddition ByteAdditionOf(const Tensor& a, const Tensor& b, const Tensor& sum, std::pair<int32_t, int32_t> range);

}  // namespace bihrnet
