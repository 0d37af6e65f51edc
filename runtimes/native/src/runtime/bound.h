// A program's steps with addresses in place of indices: what a thread reads for every tile, close together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "compiler/program.h"
#include "kernels/kernels.h"

namespace bihrnet {

// Planes of one value, from one on.
struct Planes {
  uint8_t* first = nullptr;  // at its first pixel; null: none
  size_t bytes = 0;          // from one to the next

  float* Row(int channel) const { return reinterpret_cast<float*>(first + static_cast<size_t>(channel) * bytes); }
};

struct Operand {
  Planes planes;
  const Resize* resize = nullptr;  // where the planes are smaller than the step's
  int pitch = 0;                   // of those
};

// Operations of a chain that are one kernel call.
struct Link {
  enum class Kind : uint8_t { kPointwise, kSum, kSign };
  Kind kind = Kind::kPointwise;
  Pointwise op = Pointwise::kCopy;
  bool resizes = false;  // any operand is resized
  int operands = 0;
  Operand operand[kMaxTerms];
  const float* constants = nullptr;  // [channels] the operand where there are no planes, the factors of a sum, the bias
                                     // of signs
  Planes target;                     // of the result where it is stored, or the signs
  size_t margin = 0;                 // zero bytes before a plane of signs
  size_t margin_back = 0;
};

struct BoundStep {
  Operand source;
  Operand residuals[2];
  Planes target;  // of what the chain begins with, where that is stored
  const uint8_t* mask = nullptr;
  int channels = 0;
  int pixels = 0;
  std::vector<Link> links;
};

// `arena` is the program's memory; the program must outlive the result, unchanged.
std::vector<BoundStep> Bind(const Program& program, uint8_t* arena);

}  // namespace bihrnet
