// The bytes that an activation leaves of an int8 tensor's.
#pragma once

#include <cstdint>
#include <utility>

#include "graph/graph.h"

namespace bihrnet {

std::pair<int32_t, int32_t> ByteRange(const Tensor& tensor, Activation activation);

}  // namespace bihrnet
