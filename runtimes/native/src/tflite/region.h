// One region of an interpreter's graph: built once, compiled for each size of its inputs, run for each inference.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "runtime/executor.h"
#include "tflite/abi.h"
#include "tflite/options.h"

namespace bihrnet {

class Region {
 public:
  explicit Region(const Options& options) : options_(options) {}

  // Each returns an empty string or a sentence.
  std::string Build(const TfLiteContext& context, const TfLiteDelegateParams& params);
  std::string Prepare(TfLiteContext* context);
  std::string Invoke(const TfLiteContext& context);

  // A JSON object of the times of every step, without a newline; empty where nothing ran.
  std::string Profile() const;

 private:
  const Options& options_;
  Graph graph_;
  std::vector<int> inputs_;  // the runtime's tensors behind graph_.inputs and graph_.outputs
  std::vector<int> outputs_;
  std::vector<std::vector<int>> input_dims_;  // that the executor was compiled for
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Executor> executor_;
  uint64_t first_ticks_ = 0;
  double first_seconds_ = 0.0;
};

}  // namespace bihrnet
