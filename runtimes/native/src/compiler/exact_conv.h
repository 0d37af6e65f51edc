// Float convolutions that integers compute to the bit.
//
// Where every word that goes in and every weight is an integer times a power of two, and no sum of their products, bias
// included, needs more than float32's 24 bits, nothing is ever rounded: any order of additions gives the same floats,
// and so do sums of integers, which take half the time. TensorFlow writes integers as ROUND between a MINIMUM and a
// MAXIMUM.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace bihrnet {

struct ExactConv {
  int input = -1;           // the tensor that the rounded one is made from; nothing of the graph writes it
  std::vector<int> before;  // the nodes that make it, which nobody else has a use for
  int slopes = -1;          // the tensor of the PRELU among them, -1 where there is none
  float low = 0.0f;         // what is rounded lies between these integers
  float high = 0.0f;
  std::vector<float> scale;  // [output channels] powers of two: a weight over its scale is an integer of 16 bits
};

// Whether the graph's node, a kConv, can be computed in integers, and what comes along with it. Who else reads a tensor
// is looked for among the graph's nodes and outputs.
bool FindExactConv(const Graph& graph, int node, ExactConv* found);

// Weight i of a filter, in the file's order: [output channel][row][column][input channel].
float FilterAt(const Tensor& filter, size_t i);

}  // namespace bihrnet
