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
  int8_t* ByteRow(int channel) const { return reinterpret_cast<int8_t*>(first + static_cast<size_t>(channel) * bytes); }
};

// Where a quad's four rows lie; of a last quad some are not there, and nobody looks.
template <typename T>
inline void RowsOf(const Planes& planes, int channel, int pixel, T** rows) {
  for (int c = 0; c < kQuad; ++c) rows[c] = planes.Row(channel + c) + pixel;
}

template <typename T>
inline void ByteRowsOf(const Planes& planes, int channel, int pixel, T** rows) {
  for (int c = 0; c < kQuad; ++c) rows[c] = planes.ByteRow(channel + c) + pixel;
}

struct Operand {
  Planes planes;
  const Resize* resize = nullptr;  // where the planes are smaller than the step's
  int pitch = 0;                   // of those
};

// Operations of a chain that are one kernel call.
struct Link {
  enum class Kind : uint8_t { kPointwise, kSum, kSign, kMap, kByteSum };
  Kind kind = Kind::kPointwise;
  Pointwise op = Pointwise::kCopy;
  bool resizes = false;  // any operand is resized
  uint8_t operand_count = 0;
  uint32_t margin = 0;  // zero bytes before a plane of signs, and behind it
  uint32_t margin_back = 0;
  const Operand* operands = nullptr;
  const float* constants = nullptr;  // [channels] the operand where there are no planes, the factors of a sum, the bias
                                     // of signs
  // Of bytes, as ChainOp has them.
  const ByteMap* maps = nullptr;
  const ByteAddition* addition = nullptr;
  bool carries_second = false;
  const int8_t* thresholds = nullptr;
  const uint8_t* always = nullptr;
  Planes target;  // of the result where it is stored, or the signs
};

struct BoundStep {
  StepKind kind = StepKind::kRead;
  bool bytes = false;
  int channels = 0;
  int pixels = 0;
  int link_count = 0;
  const Link* links = nullptr;
  Operand source;
  Planes target;  // of what the chain begins with, where that is stored
  const uint8_t* mask = nullptr;
  // Of a binary convolution.
  bool pads_are_zero = false;
  int triples = 0;
  int32_t clamp_min = 0;
  int32_t clamp_max = 0;
  const int32_t* offsets = nullptr;
  const uint16_t* weights = nullptr;
  const float* multiplier = nullptr;
  const float* bias = nullptr;
  const float* alpha = nullptr;
  const ByteCurve* curves = nullptr;
  Operand residuals[2];
};

// Read front to back in a run, so that the processor fetches ahead.
class BoundProgram {
 public:
  // `arena` is the program's memory; the program must stay as it is left: without the constants of its steps, which
  // are here now.
  BoundProgram(Program* program, uint8_t* arena);
  BoundProgram(const BoundProgram&) = delete;
  BoundProgram& operator=(const BoundProgram&) = delete;

  const BoundStep& operator[](int step) const { return steps_[static_cast<size_t>(step)]; }

 private:
  void BindStep(Step* step);
  const Value& ValueOf(PlaneRef plane) const { return program_.values[static_cast<size_t>(plane.value)]; }
  const Geometry& GeometryOf(int index) const { return program_.geometries[static_cast<size_t>(index)]; }
  Planes PlanesOf(PlaneRef plane) const;
  Operand OperandOf(PlaneRef plane, int resize) const;
  const float* Take(std::vector<float>* values);
  void AppendSign(ChainOp* op);
  void AppendPointwise(ChainOp* op, bool first);
  void AppendByteOp(ChainOp& op);

  const Program& program_;
  uint8_t* arena_;
  std::vector<BoundStep> steps_;
  // As large as they will be from the start: pointers into them stay.
  std::vector<Link> links_;
  std::vector<Operand> operands_;
  std::vector<float> floats_;
};

}  // namespace bihrnet
