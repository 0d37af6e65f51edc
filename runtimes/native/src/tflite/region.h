// One region of an interpreter's graph: built once, compiled for each size of its inputs, run for each inference.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "runtime/executor.h"
#include "tflite/abi.h"
#include "tflite/options.h"

namespace bihrnet {

// The threads of interpreters, shared by the regions of each: these run one after the other.
class Pools {
 public:
  std::shared_ptr<ThreadPool> Get(const TfLiteContext* interpreter, int threads);

 private:
  std::mutex mutex_;
  std::map<const TfLiteContext*, std::weak_ptr<ThreadPool>> pools_;
};

// A partition's graph, with the runtime's tensors behind its inputs and outputs. Returns an empty string or a sentence.
std::string ReadRegion(const TfLiteContext& context, const TfLiteDelegateParams& params, Graph* graph,
                       std::vector<int>* inputs, std::vector<int>* outputs);

class Region {
 public:
  Region(const Options& options, Pools& pools) : options_(options), pools_(pools) {}

  // Each returns an empty string or a sentence.
  std::string Build(const TfLiteContext& context, const TfLiteDelegateParams& params);
  std::string Prepare(TfLiteContext* context);
  std::string Invoke(const TfLiteContext& context);

  // A JSON object of the times of every step, without a newline; empty where nothing ran.
  std::string Profile() const;
  int threads() const { return pool_ != nullptr ? pool_->threads() : 0; }

 private:
  const Options& options_;
  Pools& pools_;
  Graph graph_;
  std::vector<int> inputs_;  // the runtime's tensors behind graph_.inputs and graph_.outputs
  std::vector<int> outputs_;
  std::vector<std::vector<int>> input_dims_;  // that the executor was compiled for
  std::shared_ptr<ThreadPool> pool_;
  std::unique_ptr<Executor> executor_;
  uint64_t first_ticks_ = 0;
  double first_seconds_ = 0.0;
};

}  // namespace bihrnet
