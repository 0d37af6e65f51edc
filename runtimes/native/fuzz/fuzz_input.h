// What a fuzz input is: a few bytes of choices, then a .tflite file.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fuzz {

struct Choices {
  uint8_t threads;  // 0 to 4
  uint8_t kernel;   // 0: the fastest, 1: scalar, 2: avx2, 3: neon
  uint8_t resize;   // 0: no, else which input
  uint8_t batch;    // the new size
  uint8_t height;
  uint8_t width;
  uint8_t pattern;  // of the inputs
  uint8_t steps;    // bits: kMove, kReallocate, kCompare
};
static_assert(sizeof(Choices) == 8, "make_models.py writes seeds with 8 bytes in front");

constexpr uint8_t kMove = 1;        // the tensors change their addresses between two runs
constexpr uint8_t kReallocate = 2;  // or are allocated anew, and the delegate prepared again
constexpr uint8_t kCompare = 4;     // with the scalar kernels on one thread

constexpr size_t kMostBytes = 1 << 20;

}  // namespace fuzz
