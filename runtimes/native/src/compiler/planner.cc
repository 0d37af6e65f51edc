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

}  // namespace

std::string PlanMemory(Program* program) {
  std::vector<Value>& values = program->values;
  std::vector<int> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  // Large values first: small ones then fill the gaps between them.
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return BytesOf(values[static_cast<size_t>(a)]) > BytesOf(values[static_cast<size_t>(b)]);
  });
  std::vector<const Value*> placed;  // ordered by offset
  for (const int index : order) {
    Value& value = values[static_cast<size_t>(index)];
    if (!value.stored || value.first_level < 0) continue;
    const size_t bytes = BytesOf(value);
    size_t offset = 0;
    for (const Value* other : placed) {
      if (other->last_level < value.first_level || value.last_level < other->first_level) continue;
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
  return "";
}

}  // namespace bihrnet
