// One arena for a program: every stored value gets a place that no other value uses while it lives.
#include <algorithm>
#include <numeric>

#include "compiler/lower.h"
#include "graph/graph.h"

namespace bihrnet {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kMaxArena = size_t{2} << 30;

size_t BytesOf(const Value& value) {
  const size_t bytes = value.plane_bytes * static_cast<size_t>(value.planes);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

bool ReadsAt(const Step& step, int value) {
  const auto is = [&](const PlaneRef& plane) { return plane.value == value; };
  return is(step.source) ||
         std::any_of(step.parts.begin(), step.parts.end(), [&](const Part& part) { return is(part.source); }) ||
         std::any_of(step.chain.begin(), step.chain.end(),
                     [&](const ChainOp& link) { return link.kind == ChainOp::Kind::kPointwise && is(link.plane); });
}

// By value: the value whose planes it may be written over, or -1. A convolution's epilogue reads a residual's pixel
// just before it writes its own, so a residual that nobody needs afterwards can become the result in place: half of the
// memory that such a step touches, and it is at hand already.
std::vector<int> PlacesTaken(const Program& program) {
  std::vector<int> takes(program.values.size(), -1);
  for (const Step& step : program.steps) {
    if (step.kind != StepKind::kBconv || step.direct.value < 0) continue;
    for (size_t i = 0; i < 2; ++i) {
      const PlaneRef& residual = step.bconv.residuals[i];
      if (residual.value < 0 || residual.plane != step.direct.plane || step.bconv.residual_resizes[i] >= 0) continue;
      const Value& from = program.values[static_cast<size_t>(residual.value)];
      const Value& to = program.values[static_cast<size_t>(step.direct.value)];
      if (from.geometry == to.geometry && from.planes == to.planes && from.last_level == to.first_level &&
          from.first_level < to.first_level) {
        takes[static_cast<size_t>(step.direct.value)] = residual.value;
      }
    }
  }
  // Whatever else touches either of the two while they are the same memory rules it out.
  std::vector<int> takers(program.values.size(), 0);
  for (const int from : takes) {
    if (from >= 0) ++takers[static_cast<size_t>(from)];
  }
  for (size_t to = 0; to < takes.size(); ++to) {
    const int from = takes[to];
    if (from < 0) continue;
    const int level = program.values[to].first_level;
    bool alone = takers[static_cast<size_t>(from)] == 1;
    for (const Step& step : program.steps) {
      const bool writes = std::any_of(step.chain.begin(), step.chain.end(), [&](const ChainOp& link) {
        return link.kind == ChainOp::Kind::kStore && link.plane.value == static_cast<int>(to);
      });
      bool aligned = false, residual = false;
      for (const PlaneRef& plane : step.bconv.residuals) {
        if (plane.value != from) continue;
        const bool fits = writes && step.direct.value >= 0 && plane.plane == step.direct.plane;
        aligned = fits && (aligned || !residual);
        residual = true;
      }
      if (step.level == level && (ReadsAt(step, from) || (residual && !aligned))) alone = false;
      if (writes && (!aligned || step.level != level)) alone = false;
    }
    if (!alone) takes[to] = -1;
  }
  return takes;
}

}  // namespace

std::string PlanMemory(Program* program) {
  std::vector<Value>& values = program->values;
  const std::vector<int> takes = PlacesTaken(*program);
  // The first of a row of values in one place stands for all of them until the place is found.
  std::vector<int> first(values.size());
  std::vector<int> by_birth(values.size());
  std::iota(by_birth.begin(), by_birth.end(), 0);
  std::stable_sort(by_birth.begin(), by_birth.end(), [&](int a, int b) {
    return values[static_cast<size_t>(a)].first_level < values[static_cast<size_t>(b)].first_level;
  });
  std::vector<int> last_level(values.size());
  for (const int index : by_birth) {
    const auto i = static_cast<size_t>(index);
    first[i] = takes[i] >= 0 ? first[static_cast<size_t>(takes[i])] : index;
    int& last = last_level[static_cast<size_t>(first[i])];
    last = std::max(last, values[i].last_level);
  }
  std::vector<int> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  // Large values first: small ones then fill the gaps between them.
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return BytesOf(values[static_cast<size_t>(a)]) > BytesOf(values[static_cast<size_t>(b)]);
  });
  std::vector<const Value*> placed;  // ordered by offset
  for (const int index : order) {
    Value& value = values[static_cast<size_t>(index)];
    if (!value.stored || value.first_level < 0 || first[static_cast<size_t>(index)] != index) continue;
    const size_t bytes = BytesOf(value);
    size_t offset = 0;
    for (const Value* other : placed) {
      const auto other_last = last_level[static_cast<size_t>(other - values.data())];
      if (other_last < value.first_level || last_level[static_cast<size_t>(index)] < other->first_level) continue;
      if (offset + bytes <= other->offset) break;
      offset = std::max(offset, other->offset + BytesOf(*other));
    }
    if (bytes > kMaxArena || offset > kMaxArena - bytes) {
      return "the region needs more than 2 GiB for its tensors; use smaller inputs.";
    }
    value.offset = offset;
    program->arena_bytes = std::max(program->arena_bytes, offset + bytes);
    const auto at = std::upper_bound(placed.begin(), placed.end(), offset,
                                     [](size_t o, const Value* other) { return o < other->offset; });
    placed.insert(at, &value);
  }
  for (size_t i = 0; i < values.size(); ++i) values[i].offset = values[static_cast<size_t>(first[i])].offset;
  return "";
}

}  // namespace bihrnet
