#include "compiler/compile.h"

#include "compiler/lower.h"

namespace bihrnet {

std::string Compile(const Graph& graph, const std::vector<std::vector<int>>& input_dims, Program* program) {
  Lowered lowered;
  std::string error = Lower(graph, input_dims, &lowered);
  if (!error.empty()) return error;
  Fuse(&lowered, program);
  return PlanMemory(program);
}

}  // namespace bihrnet
