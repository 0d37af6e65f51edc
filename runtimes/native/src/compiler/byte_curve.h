// From accumulators to bytes: a curve of the kernels where one gives every byte exactly, a table where none does.
#pragma once

#include <cstdint>
#include <vector>

#include "compiler/program.h"

namespace bihrnet {

// Sets `curves` and `tables` to what LCE makes of an accumulator with the multipliers, biases and clamp of an int8
// output, and then `map` of that, [channels][256] from -128 on, or nothing where it is empty.
void SetByteCurves(Bconv* bconv, int channels, const std::vector<int8_t>& map);

// What the kernels make of a map, [channels][256] from -128 on: its tables are pointed to where no slope gives them.
std::vector<ByteMap> ByteMapsOf(const std::vector<int8_t>& map);

}  // namespace bihrnet
