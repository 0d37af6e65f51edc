// Sums of two int8 tensors as TensorFlow Lite's optimized kernels round them, and the cheapest way to the same bytes.
#pragma once

#include <utility>

#include "graph/graph.h"
#include "kernels/kernels.h"

namespace bihrnet {

// TensorFlow Lite's sum of two bytes, before it is saturated.
int32_t AddBytes(const ByteAddition& how, int a, int b);

// `range`: the bytes that the sum's activation leaves. The first operand's scale must not be the smaller one: operands
// may change places.
ByteAddition ByteAdditionOf(const Tensor& a, const Tensor& b, const Tensor& sum, std::pair<int32_t, int32_t> range);

}  // namespace bihrnet
