// From a region of a graph to a program.
#pragma once

#include <string>
#include <vector>

#include "compiler/program.h"
#include "graph/graph.h"

namespace bihrnet {

// Compiles for inputs of these sizes, one list of dimensions for each of graph.inputs.
// Returns an empty string, or a sentence that says what cannot be compiled; then `program` is not to be used.
std::string Compile(const Graph& graph, const std::vector<std::vector<int>>& input_dims, Program* program);

}  // namespace bihrnet
