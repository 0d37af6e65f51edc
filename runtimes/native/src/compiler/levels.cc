// Levels: which steps may run side by side, and from when to when a value lives.
#include <algorithm>

#include "compiler/lower.h"

namespace bihrnet {
namespace {

std::vector<PlaneRef> Reads(const Step& step) {
  std::vector<PlaneRef> reads;
  if (step.source.value >= 0) reads.push_back(step.source);
  for (const PlaneRef& residual : step.bconv.residuals) {
    if (residual.value >= 0) reads.push_back(residual);
  }
  for (const Part& part : step.parts) reads.push_back(part.source);
  for (const ChainOp& link : step.chain) {
    if (link.kind == ChainOp::Kind::kPointwise && link.plane.value >= 0) reads.push_back(link.plane);
  }
  return reads;
}

std::vector<PlaneRef> Writes(const Step& step) {
  std::vector<PlaneRef> writes;
  if (step.target.value >= 0) writes.push_back(step.target);
  for (const ChainOp& link : step.chain) {
    if (link.kind != ChainOp::Kind::kPointwise) writes.push_back(link.plane);
  }
  return writes;
}

}  // namespace

// A step runs one level after the last of those that make what it reads: branches of the net run side by side.
void SetLevels(Program* program) {
  std::vector<int> made(program->values.size(), -1);
  for (Step& step : program->steps) {
    for (const PlaneRef& plane : Reads(step)) {
      step.level = std::max(step.level, made[static_cast<size_t>(plane.value)] + 1);
    }
    for (const PlaneRef& plane : Writes(step)) {
      made[static_cast<size_t>(plane.value)] = std::max(made[static_cast<size_t>(plane.value)], step.level);
    }
    program->levels = std::max(program->levels, step.level + 1);
  }
  std::stable_sort(program->steps.begin(), program->steps.end(),
                   [](const Step& a, const Step& b) { return a.level < b.level; });
  for (const Step& step : program->steps) {
    for (const PlaneRef& plane : Writes(step)) {
      Value& value = program->values[static_cast<size_t>(plane.value)];
      if (value.first_level < 0 || step.level < value.first_level) value.first_level = step.level;
      value.last_level = std::max(value.last_level, step.level);
    }
    for (const PlaneRef& plane : Reads(step)) {
      Value& value = program->values[static_cast<size_t>(plane.value)];
      value.last_level = std::max(value.last_level, step.level);
    }
  }
}

}  // namespace bihrnet
