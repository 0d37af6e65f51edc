// Float convolutions that integers compute to the bit.
//
// Where every word that goes in and every weight is an integer times a power of two, and no sum of their products, bias
// included, needs more than float32's 24 bits, nothing is ever rounded: any order of additions gives the same floats,
// and so do sums of integers, which take half the time. TensorFlow writes integers as ROUND between a MINIMUM and a
// MAXIMUM.
//
// The convolution that makes what is rounded goes along where only that reads it and, for images of 8 bits, none of its
// own sums rounds either.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace bihrnet {

struct ExactConv {
  int input = -1;           // the tensor that the rounded one is made from; nothing else of the graph writes it
  int image = -1;           // the convolution that makes it, of a tensor that nothing of the graph writes; -1 without
  std::vector<int> before;  // the nodes that make it, which nobody else has a use for
  int slopes = -1;          // the tensor of the PRELU among them, -1 where there is none
  float low = 0.0f;         // what is rounded lies between these integers
  float high = 0.0f;
  std::vector<float> scale;  // [output channels] powers of two: a weight over its scale is an integer of 16 bits
};

// Whether the graph's node, a kConv, can be computed in integers, and what comes along with it. Who else reads a tensor
// is looked for among the graph's nodes and outputs. Where all that stands against it is another kConv that it cannot
// take along, `image` is that one.
bool FindExactConv(const Graph& graph, int node, ExactConv* found);

// Whether no sum of the node, a kConv, rounds for integers of up to 255, all times one power of two from 2^-8 to 1.
bool IsImageConv(const Graph& graph, int node);

// The node that writes a tensor before this one, -1 where none does.
int WriterBefore(const Graph& graph, int node, int tensor);

}  // namespace bihrnet
