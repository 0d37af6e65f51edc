// Lowering: shapes are inferred, concatenations and slices vanish into references to planes, and what is left are
// operations on ranges of channels, which fuse.cc then strings together into steps.
#pragma once

#include <string>
#include <vector>

#include "compiler/program.h"
#include "graph/graph.h"

namespace bihrnet {

// An operation that writes channels [first, first + channels) of `value`; channel first + i depends, where the
// operation is pointwise, on channel plane + i of each input alone.
struct RangeOp {
  StepKind kind = StepKind::kRead;  // kRead: pointwise, or signs where `sign` is set
  bool sign = false;
  int value = -1;
  int first = 0;
  int channels = 0;
  std::vector<PlaneRef> inputs;
  Pointwise op = Pointwise::kCopy;
  std::vector<float> constants;  // [channels]: the second operand, or the bias of signs
  // Of bytes, as ChainOp has them.
  std::vector<int8_t> map;
  int addition = -1;
  std::vector<int8_t> thresholds;
  std::vector<uint8_t> always;
  int node = -1;           // of the graph, -1 for a load or a store
  int detail = -1;         // index into Lowered::details for what is not pointwise
  int channel_offset = 0;  // of this range in the detail's channels
};

struct Lowered {
  Program program;  // its geometries, values, batch and output_dims
  std::vector<RangeOp> ops;
  std::vector<Step> details;  // Steps that hold the Bconv, Pool... of an op, for all of its channels
};

std::string Lower(const Graph& graph, const std::vector<std::vector<int>>& input_dims, Lowered* lowered);

// Splits operations where their readers are split, joins them into steps and gives every step a level.
void Fuse(Lowered* lowered, Program* program);

// What a step does, for the profile.
std::string NameOf(const Step& step);

// Gives every step a level, orders steps by it, and notes in which levels a value is made and read.
void SetLevels(Program* program);

// Gives every stored value a place in the arena; values that live at the same time never overlap.
// Returns a sentence where the arena would be too large.
std::string PlanMemory(Program* program);

}  // namespace bihrnet
