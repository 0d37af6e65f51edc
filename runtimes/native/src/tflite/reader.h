// From the runtime's nodes and tensors to a checked Graph.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"
#include "tflite/abi.h"

namespace bihrnet {

// A TFLite node, and how it is called in messages.
struct RuntimeNode {
  const TfLiteNode* node = nullptr;
  const TfLiteRegistration* registration = nullptr;
};

// True for LceQuantize, LceBconv2d, LceDequantize and LceBMaxPool2d, which no runtime but LCE's own can run.
bool IsLceOp(const TfLiteRegistration& registration);

// Adds the node and its tensors to the graph. `tensor_ids` maps the runtime's tensor indices to the graph's (-1 where
// there is none yet) and grows the graph's tensors as needed.
// Returns a sentence where the node is not one that the compiler takes; then the graph may hold unused tensors.
std::string ReadNode(const TfLiteContext& context, const RuntimeNode& runtime_node, std::vector<int>* tensor_ids,
                     Graph* graph);

// The tensor's dimensions; false where the runtime holds none, too many, or sizes that are not positive.
bool ReadDims(const TfLiteTensor& tensor, std::vector<int>* dims);

}  // namespace bihrnet
