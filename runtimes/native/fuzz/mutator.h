// Places in a .tflite file that are worth changing: what a reader of the model believes.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "flatbuffer_view.h"

namespace fuzz {

enum class Kind {
  kSize,     // int32: a dimension, a stride, a mask
  kIndex,    // int32: a tensor
  kCode,     // int32: a builtin operator
  kByte,     // a type, a padding, an activation, a flag
  kFloat,    // a scale or a constant's float
  kCount,    // the length of a vector
  kOption,   // a byte of a FlexBuffer
  kData,     // int32 of a constant: the bounds of a slice, thresholds, bits
  kElement,  // an element of a vector of tables; it can be made to show another's
};

struct Slot {
  size_t place;
  Kind kind;
  size_t vector;  // for kElement: where the vector's count lies
};

struct Constant {
  size_t dims;     // where the count of the dimensions lies, 0: absent
  size_t bytes;    // where the count of the buffer's bytes lies
  size_t element;  // bytes of an element
};

struct Anatomy {
  std::vector<Slot> slots;
  std::vector<Constant> constants;
};

// As much as can be found; damage ends the search where it lies.
Anatomy Dissect(mini::Bytes file);

using Random = std::mt19937;

// Changes one place, by its kind.
void MutateSlot(uint8_t* file, size_t size, const Anatomy& anatomy, Random* random);

// Changes a constant's shape and lets its bytes follow, so that the loader still takes it.
void MutateConstant(uint8_t* file, size_t size, const Constant& constant, Random* random);

}  // namespace fuzz
