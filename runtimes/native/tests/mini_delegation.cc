// What the test runtime does for delegates: showing them the graph, and putting their nodes in place of the claimed
// ones.
#include <algorithm>
#include <cstring>
#include <new>

#include "mini_runtime.h"

namespace mini {
namespace {

constexpr int kBefore = -1;    // a tensor that no node computes
constexpr int kMissing = -2;   // one that is not computed yet
constexpr int kOptional = -1;  // an input left out

std::vector<int> Values(const TfLiteIntArray* array) { return {array->data, array->data + array->size}; }

void SortUnique(std::vector<int>* values) {
  std::sort(values->begin(), values->end());
  values->erase(std::unique(values->begin(), values->end()), values->end());
}

TfLiteDelegateParams MakeParams(TfLiteDelegate* delegate, const std::vector<int>& nodes, const std::vector<int>& inputs,
                                const std::vector<int>& outputs) {
  return {delegate, NewIntArray(nodes), NewIntArray(inputs), NewIntArray(outputs)};
}

template <typename T>
T* Move(T* block) {
  auto* moved = static_cast<T*>(std::malloc(sizeof(T)));
  if (!moved) throw std::bad_alloc();
  std::memcpy(static_cast<void*>(moved), block, sizeof(T));
  std::free(block);
  return moved;
}

}  // namespace

bool Interpreter::Apply(TfLiteDelegate* delegate) {
  if (!(delegate->flags & kTfLiteDelegateFlagsAllowDynamicTensors)) {
    // The real runtime then prepares every node first, and fails at the custom operators that nobody has resolved.
    Report("the delegate does not allow dynamic tensors");
    return false;
  }
  const std::vector<int> plan = plan_;
  const size_t nodes = steps_.size();
  state_ = State::kNew;
  delegating_ = true;
  const TfLiteStatus status = delegate->Prepare(context_.get(), delegate);
  delegating_ = false;
  plan_shown_.reset();
  FreePreview();
  if (status == kTfLiteOk) return true;
  Report("the delegate failed");
  plan_ = plan;
  for (size_t i = nodes; i < steps_.size(); ++i) FreeNode(steps_[i]);
  steps_.resize(nodes);
  for (size_t i = 0; i < context_->tensors_size; ++i) {
    if (tensors()[i].delegate == delegate) tensors()[i].delegate = nullptr;
  }
  return false;
}

size_t Interpreter::delegate_nodes() const {
  return static_cast<size_t>(
      std::count_if(plan_.begin(), plan_.end(), [this](int index) { return !steps_[index].from_model; }));
}

TfLiteStatus Interpreter::GetExecutionPlan(TfLiteContext* context, TfLiteIntArray** plan) {
  Interpreter& self = Of(context);
  if (!self.delegating_) {
    self.Report("GetExecutionPlan is for a delegate's Prepare");
    return kTfLiteError;
  }
  self.plan_shown_.reset(NewIntArray(self.plan_));
  *plan = static_cast<TfLiteIntArray*>(self.plan_shown_.get());
  return kTfLiteOk;
}

TfLiteStatus Interpreter::GetNode(TfLiteContext* context, int index, TfLiteNode** node,
                                  TfLiteRegistration** registration) {
  Interpreter& self = Of(context);
  if (!self.delegating_ || index < 0 || static_cast<size_t>(index) >= self.steps_.size()) {
    self.Report("GetNodeAndRegistration is for a delegate's Prepare, and for nodes that are there");
    return kTfLiteError;
  }
  *node = self.steps_[index].node;
  *registration = self.steps_[index].registration;
  return kTfLiteOk;
}

bool Interpreter::Claimable(const TfLiteIntArray* nodes) {
  for (int i = 0; i < nodes->size; ++i) {
    if (std::find(plan_.begin(), plan_.end(), nodes->data[i]) != plan_.end()) continue;
    Report("a delegate claims a node that is not in the plan");
    return false;
  }
  return true;
}

// Rounds over the plan. Each takes one kind of node, claimed or not, as far as its inputs are computed: that is a
// subset.
std::vector<Interpreter::Subset> Interpreter::Partition(const std::vector<int>& claimed) const {
  std::vector<int> computed_by(context_->tensors_size, kBefore);
  for (const int index : plan_) {
    for (const int tensor : Values(steps_[index].node->outputs)) computed_by[tensor] = kMissing;
  }
  std::vector<bool> is_claimed(steps_.size(), false);
  for (const int index : claimed) is_claimed[index] = true;
  std::vector<bool> done(steps_.size(), false);
  std::vector<Subset> subsets;
  const auto take = [&](int index) {
    const std::vector<int> inputs = Values(steps_[index].node->inputs);
    Subset& subset = subsets.back();
    const int round = static_cast<int>(subsets.size()) - 1;
    const bool ready = std::all_of(inputs.begin(), inputs.end(),
                                   [&](int tensor) { return tensor == kOptional || computed_by[tensor] != kMissing; });
    if (done[index] || !ready || (!subset.nodes.empty() && subset.claimed != is_claimed[index])) return false;
    done[index] = true;
    subset.claimed = is_claimed[index];
    subset.nodes.push_back(index);
    for (const int tensor : Values(steps_[index].node->outputs)) computed_by[tensor] = round;
    for (const int tensor : inputs) {
      if (tensor == kOptional || computed_by[tensor] == round) continue;
      subset.inputs.push_back(tensor);
      if (computed_by[tensor] >= 0) subsets[computed_by[tensor]].outputs.push_back(tensor);
    }
    return true;
  };
  for (bool any = true; any;) {
    subsets.emplace_back();
    for (bool more = true; more;) {
      more = false;
      for (const int index : plan_) more |= take(index);
    }
    any = !subsets.back().nodes.empty();
  }
  subsets.pop_back();
  for (const int tensor : outputs_) {
    if (computed_by[tensor] >= 0) subsets[computed_by[tensor]].outputs.push_back(tensor);
  }
  for (Subset& subset : subsets) {
    SortUnique(&subset.inputs);
    SortUnique(&subset.outputs);
  }
  return subsets;
}

TfLiteStatus Interpreter::Preview(TfLiteContext* context, const TfLiteIntArray* nodes,
                                  TfLiteDelegateParams** partitions, int* count) {
  Interpreter& self = Of(context);
  if (!self.delegating_ || !self.Claimable(nodes)) return kTfLiteError;
  self.FreePreview();
  std::vector<TfLiteDelegateParams> params;
  for (const Subset& subset : self.Partition(Values(nodes))) {
    if (subset.claimed) params.push_back(MakeParams(nullptr, subset.nodes, subset.inputs, subset.outputs));
  }
  const size_t bytes = params.size() * sizeof(TfLiteDelegateParams);
  self.preview_ = static_cast<TfLiteDelegateParams*>(std::malloc(bytes));
  self.preview_size_ = params.size();
  if (bytes) std::memcpy(self.preview_, params.data(), bytes);
  *partitions = self.preview_;
  *count = static_cast<int>(params.size());
  return kTfLiteOk;
}

void Interpreter::FreePreview() {
  for (size_t i = 0; i < preview_size_; ++i) {
    std::free(preview_[i].nodes_to_replace);
    std::free(preview_[i].input_tensors);
    std::free(preview_[i].output_tensors);
  }
  std::free(preview_);
  preview_ = nullptr;
  preview_size_ = 0;
}

TfLiteStatus Interpreter::Replace(TfLiteContext* context, TfLiteRegistration registration, const TfLiteIntArray* nodes,
                                  TfLiteDelegate* delegate) {
  Interpreter& self = Of(context);
  if (!self.delegating_ || !self.Claimable(nodes)) return kTfLiteError;
  if (nodes->size == 0) return kTfLiteOk;
  registration.builtin_code = bihrnet::kOpDelegate;
  const std::vector<Subset> subsets = self.Partition(Values(nodes));
  self.plan_.clear();
  for (const Subset& subset : subsets) {
    if (!subset.claimed) {
      self.plan_.insert(self.plan_.end(), subset.nodes.begin(), subset.nodes.end());
    } else if (!self.AddDelegateNode(registration, subset, delegate)) {
      return kTfLiteError;
    }
  }
  return kTfLiteOk;
}

bool Interpreter::AddDelegateNode(const TfLiteRegistration& registration, const Subset& subset,
                                  TfLiteDelegate* delegate) {
  for (const int tensor : subset.outputs) {
    if (std::binary_search(subset.inputs.begin(), subset.inputs.end(), tensor)) {
      Report("a partition writes its own input");
      return false;
    }
  }
  auto* params = static_cast<TfLiteDelegateParams*>(std::malloc(sizeof(TfLiteDelegateParams)));
  *params = MakeParams(delegate, subset.nodes, subset.inputs, subset.outputs);
  const TfLiteNode node = {NewIntArray(subset.inputs),
                           NewIntArray(subset.outputs),
                           NewIntArray({}),
                           NewIntArray({}),
                           nullptr,
                           params,
                           nullptr,
                           0,
                           delegate,
                           false};
  Step step = {static_cast<TfLiteNode*>(std::malloc(sizeof node)),
               static_cast<TfLiteRegistration*>(std::malloc(sizeof registration)), false};
  *step.node = node;
  *step.registration = registration;
  const size_t index = steps_.size();
  steps_.push_back(step);
  plan_.push_back(static_cast<int>(index));
  MoveNodes();
  if (registration.init) {
    // No reference into steps_ across the call: the delegate may well call back.
    void* state = registration.init(context_.get(), reinterpret_cast<const char*>(params), 0);
    steps_[index].node->user_data = state;
  }
  for (const int tensor : subset.outputs) tensors()[tensor].delegate = delegate;
  return true;
}

// Nodes of the real runtime lie in a growing vector: adding one moves all.
void Interpreter::MoveNodes() {
  for (Step& step : steps_) {
    step.node = Move(step.node);
    step.registration = Move(step.registration);
  }
}

}  // namespace mini
