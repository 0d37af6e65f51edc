#include "mini_runtime.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <functional>
#include <new>
#include <string_view>

#include "mini_ops.h"

namespace mini {
namespace {

void* Exactly(size_t bytes) {
  void* block = std::malloc(bytes);
  if (!block) throw std::bad_alloc();
  return block;
}

template <typename T>
T* NewZeroed() {
  return static_cast<T*>(std::memset(Exactly(sizeof(T)), 0, sizeof(T)));
}

// TFLite's TfLiteAffineQuantization and the array in it.
struct FloatArray {
  int size;
  float data[1];
};
struct AffineQuantization {
  FloatArray* scale;
  TfLiteIntArray* zero_point;
  int32_t quantized_dimension;
};
constexpr int kAffine = 1;

void SetQuantization(const ModelTensor& source, TfLiteTensor* tensor) {
  if (source.scale.empty()) return;
  auto* affine = NewZeroed<AffineQuantization>();
  affine->scale = static_cast<FloatArray*>(Exactly(sizeof(int) + source.scale.size() * sizeof(float)));
  affine->scale->size = static_cast<int>(source.scale.size());
  std::memcpy(affine->scale->data, source.scale.data(), source.scale.size() * sizeof(float));
  affine->zero_point = NewIntArray(source.zero_point);
  affine->quantized_dimension = source.quantized_dimension;
  tensor->quantization = {kAffine, affine};
  if (source.scale.size() == 1) tensor->params = {source.scale[0], source.zero_point[0]};
}

}  // namespace

TfLiteIntArray* NewIntArray(const std::vector<int>& values) {
  auto* array = static_cast<TfLiteIntArray*>(Exactly(sizeof(int) * (values.size() + 1)));
  array->size = static_cast<int>(values.size());
  if (!values.empty()) std::memcpy(array->data, values.data(), values.size() * sizeof(int));
  return array;
}

void Interpreter::SetUpContext(int threads) {
  context_.reset(NewZeroed<TfLiteContext>());
  TfLiteContext& context = *context_;
  context.impl_ = this;
  context.recommended_num_threads = threads;
  context.GetExecutionPlan = GetExecutionPlan;
  context.GetNodeAndRegistration = GetNode;
  context.ReplaceNodeSubsetsWithDelegateKernels = Replace;
  context.PreviewDelegatePartitioning = Preview;
  context.ResizeTensor = ResizeTensor;
  context.ResizeTensorExplicit = ResizeTensorExplicit;
  context.AddTensors = AddTensors;
  context.ReportError = ReportError;
  context.GetExternalContext = [](TfLiteContext*, int) -> void* { return nullptr; };
  context.SetExternalContext = [](TfLiteContext*, int, void*) {};
}

Interpreter::Interpreter(const Model& model, int threads, Limits limits)
    : limits_(limits), inputs_(model.inputs), outputs_(model.outputs) {
  SetUpContext(threads);
  const size_t count = model.tensors.size();
  context_->tensors = static_cast<TfLiteTensor*>(Exactly(count * sizeof(TfLiteTensor)));
  std::memset(static_cast<void*>(context_->tensors), 0, count * sizeof(TfLiteTensor));
  try {
    for (const ModelTensor& tensor : model.tensors) AddTensor(tensor, &tensors()[context_->tensors_size++]);
    for (const ModelOperator& op : model.operators) AddNode(op);
    constants_ = HashConstants();
  } catch (...) {
    Clear();
    throw;
  }
}

Interpreter::~Interpreter() { Clear(); }

void Interpreter::Clear() {
  FreePreview();
  for (const Step& step : steps_) FreeNode(step);
  for (size_t i = 0; i < context_->tensors_size; ++i) FreeTensor(&tensors()[i]);
  std::free(context_->tensors);
}

void Interpreter::AddTensor(const ModelTensor& source, TfLiteTensor* tensor) {
  tensor->type = source.type;
  tensor->dims = NewIntArray(source.dims);
  tensor->dims_signature = NewIntArray(source.signature);
  tensor->buffer_handle = -1;
  tensor->is_variable = source.is_variable;
  tensor->allocation_type = source.is_variable ? kTfLiteArenaRwPersistent : kTfLiteArenaRw;
  tensor->bytes =
      source.data.size ? source.data.size : TensorBytes(source.type, source.dims.data(), source.dims.size());
  auto* name = static_cast<char*>(Exactly(source.name.size() + 1));
  std::memcpy(name, source.name.c_str(), source.name.size() + 1);
  tensor->name = name;
  if (source.is_sparse) tensor->sparsity = Exactly(1);
  SetQuantization(source, tensor);
  if (source.data.size) {
    tensor->allocation_type = kTfLiteMmapRo;
    tensor->data = Charge(source.data.size);
    std::memcpy(tensor->data, source.data.data, source.data.size);
  }
}

void Interpreter::AddNode(const ModelOperator& source) {
  steps_.push_back({NewZeroed<TfLiteNode>(), nullptr, true});
  Step& step = steps_.back();
  step.registration = NewZeroed<TfLiteRegistration>();
  step.node->inputs = NewIntArray(source.inputs);
  step.node->outputs = NewIntArray(source.outputs);
  step.node->intermediates = NewIntArray({});
  step.node->temporaries = NewIntArray({});
  step.registration->builtin_code = source.builtin;
  step.registration->version = source.version;
  SetReference(source.builtin, step.registration);
  if (source.builtin == bihrnet::kOpCustom) {
    auto* name = static_cast<char*>(Exactly(source.custom.size() + 1));
    std::memcpy(name, source.custom.c_str(), source.custom.size() + 1);
    step.registration->custom_name = name;
  }
  if (source.has_options) {
    void* options = Exactly(source.options.size);
    if (source.options.size) std::memcpy(options, source.options.data, source.options.size);
    step.node->custom_initial_data = options;
    step.node->custom_initial_data_size = static_cast<int>(source.options.size);
  }
  if (!source.builtin_data.empty()) {
    step.node->builtin_data = Exactly(source.builtin_data.size());
    std::memcpy(step.node->builtin_data, source.builtin_data.data(), source.builtin_data.size());
  }
  plan_.push_back(static_cast<int>(steps_.size()) - 1);
}

void Interpreter::FreeNode(const Step& step) {
  if (!step.node) return;
  std::free(step.node->inputs);
  std::free(step.node->outputs);
  std::free(step.node->intermediates);
  std::free(step.node->temporaries);
  if (step.registration && !step.from_model) {
    // A delegate's node: its params go before its free is called, as in the real runtime.
    if (auto* params = static_cast<TfLiteDelegateParams*>(step.node->builtin_data)) {
      std::free(params->nodes_to_replace);
      std::free(params->input_tensors);
      std::free(params->output_tensors);
    }
    std::free(step.node->builtin_data);
    if (step.registration->free && step.node->user_data) {
      step.registration->free(context_.get(), step.node->user_data);
    }
  } else {
    std::free(step.node->builtin_data);
    std::free(const_cast<void*>(step.node->custom_initial_data));
    if (step.registration) std::free(const_cast<char*>(step.registration->custom_name));
  }
  std::free(step.registration);
  std::free(step.node);
}

void Interpreter::FreeTensor(TfLiteTensor* tensor) {
  std::free(tensor->data);
  std::free(tensor->dims);
  std::free(const_cast<TfLiteIntArray*>(tensor->dims_signature));
  std::free(const_cast<char*>(tensor->name));
  std::free(tensor->sparsity);
  if (auto* affine = static_cast<AffineQuantization*>(tensor->quantization.params)) {
    std::free(affine->scale);
    std::free(affine->zero_point);
    std::free(affine);
  }
}

void* Interpreter::Charge(size_t bytes) {
  if (bytes > limits_.tensor_bytes || bytes > limits_.total_bytes - charged_) throw std::bad_alloc();
  charged_ += bytes;
  return Exactly(bytes);
}

void Interpreter::Allocate(TfLiteTensor* tensor) {
  if (tensor->allocation_type == kTfLiteMmapRo || tensor->data || tensor->bytes == 0) return;
  tensor->data = Charge(tensor->bytes);
  std::memset(tensor->data, tensor->is_variable ? 0 : 0xa5, tensor->bytes);
}

bool Interpreter::ResizeInput(size_t index, const std::vector<int>& dims) {
  if (index >= inputs_.size()) return false;
  state_ = State::kNew;
  return ResizeTensor(context_.get(), &input(index), NewIntArray(dims)) == kTfLiteOk;
}

bool Interpreter::AllocateTensors() {
  state_ = State::kNew;
  for (const int index : plan_) {
    Step& step = steps_[index];
    if (step.registration->prepare) {
      if (step.registration->prepare(context_.get(), step.node) != kTfLiteOk) {
        Report("node " + std::to_string(index) + " failed to prepare");
        return false;
      }
    } else if (step.from_model) {
      const char* custom = step.registration->custom_name;
      const std::string name = custom ? custom : std::to_string(step.registration->builtin_code);
      Report("op " + name + " is not run by the test runtime");
      return false;
    }
  }
  for (size_t i = 0; i < context_->tensors_size; ++i) {
    TfLiteTensor& tensor = tensors()[i];
    if (tensor.allocation_type == kTfLiteMmapRo || !tensor.data) continue;
    std::free(tensor.data);
    tensor.data = nullptr;
  }
  charged_ = 0;
  for (size_t i = 0; i < context_->tensors_size; ++i) {
    if (tensors()[i].data) charged_ += tensors()[i].bytes;
  }
  try {
    const auto allocate = [this](const TfLiteIntArray* array) {
      for (int i = 0; i < array->size; ++i) {
        if (array->data[i] >= 0) Allocate(&tensors()[array->data[i]]);
      }
    };
    for (const int tensor : inputs_) Allocate(&tensors()[tensor]);
    for (const int tensor : outputs_) Allocate(&tensors()[tensor]);
    for (const int index : plan_) {
      allocate(steps_[index].node->inputs);
      allocate(steps_[index].node->outputs);
      allocate(steps_[index].node->temporaries);
    }
  } catch (const std::bad_alloc&) {
    Report("out of memory");
    return false;
  }
  state_ = State::kReady;
  return true;
}

bool Interpreter::Invoke() {
  if (state_ != State::kReady) {
    Report("Invoke before AllocateTensors");
    return false;
  }
  work_ = 0;
  for (const int index : plan_) {
    Step& step = steps_[index];
    const TfLiteIntArray* inputs = step.node->inputs;
    for (int i = 0; i < inputs->size; ++i) {
      if (inputs->data[i] < 0) continue;
      const TfLiteTensor& tensor = tensors()[inputs->data[i]];
      if (!tensor.data && tensor.bytes) {
        Report("input tensor " + std::to_string(inputs->data[i]) + " lacks data");
        return false;
      }
    }
    if (!step.registration->invoke || step.registration->invoke(context_.get(), step.node) != kTfLiteOk) {
      Report("node " + std::to_string(index) + " failed to run");
      return false;
    }
  }
  return true;
}

void Interpreter::MoveTensors() {
  for (size_t i = 0; i < context_->tensors_size; ++i) {
    TfLiteTensor& tensor = tensors()[i];
    if (tensor.allocation_type == kTfLiteMmapRo || !tensor.data) continue;
    void* moved = Exactly(tensor.bytes);
    std::memcpy(moved, tensor.data, tensor.bytes);
    std::free(tensor.data);
    tensor.data = moved;
  }
}

Value Interpreter::Output(size_t index) {
  const TfLiteTensor& tensor = output(index);
  const auto* data = static_cast<const uint8_t*>(tensor.data);
  Value value;
  value.type = tensor.type;
  value.dims.assign(tensor.dims->data, tensor.dims->data + tensor.dims->size);
  if (data) value.bytes.assign(data, data + tensor.bytes);
  return value;
}

size_t Interpreter::HashConstants() const {
  size_t hash = 0;
  for (size_t i = 0; i < context_->tensors_size; ++i) {
    const TfLiteTensor& tensor = tensors()[i];
    if (tensor.allocation_type != kTfLiteMmapRo) continue;
    const std::string_view bytes(static_cast<const char*>(tensor.data), tensor.bytes);
    hash = hash * 31 + std::hash<std::string_view>()(bytes);
  }
  return hash;
}

std::string Interpreter::Messages() const {
  std::string text;
  for (const std::string& message : messages_) text += (text.empty() ? "" : "; ") + message;
  return text;
}

bool Interpreter::Work(double multiply_adds) {
  work_ += multiply_adds;
  return work_ <= limits_.reference_work;
}

TfLiteStatus Interpreter::ResizeTensor(TfLiteContext* context, TfLiteTensor* tensor, TfLiteIntArray* dims) {
  Interpreter& self = Of(context);
  try {
    if (tensor->allocation_type == kTfLiteMmapRo) throw Error("a constant cannot be resized");
    const size_t bytes = TensorBytes(tensor->type, dims->data, static_cast<size_t>(dims->size));
    if (dims != tensor->dims) std::free(tensor->dims);
    tensor->dims = dims;
    tensor->bytes = bytes;
    return kTfLiteOk;
  } catch (const Error& error) {
    self.Report(error.what());
    if (dims != tensor->dims) std::free(dims);
    return kTfLiteError;
  }
}

TfLiteStatus Interpreter::ResizeTensorExplicit(TfLiteContext* context, TfLiteTensor* tensor, int rank,
                                               const int* dims) {
  return ResizeTensor(context, tensor, NewIntArray({dims, dims + rank}));
}

TfLiteStatus Interpreter::AddTensors(TfLiteContext* context, int count, int* first) {
  const size_t before = context->tensors_size;
  const size_t after = before + static_cast<size_t>(count);
  auto* moved = static_cast<TfLiteTensor*>(Exactly(after * sizeof(TfLiteTensor)));
  std::memset(static_cast<void*>(moved), 0, after * sizeof(TfLiteTensor));
  std::memcpy(static_cast<void*>(moved), context->tensors, before * sizeof(TfLiteTensor));
  for (size_t i = before; i < after; ++i) moved[i].buffer_handle = -1;
  std::free(context->tensors);
  context->tensors = moved;
  context->tensors_size = after;
  if (first) *first = static_cast<int>(before);
  return kTfLiteOk;
}

void Interpreter::ReportError(TfLiteContext* context, const char* format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  Of(context).Report(text);
}

}  // namespace mini
