#include "tflite/region.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "compiler/compile.h"
#include "tflite/reader.h"

namespace bihrnet {
namespace {

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

size_t BytesOf(const Tensor& tensor, const std::vector<int>& dims) {
  size_t bytes = tensor.type == TensorType::kInt8 ? 1 : 4;
  for (const int size : dims) bytes *= static_cast<size_t>(size);
  return bytes;
}

const char* KindName(const Step& step) {
  switch (step.kind) {
    case StepKind::kLoad:
    case StepKind::kLoadBits:
      return "load";
    case StepKind::kLoadWords:
      return step.words.conv.runs.empty() && step.conv.offsets.empty() ? "load" : "conv";
    case StepKind::kBconv:
      return "bconv";
    case StepKind::kConv:
      return "conv";
    case StepKind::kDequantize:
    case StepKind::kRead:
      return "pointwise";
    case StepKind::kPool:
    case StepKind::kBinaryPool:
      return "pool";
    case StepKind::kResize:
      return "resize";
    case StepKind::kRegrid:
      return "regrid";
    case StepKind::kStore:
    case StepKind::kStoreBits:
      return "store";
  }
  return "";
}

std::string Quoted(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return quoted + '"';
}

template <typename... Values>
std::string Format(const char* format, Values... values) {
  char text[256];
  std::snprintf(text, sizeof(text), format, values...);
  return text;
}

const TfLiteTensor* TensorAt(const TfLiteContext& context, int index) {
  if (index < 0 || static_cast<size_t>(index) >= context.tensors_size || context.tensors == nullptr) return nullptr;
  return &context.tensors[index];
}

}  // namespace

std::shared_ptr<ThreadPool> Pools::Get(const TfLiteContext* interpreter, int threads) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::weak_ptr<ThreadPool>& known = pools_[interpreter];
  std::shared_ptr<ThreadPool> pool = known.lock();
  if (pool == nullptr || pool->threads() != threads) known = pool = std::make_shared<ThreadPool>(threads);
  return pool;
}

std::string ReadRegion(const TfLiteContext& context, const TfLiteDelegateParams& params, Graph* graph,
                       std::vector<int>* inputs, std::vector<int>* outputs) {
  std::vector<int> ids(context.tensors_size, -1);
  // The runtime's functions take a context that they may change; reading nodes does not.
  auto* mutable_context = const_cast<TfLiteContext*>(&context);
  for (int i = 0; i < params.nodes_to_replace->size; ++i) {
    TfLiteNode* node = nullptr;
    TfLiteRegistration* registration = nullptr;
    const int index = params.nodes_to_replace->data[i];
    if (context.GetNodeAndRegistration(mutable_context, index, &node, &registration) != kTfLiteOk) {
      return "node " + std::to_string(index) + " cannot be read.";
    }
    const std::string error = ReadNode(context, {node, registration}, &ids, graph);
    if (!error.empty()) return "node " + std::to_string(index) + " cannot be run: " + error + ".";
  }
  const auto use = [&](const TfLiteIntArray* tensors, std::vector<int>* runtime, std::vector<int>* ours) {
    for (int i = 0; tensors != nullptr && i < tensors->size; ++i) {
      const int index = tensors->data[i];
      const int id = TensorAt(context, index) != nullptr ? ids[static_cast<size_t>(index)] : -1;
      if (id < 0 || graph->tensors[static_cast<size_t>(id)].constant) continue;
      if (std::find(ours->begin(), ours->end(), id) != ours->end()) continue;
      runtime->push_back(index);
      ours->push_back(id);
    }
  };
  use(params.input_tensors, inputs, &graph->inputs);
  use(params.output_tensors, outputs, &graph->outputs);
  return "";
}

std::string Region::Build(const TfLiteContext& context, const TfLiteDelegateParams& params) {
  const std::string error = ReadRegion(context, params, &graph_, &inputs_, &outputs_);
  if (!error.empty()) return error;
  if (graph_.outputs.empty()) return "";  // nobody takes its results: there is nothing to do
  if (graph_.inputs.empty()) return "a region has no inputs.";
  // Every tensor must come from outside or from one earlier node.
  std::vector<bool> known(graph_.tensors.size(), false);
  for (size_t i = 0; i < known.size(); ++i) known[i] = graph_.tensors[i].constant;
  for (const int tensor : graph_.inputs) known[static_cast<size_t>(tensor)] = true;
  for (const Node& node : graph_.nodes) {
    for (const int input : node.inputs) {
      if (input >= 0 && !known[static_cast<size_t>(input)]) return node.name + " reads a tensor that nothing writes.";
    }
    for (const int output : node.outputs) {
      if (known[static_cast<size_t>(output)]) return node.name + " is written twice.";
      known[static_cast<size_t>(output)] = true;
    }
  }
  for (const int output : graph_.outputs) {
    if (!known[static_cast<size_t>(output)]) return "a region's output is written by no node.";
  }
  return "";
}

std::string Region::Prepare(TfLiteContext* context) {
  if (graph_.outputs.empty()) return "";
  std::vector<std::vector<int>> dims(inputs_.size());
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const TfLiteTensor* tensor = TensorAt(*context, inputs_[i]);
    if (tensor == nullptr || !ReadDims(*tensor, &dims[i])) return "an input of a region has no usable shape.";
  }
  const int wanted = options_.threads > 0 ? options_.threads : context->recommended_num_threads;
  const int threads = std::clamp(wanted, 1, 64);
  if (pool_ == nullptr || pool_->threads() != threads) {
    executor_.reset();
    pool_ = pools_.Get(context, threads);
  }
  if (executor_ == nullptr || dims != input_dims_) {
    executor_.reset();
    Program program;
    const std::string error = Compile(graph_, dims, &program);
    if (!error.empty()) return error;
    auto executor =
        std::make_unique<Executor>(std::move(program), *options_.kernels, *pool_, !options_.profile.empty());
    if (!executor->Allocate()) return "there is not enough memory for a region's tensors; use smaller inputs.";
    executor_ = std::move(executor);
    input_dims_ = dims;
    if (options_.verbose) {
      const Program& made = executor_->program();
      std::fprintf(
          stderr,
          "bihrnet_lce: %zu nodes in %zu steps, %d levels, %.1f MB of tensors, %.1f MB of weights, %s, %d threads\n",
          graph_.nodes.size(), made.steps.size(), made.levels, 1e-6 * static_cast<double>(made.arena_bytes),
          1e-6 * static_cast<double>(made.weight_bytes), options_.kernels->name, threads);
    }
    first_ticks_ = Ticks();
    first_seconds_ = Seconds();
  }
  const std::vector<std::vector<int>>& output_dims = executor_->program().output_dims;
  for (size_t i = 0; i < outputs_.size(); ++i) {
    // The runtime frees what it is given.
    const size_t count = output_dims[i].size();
    auto* size = static_cast<TfLiteIntArray*>(std::malloc(sizeof(int) * (count + 1)));
    if (size == nullptr) return "there is not enough memory.";
    size->size = static_cast<int>(count);
    std::copy(output_dims[i].begin(), output_dims[i].end(), size->data);
    if (context->ResizeTensor(context, &context->tensors[outputs_[i]], size) != kTfLiteOk) {
      return "an output of a region cannot be resized.";
    }
  }
  return "";
}

std::string Region::Invoke(const TfLiteContext& context) {
  if (graph_.outputs.empty()) return "";
  if (executor_ == nullptr) return "the tensors of a region were not allocated.";
  std::vector<const void*> inputs;
  std::vector<void*> outputs;
  const auto collect = [&](const std::vector<int>& runtime, const std::vector<int>& graph,
                           const std::vector<std::vector<int>>& dims, auto* list) {
    for (size_t i = 0; i < runtime.size(); ++i) {
      const TfLiteTensor* tensor = TensorAt(context, runtime[i]);
      const size_t bytes = BytesOf(graph_.tensors[static_cast<size_t>(graph[i])], dims[i]);
      if (tensor == nullptr || tensor->data == nullptr || tensor->bytes < bytes) return false;
      list->push_back(tensor->data);
    }
    return true;
  };
  if (!collect(inputs_, graph_.inputs, input_dims_, &inputs) ||
      !collect(outputs_, graph_.outputs, executor_->program().output_dims, &outputs)) {
    return "a tensor of a region is not allocated in its size.";
  }
  executor_->Run(inputs, outputs);
  return "";
}

std::string Region::Profile() const {
  if (executor_ == nullptr || executor_->runs() == 0) return "";
  const Program& program = executor_->program();
  const double ticks_a_second = static_cast<double>(Ticks() - first_ticks_) / (Seconds() - first_seconds_);
  const auto runs = static_cast<double>(executor_->runs());
  const auto microseconds = [&](uint64_t ticks, int threads) {
    return 1e6 * static_cast<double>(ticks) / ticks_a_second / runs / threads;
  };
  std::string json =
      Format("{\"nodes\":%zu,\"arena_bytes\":%zu,\"weight_bytes\":%zu,\"runs\":%llu,\"microseconds\":%.3f",
             graph_.nodes.size(), program.arena_bytes, program.weight_bytes,
             static_cast<unsigned long long>(executor_->runs()), microseconds(executor_->ticks(), 1));
  json += ",\"steps\":[";
  const std::vector<StepTime> times = executor_->StepTimes();
  const std::vector<uint64_t> scales = executor_->ScaleTicks();
  for (size_t i = 0; i < times.size(); ++i) {
    const Step& step = program.steps[i];
    const Geometry& geometry = program.geometries[static_cast<size_t>(step.geometry)];
    json += (i == 0 ? "" : ",") + std::string("{\"name\":") + Quoted(step.name) + ",\"kind\":\"" + KindName(step) +
            Format(
                "\",\"channels\":%d,\"height\":%d,\"width\":%d,\"macs\":%lld,\"microseconds\":%.3f,"
                "\"bconv_microseconds\":%.3f,\"scale_microseconds\":%.3f}",
                step.channels, geometry.height, geometry.width, static_cast<long long>(step.macs),
                microseconds(times[i].ticks, pool_->threads()), microseconds(times[i].bconv_ticks, pool_->threads()),
                microseconds(scales[i] * executor_->runs(), pool_->threads()));
  }
  return json + "]}";
}

}  // namespace bihrnet
