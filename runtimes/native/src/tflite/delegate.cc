// The delegate itself: what it claims of a graph, and the C entry points.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bihrnet_lce.h"
#include "compiler/exact_conv.h"
#include "graph/graph.h"
#include "tflite/abi.h"
#include "tflite/options.h"
#include "tflite/reader.h"
#include "tflite/region.h"

namespace bihrnet {
namespace {

constexpr size_t kMaxTensors = size_t{1} << 24;

struct Delegate {
  TfLiteDelegate base{};  // first: the runtime's pointer is this object's
  Options options;
  Pools pools;
  std::mutex profile_mutex;
  std::vector<std::string> profiles;  // of regions that are gone; guarded by profile_mutex
};

Delegate* Of(TfLiteDelegate* delegate) { return static_cast<Delegate*>(delegate->data_); }

TfLiteStatus Report(TfLiteContext* context, const std::string& sentence) {
  if (sentence.empty()) return kTfLiteOk;
  context->ReportError(context, "bihrnet_lce: %s", sentence.c_str());
  return kTfLiteError;
}

// Nothing may be thrown into the runtime: what is, is reported as a sentence.
template <typename F>
TfLiteStatus Guarded(TfLiteContext* context, F f) {
  try {
    return Report(context, f());
  } catch (const std::bad_alloc&) {
    return Report(context, "there is not enough memory.");
  } catch (const std::exception& error) {
    return Report(context, std::string("it failed: ") + error.what() + ".");
  }
}

// A region of the interpreter, or why it could not be built: the runtime asks for neither before it prepares.
struct Kernel {
  std::unique_ptr<Region> region;
  std::string error;
  Delegate* delegate = nullptr;
};

void WriteProfile(Delegate* delegate, const std::string& region, int threads) {
  const std::lock_guard<std::mutex> lock(delegate->profile_mutex);
  delegate->profiles.push_back(region);
  // Written beside its place and renamed, so that a reader never meets half of it.
  const std::string partial = delegate->options.profile + ".part";
  std::FILE* file = std::fopen(partial.c_str(), "w");
  bool written = file != nullptr;
  if (written) {
    std::string json = std::string("{\"version\":2,\"kernel\":\"") + delegate->options.kernels->name +
                       "\",\"threads\":" + std::to_string(threads) + ",\"regions\":[";
    for (size_t i = 0; i < delegate->profiles.size(); ++i) json += (i == 0 ? "" : ",") + delegate->profiles[i];
    json += "]}\n";
    written = std::fwrite(json.data(), 1, json.size(), file) == json.size();
    written = std::fclose(file) == 0 && written;
  }
  if (!written || std::rename(partial.c_str(), delegate->options.profile.c_str()) != 0) {
    std::fprintf(stderr, "bihrnet_lce: the profile cannot be written to %s.\n", delegate->options.profile.c_str());
  }
}

void* InitKernel(TfLiteContext* context, const char* buffer, size_t) {
  const auto* params = reinterpret_cast<const TfLiteDelegateParams*>(buffer);
  auto* kernel = new (std::nothrow) Kernel;
  if (kernel == nullptr || params == nullptr) return kernel;
  try {
    kernel->delegate = Of(params->delegate);
    kernel->region = std::make_unique<Region>(kernel->delegate->options, kernel->delegate->pools);
    kernel->error = kernel->region->Build(*context, *params);
  } catch (const std::exception&) {
    kernel->region.reset();
  }
  return kernel;
}

void FreeKernel(TfLiteContext*, void* data) {
  std::unique_ptr<Kernel> kernel(static_cast<Kernel*>(data));
  if (kernel == nullptr || kernel->region == nullptr || kernel->delegate->options.profile.empty()) return;
  try {
    const std::string profile = kernel->region->Profile();
    if (!profile.empty()) WriteProfile(kernel->delegate, profile, kernel->region->threads());
  } catch (const std::exception&) {
    std::fputs("bihrnet_lce: there is not enough memory for the profile.\n", stderr);
  }
}

TfLiteStatus PrepareKernel(TfLiteContext* context, TfLiteNode* node) {
  auto* kernel = static_cast<Kernel*>(node->user_data);
  return Guarded(context, [&]() -> std::string {
    if (kernel == nullptr || kernel->region == nullptr) return "there is not enough memory.";
    if (!kernel->error.empty()) return kernel->error;
    return kernel->region->Prepare(context);
  });
}

TfLiteStatus InvokeKernel(TfLiteContext* context, TfLiteNode* node) {
  auto* kernel = static_cast<Kernel*>(node->user_data);
  return Guarded(context, [&]() -> std::string {
    if (kernel == nullptr || kernel->region == nullptr) return "there is not enough memory.";
    return kernel->region->Invoke(*context);
  });
}

// A list of nodes as the runtime takes it.
class IntArray {
 public:
  explicit IntArray(const std::vector<int>& values) : storage_(values) {
    storage_.insert(storage_.begin(), static_cast<int>(values.size()));
  }
  const TfLiteIntArray* get() const { return reinterpret_cast<const TfLiteIntArray*>(storage_.data()); }

 private:
  std::vector<int> storage_;
};

// A sentence where what the runtime handed over does not look like the structures of abi.h.
std::string CheckAbi(const TfLiteContext* context) {
  const bool callable = context->GetExecutionPlan != nullptr && context->GetNodeAndRegistration != nullptr &&
                        context->ReplaceNodeSubsetsWithDelegateKernels != nullptr && context->ResizeTensor != nullptr;
  if (!callable || context->tensors_size > kMaxTensors || (context->tensors_size > 0 && context->tensors == nullptr)) {
    return "this TFLite runtime is laid out in another way than any known one; use ai-edge-litert 1.4 to 2.3.";
  }
  for (size_t i = 0; i < context->tensors_size; ++i) {
    const TfLiteTensor& tensor = context->tensors[i];
    const bool plausible = tensor.type >= 0 && tensor.type < 64 && tensor.allocation_type >= 0 &&
                           tensor.allocation_type < 16 &&
                           (tensor.dims == nullptr || (tensor.dims->size >= 0 && tensor.dims->size <= 64));
    if (!plausible) return "this TFLite runtime's tensors are laid out in another way than any known one's.";
  }
  return "";
}

// Takes the graph's last node off again where it is a convolution that the delegate certainly cannot compute. Of the
// others, partitions decide: there it is seen who else reads what stands before a convolution or behind it.
bool MayTakeLast(const TfLiteContext& context, Graph* graph) {
  if (graph->nodes.back().op != Op::kConv) return true;
  const int last = static_cast<int>(graph->nodes.size()) - 1;
  ExactConv found;
  const bool may = context.PreviewDelegatePartitioning != nullptr &&
                   (FindExactConv(*graph, last, &found) || found.image >= 0 || IsImageConv(*graph, last));
  if (!may) graph->nodes.pop_back();
  return may;
}

// The partition's float convolutions that cannot be computed in it: with all readers of their tensors in view, and
// without what another partition makes. One that follows such a convolution waits for what is left without that.
std::vector<int> InexactConvs(const TfLiteContext& context, const TfLiteDelegateParams& partition) {
  Graph graph;
  std::vector<int> inputs, outputs, inexact;
  if (!ReadRegion(context, partition, &graph, &inputs, &outputs).empty()) return {};  // to be said when it is built
  std::vector<bool> taken(graph.nodes.size(), false), left(graph.nodes.size(), false);
  std::vector<int> behind(graph.nodes.size(), -1);  // the convolution that stands against this one
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    if (graph.nodes[i].op != Op::kConv) continue;
    ExactConv found;
    const int node = static_cast<int>(i);
    taken[i] = FindExactConv(graph, node, &found);
    if (taken[i] && found.image >= 0) taken[static_cast<size_t>(found.image)] = true;
    behind[i] = found.image >= 0 ? found.image : WriterBefore(graph, node, graph.nodes[i].inputs[0]);
  }
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    if (graph.nodes[i].op != Op::kConv || taken[i]) continue;
    left[i] = true;
    if (behind[i] < 0 || !left[static_cast<size_t>(behind[i])]) {
      inexact.push_back(partition.nodes_to_replace->data[i]);
    }
  }
  return inexact;
}

// Keeps of the claimed nodes those whose partition has one of LCE's operators: only there are built-in ones worth
// taking along. A float convolution that a partition cannot compute is left to the runtime, and then partitions are
// others.
std::string Partition(TfLiteContext* context, const std::vector<int>& lce_nodes, bool has_convs,
                      std::vector<int>* claimed) {
  if (context->PreviewDelegatePartitioning == nullptr) return "";
  for (;;) {
    TfLiteDelegateParams* partitions = nullptr;
    int count = 0;
    if (context->PreviewDelegatePartitioning(context, IntArray(*claimed).get(), &partitions, &count) != kTfLiteOk) {
      return "the graph cannot be divided.";
    }
    std::vector<int> kept, dropped;
    for (int i = 0; i < count; ++i) {
      const TfLiteIntArray* nodes = partitions[i].nodes_to_replace;
      const std::vector<int> list(nodes->data, nodes->data + nodes->size);
      bool has_lce = false;
      for (const int index : list) {
        for (const int lce : lce_nodes) has_lce = has_lce || index == lce;
      }
      if (!has_lce) continue;
      kept.insert(kept.end(), list.begin(), list.end());
      if (!has_convs) continue;
      const std::vector<int> inexact = InexactConvs(*context, partitions[i]);
      dropped.insert(dropped.end(), inexact.begin(), inexact.end());
    }
    if (dropped.empty()) {
      *claimed = kept;
      return "";
    }
    const auto is_dropped = [&](int index) {
      return std::find(dropped.begin(), dropped.end(), index) != dropped.end();
    };
    claimed->erase(std::remove_if(claimed->begin(), claimed->end(), is_dropped), claimed->end());
  }
}

std::string Claim(TfLiteContext* context, TfLiteDelegate* base) {
  std::string error = CheckAbi(context);
  if (!error.empty()) return error;
  TfLiteIntArray* plan = nullptr;
  if (context->GetExecutionPlan(context, &plan) != kTfLiteOk || plan == nullptr) return "the graph cannot be read.";
  const std::vector<int> order(plan->data, plan->data + plan->size);
  std::vector<int> claimed;
  std::vector<int> lce_nodes;
  Graph graph;
  std::vector<int> ids(context->tensors_size, -1);
  for (const int index : order) {
    TfLiteNode* node = nullptr;
    TfLiteRegistration* registration = nullptr;
    if (context->GetNodeAndRegistration(context, index, &node, &registration) != kTfLiteOk || node == nullptr ||
        registration == nullptr) {
      return "node " + std::to_string(index) + " cannot be read.";
    }
    const std::string why = ReadNode(*context, {node, registration}, &ids, &graph);
    const bool lce = IsLceOp(*registration);
    if (!why.empty() && lce) {
      return std::string(registration->custom_name) + " (node " + std::to_string(index) + ") cannot be run: " + why +
             ".";
    }
    if (!why.empty()) continue;
    if (!MayTakeLast(*context, &graph)) continue;
    claimed.push_back(index);
    if (lce) lce_nodes.push_back(index);
  }
  if (lce_nodes.empty()) return "";
  const bool has_convs =
      std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) { return node.op == Op::kConv; });
  error = Partition(context, lce_nodes, has_convs, &claimed);
  if (!error.empty()) return error;
  TfLiteRegistration registration{};
  registration.init = InitKernel;
  registration.free = FreeKernel;
  registration.prepare = PrepareKernel;
  registration.invoke = InvokeKernel;
  registration.builtin_code = kOpDelegate;
  registration.custom_name = "BihrnetLce";
  registration.version = 1;
  if (context->ReplaceNodeSubsetsWithDelegateKernels(context, registration, IntArray(claimed).get(), base) !=
      kTfLiteOk) {
    return "the runtime did not hand its nodes over.";
  }
  return "";
}

TfLiteStatus PrepareDelegate(TfLiteContext* context, TfLiteDelegate* delegate) {
  if (context == nullptr || delegate == nullptr || context->ReportError == nullptr) return kTfLiteError;
  return Guarded(context, [&] { return Claim(context, delegate); });
}

template <typename Read>
TfLiteDelegate* Create(void (*report_error)(const char*), Read read) {
  std::string error;
  try {
    auto delegate = std::make_unique<Delegate>();
    error = read(&delegate->options);
    if (error.empty()) {
      delegate->base.data_ = delegate.get();
      delegate->base.Prepare = PrepareDelegate;
      // Else the runtime prepares LCE's operators, which it does not have, before it asks the delegate.
      delegate->base.flags = kTfLiteDelegateFlagsAllowDynamicTensors;
      return &delegate.release()->base;
    }
  } catch (const std::exception&) {
    error = "there is not enough memory.";
  }
  if (report_error != nullptr) report_error(("bihrnet_lce: " + error).c_str());
  return nullptr;
}

}  // namespace
}  // namespace bihrnet

extern "C" {

BihrnetLceOptions bihrnet_lce_options_default(void) { return {0, nullptr, nullptr, 0}; }

TfLiteDelegate* bihrnet_lce_delegate_create(const BihrnetLceOptions* options, void (*report_error)(const char*)) {
  const BihrnetLceOptions given = options != nullptr ? *options : bihrnet_lce_options_default();
  return bihrnet::Create(report_error, [&](bihrnet::Options* read) { return bihrnet::ReadOptions(given, read); });
}

void bihrnet_lce_delegate_destroy(TfLiteDelegate* delegate) {
  if (delegate != nullptr) delete bihrnet::Of(delegate);
}

const char* bihrnet_lce_version(void) {
  static const std::string version = std::string(BIHRNET_VERSION) + " " + bihrnet::SelectKernels("")->name;
  return version.c_str();
}

TfLiteDelegate* tflite_plugin_create_delegate(char** keys, char** values, size_t count,
                                              void (*report_error)(const char*)) {
  return bihrnet::Create(report_error,
                         [&](bihrnet::Options* read) { return bihrnet::ReadOptions(keys, values, count, read); });
}

void tflite_plugin_destroy_delegate(TfLiteDelegate* delegate) { bihrnet_lce_delegate_destroy(delegate); }

}  // extern "C"
