#include "tflite/reader.h"

#include <cstring>

#include "tflite/node_reader.h"

namespace bihrnet {
namespace {

size_t Count(const std::vector<int>& dims) {
  size_t count = 1;
  for (const int size : dims) count *= static_cast<size_t>(size);
  return count;
}

bool Contains(std::initializer_list<TensorType> types, TensorType type) {
  for (const TensorType each : types) {
    if (each == type) return true;
  }
  return false;
}

}  // namespace

const TfLiteTensor* NodeReader::RuntimeTensor(int index) const {
  if (index < 0 || static_cast<size_t>(index) >= context_.tensors_size) return nullptr;
  return &context_.tensors[index];
}

int NodeReader::Intern(int index, const TfLiteTensor& tensor) {
  int& id = tensor_ids_[static_cast<size_t>(index)];
  if (id >= 0) return id;
  Tensor made;
  made.name = tensor.name != nullptr ? tensor.name : "tensor " + std::to_string(index);
  switch (tensor.type) {
    case kTfLiteFloat32:
      made.type = TensorType::kFloat;
      break;
    case kTfLiteInt8:
      made.type = TensorType::kInt8;
      break;
    case kTfLiteInt32:
      made.type = IsConstant(tensor) ? TensorType::kInt32 : TensorType::kBits;
      break;
    default:
      Fail("tensor " + made.name + " has a type that it does not take");
  }
  made.scale = tensor.params.scale;
  made.zero_point = tensor.params.zero_point;
  if (!ReadDims(tensor, &made.dims)) Fail("tensor " + made.name + " has no usable shape");
  if (made.type == TensorType::kInt8) {
    if (!(made.scale > 0.0f)) Fail("tensor " + made.name + " has no scale");
    if (made.zero_point < -128 || made.zero_point > 127) Fail("tensor " + made.name + " has a zero point beyond int8");
  }
  made.constant = IsConstant(tensor);
  if (made.constant && ok() && made.type == TensorType::kInt8) {
    if (tensor.bytes != Count(made.dims)) {
      Fail("constant " + made.name + " holds " + std::to_string(tensor.bytes) + " bytes, not those of its shape");
    } else {
      const auto* data = static_cast<const int8_t*>(tensor.data);
      made.bytes.assign(data, data + tensor.bytes);
    }
  }
  if (made.constant && ok() && made.type != TensorType::kInt8) {
    const size_t count = Count(made.dims);
    if (tensor.bytes != 4 * count) {
      Fail("constant " + made.name + " holds " + std::to_string(tensor.bytes) + " bytes, not those of its shape");
    } else if (made.type == TensorType::kFloat) {
      made.floats = Floats(tensor.data, count);
    } else if (made.dims.size() <= 1) {
      made.ints.resize(count);
      std::memcpy(made.ints.data(), tensor.data, tensor.bytes);
    } else {
      made.filter = static_cast<const uint8_t*>(tensor.data);
    }
  }
  if (!ok()) return -1;
  graph_.tensors.push_back(std::move(made));
  return id = static_cast<int>(graph_.tensors.size()) - 1;
}

int NodeReader::Activation4d(int position, std::initializer_list<TensorType> types) {
  const TfLiteTensor* tensor = RuntimeTensor(InputAt(position));
  if (tensor == nullptr) {
    Fail("input " + std::to_string(position) + " is missing");
    return -1;
  }
  if (IsConstant(*tensor)) Fail("input " + std::to_string(position) + " is a constant");
  const int id = ok() ? Intern(InputAt(position), *tensor) : -1;
  if (id < 0) return -1;
  const Tensor& made = graph_.tensors[static_cast<size_t>(id)];
  if (made.dims.size() != 4) Fail("input " + made.name + " has " + std::to_string(made.dims.size()) + " dimensions");
  if (!Contains(types, made.type)) Fail("input " + made.name + " has a type that it does not take");
  result_.inputs.push_back(id);
  return id;
}

int NodeReader::ConstantFloats(int position, size_t count) {
  const int id = Constant(position, kTfLiteFloat32);
  if (id < 0) return -1;
  const Tensor& made = graph_.tensors[static_cast<size_t>(id)];
  if (count != 0 && made.floats.size() != count) Fail("constant " + made.name + " is not one value a channel");
  return id;
}

// Along the channels alone: every dimension but the last is 1.
int NodeReader::Constant(int position, TfLiteType type) {
  const TfLiteTensor* tensor = RuntimeTensor(InputAt(position));
  const bool usable = tensor != nullptr && IsConstant(*tensor) && tensor->type == type;
  const int id = usable && ok() ? Intern(InputAt(position), *tensor) : -1;
  if (id < 0) {
    Fail("input " + std::to_string(position) + " is not a constant of " +
         (type == kTfLiteFloat32 ? "floats" : "bytes"));
    return -1;
  }
  const Tensor& made = graph_.tensors[static_cast<size_t>(id)];
  const size_t last = made.dims.empty() ? 1 : static_cast<size_t>(made.dims.back());
  if (made.count() != last) Fail("constant " + made.name + " does not lie along the channels");
  result_.inputs.push_back(id);
  return id;
}

int NodeReader::ConstantInts(int position, size_t count) {
  const TfLiteTensor* tensor = RuntimeTensor(InputAt(position));
  const bool usable = tensor != nullptr && IsConstant(*tensor) && tensor->type == kTfLiteInt32;
  const int id = usable && ok() ? Intern(InputAt(position), *tensor) : -1;
  if (id < 0 || graph_.tensors[static_cast<size_t>(id)].ints.size() != count) {
    Fail("input " + std::to_string(position) + " is not a constant of " + std::to_string(count) + " integers");
    return -1;
  }
  return id;
}

int NodeReader::Output(std::initializer_list<TensorType> types, bool flat_too) {
  if (!ok()) return -1;
  const bool one = node_.outputs != nullptr && node_.outputs->size == 1;
  const TfLiteTensor* tensor = one ? RuntimeTensor(node_.outputs->data[0]) : nullptr;
  if (tensor == nullptr || IsConstant(*tensor)) {
    Fail("it has not exactly one output");
    return -1;
  }
  const int id = Intern(node_.outputs->data[0], *tensor);
  if (id < 0) return -1;
  const Tensor& made = graph_.tensors[static_cast<size_t>(id)];
  if (made.dims.size() != 4 && !(flat_too && made.dims.size() == 2)) {
    Fail("output " + made.name + " has " + std::to_string(made.dims.size()) + " dimensions");
  }
  if (!Contains(types, made.type)) Fail("output " + made.name + " has a type that it does not give");
  result_.outputs.push_back(id);
  result_.name = made.name;
  return id;
}

void NodeReader::Options() {
  const bool usable = node_.custom_initial_data != nullptr && node_.custom_initial_data_size > 0;
  if (usable) {
    options_ = FlexMap::Parse(static_cast<const uint8_t*>(node_.custom_initial_data),
                              static_cast<size_t>(node_.custom_initial_data_size));
  }
  if (!options_) Fail("its attributes are damaged");
}

int32_t NodeReader::Option(const char* key, int32_t low, int32_t high) {
  if (!ok()) return low;
  const std::optional<int64_t> value = options_->Int(key);
  if (!value || *value < low || *value > high) {
    Fail(std::string("its attribute ") + key + " is missing or out of range");
    return low;
  }
  return static_cast<int32_t>(*value);
}

void NodeReader::SetActivation(int code) {
  if (code < 0 || code > 3)
    Fail("it has an activation that is not supported");
  else
    result_.activation = static_cast<Activation>(code);
}

void NodeReader::CheckWindow() {
  const Window& window = result_.window;
  for (const int size : {window.height, window.width, window.stride_height, window.stride_width, window.dilation_height,
                         window.dilation_width}) {
    if (size < 1 || size > kMaxWindow) Fail("its window, stride or dilation is out of range");
  }
}

bool IsLceOp(const TfLiteRegistration& registration) {
  if (registration.builtin_code != kOpCustom || registration.custom_name == nullptr) return false;
  for (const char* name : {"LceBconv2d", "LceQuantize", "LceDequantize", "LceBMaxPool2d"}) {
    if (std::strcmp(registration.custom_name, name) == 0) return true;
  }
  return false;
}

std::string ReadNode(const TfLiteContext& context, const RuntimeNode& runtime_node, std::vector<int>* tensor_ids,
                     Graph* graph) {
  return NodeReader(context, runtime_node, tensor_ids, graph).Run();
}

bool ReadDims(const TfLiteTensor& tensor, std::vector<int>* dims) {
  dims->clear();
  if (tensor.dims == nullptr || tensor.dims->size < 0 || tensor.dims->size > 8) return false;
  int64_t elements = 1;
  for (int i = 0; i < tensor.dims->size; ++i) {
    const int size = tensor.dims->data[i];
    if (size < 1 || size > kMaxDimension) return false;
    elements *= size;
    if (elements > kMaxElements) return false;
    dims->push_back(size);
  }
  return true;
}

}  // namespace bihrnet
