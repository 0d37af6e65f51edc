#include "tflite/reader.h"

#include <cstring>

#include "graph/flexbuffer.h"

namespace bihrnet {
namespace {

constexpr int kMaxWindow = 1024;  // of a filter, stride or dilation: far beyond any net, far below any overflow
constexpr int kMaxReceptiveField = 65535;  // what an accumulator of the kernels holds

// Reads one node; the first thing that is wrong ends in `error`, and everything after it does nothing.
class NodeReader {
 public:
  NodeReader(const TfLiteContext& context, const RuntimeNode& node, std::vector<int>* tensor_ids, Graph* graph)
      : context_(context), node_(*node.node), registration_(*node.registration), tensor_ids_(*tensor_ids),
        graph_(*graph) {}

  std::string Run();

 private:
  void Fail(const std::string& what) {
    if (error_.empty()) error_ = what;
  }
  bool ok() const { return error_.empty(); }

  const TfLiteTensor* RuntimeTensor(int index) const;
  int InputCount() const { return node_.inputs == nullptr ? 0 : node_.inputs->size; }
  // The graph's tensor for an input; rank 4 and not constant.
  int Activation4d(int position, std::initializer_list<TensorType> types);
  int ConstantFloats(int position, size_t count);  // count 0: any number
  int ConstantInts(int position, size_t count);
  int Optional(int position) const;
  int Output(std::initializer_list<TensorType> types, bool flat_too = false);
  int Intern(int index, const TfLiteTensor& tensor);
  void Options();
  int32_t Option(const char* key, int32_t low, int32_t high);
  void SetActivation(int code);
  template <typename T>
  const T* Builtin() {
    if (node_.builtin_data == nullptr) Fail("it has no attributes");
    return static_cast<const T*>(node_.builtin_data);
  }

  void ReadBconv();
  void ReadFilter();
  void ReadBinaryMaxPool();
  void ReadArithmetic(Op op, bool has_activation);
  void ReadPrelu();
  void ReadConcat();
  void ReadStridedSlice();
  void ReadSlice();
  void ReadPool(Op op);
  void ReadMean();
  void ReadResize();
  void SliceChannels(int tensor, const std::vector<int32_t>& begin, const std::vector<int32_t>& end, int begin_mask,
                     int end_mask);
  void CheckWindow();

  const TfLiteContext& context_;
  const TfLiteNode& node_;
  const TfLiteRegistration& registration_;
  std::vector<int>& tensor_ids_;
  Graph& graph_;
  Node result_{};
  std::optional<FlexMap> options_;
  std::string error_;
};

size_t Count(const std::vector<int>& dims) {
  size_t count = 1;
  for (const int size : dims) count *= static_cast<size_t>(size);
  return count;
}

bool IsConstant(const TfLiteTensor& tensor) {
  return tensor.allocation_type == kTfLiteMmapRo && tensor.data != nullptr;
}

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
  if (made.type == TensorType::kInt8 && !(made.scale > 0.0f)) Fail("tensor " + made.name + " has no scale");
  made.constant = IsConstant(tensor);
  if (made.constant && ok() && made.type != TensorType::kInt8) {
    const size_t count = Count(made.dims);
    if (tensor.bytes != 4 * count) {
      Fail("constant " + made.name + " holds " + std::to_string(tensor.bytes) + " bytes, not those of its shape");
    } else if (made.type == TensorType::kFloat) {
      made.floats.resize(count);
      std::memcpy(made.floats.data(), tensor.data, tensor.bytes);
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

bool Contains(std::initializer_list<TensorType> types, TensorType type) {
  for (const TensorType each : types) {
    if (each == type) return true;
  }
  return false;
}

int NodeReader::Activation4d(int position, std::initializer_list<TensorType> types) {
  const TfLiteTensor* tensor = position < InputCount() ? RuntimeTensor(node_.inputs->data[position]) : nullptr;
  if (tensor == nullptr) {
    Fail("input " + std::to_string(position) + " is missing");
    return -1;
  }
  if (IsConstant(*tensor)) Fail("input " + std::to_string(position) + " is a constant");
  const int id = ok() ? Intern(node_.inputs->data[position], *tensor) : -1;
  if (id < 0) return -1;
  const Tensor& made = graph_.tensors[static_cast<size_t>(id)];
  if (made.dims.size() != 4) Fail("input " + made.name + " has " + std::to_string(made.dims.size()) + " dimensions");
  if (!Contains(types, made.type)) Fail("input " + made.name + " has a type that it does not take");
  result_.inputs.push_back(id);
  return id;
}

int NodeReader::ConstantFloats(int position, size_t count) {
  const TfLiteTensor* tensor = position < InputCount() ? RuntimeTensor(node_.inputs->data[position]) : nullptr;
  const bool usable = tensor != nullptr && IsConstant(*tensor) && tensor->type == kTfLiteFloat32;
  const int id = usable && ok() ? Intern(node_.inputs->data[position], *tensor) : -1;
  if (id < 0) {
    Fail("input " + std::to_string(position) + " is not a float constant");
    return -1;
  }
  // Along the channels alone: every dimension but the last is 1.
  const Tensor& made = graph_.tensors[static_cast<size_t>(id)];
  const size_t last = made.dims.empty() ? 1 : static_cast<size_t>(made.dims.back());
  if (made.floats.size() != last) Fail("constant " + made.name + " does not lie along the channels");
  if (count != 0 && made.floats.size() != count) Fail("constant " + made.name + " is not one value a channel");
  result_.inputs.push_back(id);
  return id;
}

int NodeReader::ConstantInts(int position, size_t count) {
  const TfLiteTensor* tensor = position < InputCount() ? RuntimeTensor(node_.inputs->data[position]) : nullptr;
  const bool usable = tensor != nullptr && IsConstant(*tensor) && tensor->type == kTfLiteInt32;
  const int id = usable && ok() ? Intern(node_.inputs->data[position], *tensor) : -1;
  if (id < 0 || graph_.tensors[static_cast<size_t>(id)].ints.size() != count) {
    Fail("input " + std::to_string(position) + " is not a constant of " + std::to_string(count) + " integers");
    return -1;
  }
  return id;
}

int NodeReader::Optional(int position) const {
  return position < InputCount() ? node_.inputs->data[position] : -1;
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
  if (code < 0 || code > 3) Fail("it has an activation that is not supported");
  else result_.activation = static_cast<Activation>(code);
}

void NodeReader::CheckWindow() {
  const Window& window = result_.window;
  for (const int size : {window.height, window.width, window.stride_height, window.stride_width,
                         window.dilation_height, window.dilation_width}) {
    if (size < 1 || size > kMaxWindow) Fail("its window, stride or dilation is out of range");
  }
}

void NodeReader::ReadBconv() {
  result_.op = Op::kBconv;
  Options();
  if (InputCount() != 5) Fail("it has " + std::to_string(InputCount()) + " inputs, not 5");
  Window& window = result_.window;
  window.stride_height = Option("stride_height", 1, kMaxWindow);
  window.stride_width = Option("stride_width", 1, kMaxWindow);
  window.dilation_height = Option("dilation_height_factor", 1, kMaxWindow);
  window.dilation_width = Option("dilation_width_factor", 1, kMaxWindow);
  window.same = Option("padding", 0, 1) == 0;
  result_.pad_is_zero = Option("pad_values", 0, 1) == 0;
  result_.channels_in = Option("channels_in", 1, kMaxReceptiveField);
  SetActivation(Option("fused_activation_function", 0, 3));
  Activation4d(0, {TensorType::kBits});
  ReadFilter();
}

void NodeReader::ReadFilter() {
  const TfLiteTensor* runtime_filter = ok() ? RuntimeTensor(node_.inputs->data[1]) : nullptr;
  if (runtime_filter == nullptr || !IsConstant(*runtime_filter) || runtime_filter->type != kTfLiteInt32) {
    return Fail("its filter is not a bitpacked constant");
  }
  const int filter = Intern(node_.inputs->data[1], *runtime_filter);
  if (filter < 0) return;
  result_.inputs.push_back(filter);
  const std::vector<int> dims = graph_.tensors[static_cast<size_t>(filter)].dims;
  if (dims.size() != 4) return Fail("its filter has not 4 dimensions");
  result_.window.height = dims[1];
  result_.window.width = dims[2];
  CheckWindow();
  const int words = (result_.channels_in + 31) / 32;
  const int groups = dims[3] > 0 && words % dims[3] == 0 ? words / dims[3] : 0;
  if (groups == 0 || dims[0] % groups != 0 || result_.channels_in % groups != 0 ||
      (groups > 1 && (result_.channels_in / groups % 32 != 0 || dims[0] / groups % 4 != 0))) {
    return Fail("its filter's channels do not fit its groups");
  }
  if (int64_t{dims[1]} * dims[2] * result_.channels_in / groups > kMaxReceptiveField) {
    return Fail("its receptive field is larger than 65535 bits");
  }
  const auto channels = static_cast<size_t>(dims[0]);
  const int output = Output({TensorType::kFloat, TensorType::kInt8, TensorType::kBits});
  if (output < 0) return;
  if (graph_.tensors[static_cast<size_t>(output)].type == TensorType::kBits) {
    result_.inputs.insert(result_.inputs.end(), {-1, -1});
    result_.inputs.push_back(ConstantInts(4, channels));
  } else {
    ConstantFloats(2, channels);
    ConstantFloats(3, channels);
  }
}

void NodeReader::ReadBinaryMaxPool() {
  result_.op = Op::kBinaryMaxPool;
  Options();
  Window& window = result_.window;
  window.height = Option("filter_height", 1, kMaxWindow);
  window.width = Option("filter_width", 1, kMaxWindow);
  window.stride_height = Option("stride_height", 1, kMaxWindow);
  window.stride_width = Option("stride_width", 1, kMaxWindow);
  window.same = Option("padding", 0, 1) == 0;
  Activation4d(0, {TensorType::kBits});
  Output({TensorType::kBits});
}

void NodeReader::ReadArithmetic(Op op, bool has_activation) {
  result_.op = op;
  if (InputCount() != 2) return Fail("it has not two inputs");
  if (has_activation && node_.builtin_data != nullptr) {
    SetActivation(Builtin<TfLiteArithmeticParams>()->activation);
  }
  int constants = 0;
  for (int i = 0; i < 2 && ok(); ++i) {
    const TfLiteTensor* tensor = RuntimeTensor(node_.inputs->data[i]);
    if (tensor != nullptr && IsConstant(*tensor)) {
      ConstantFloats(i, 0);
      ++constants;
    } else {
      Activation4d(i, {TensorType::kFloat});
    }
  }
  if (constants == 2) Fail("both of its inputs are constants");
  Output({TensorType::kFloat});
}

void NodeReader::ReadPrelu() {
  result_.op = Op::kPrelu;
  Activation4d(0, {TensorType::kFloat});
  ConstantFloats(1, 0);
  Output({TensorType::kFloat});
}

void NodeReader::ReadConcat() {
  result_.op = Op::kConcat;
  const auto* params = Builtin<TfLiteConcatenationParams>();
  if (!ok()) return;
  if (params->axis != 3 && params->axis != -1) Fail("it does not join channels");
  SetActivation(params->activation);
  if (InputCount() < 1) Fail("it has no inputs");
  for (int i = 0; i < InputCount() && ok(); ++i) Activation4d(i, {TensorType::kFloat});
  Output({TensorType::kFloat});
}

// Only channels are sliced: every other axis is taken whole. -1 as the end stands for the last channel.
void NodeReader::SliceChannels(int tensor, const std::vector<int32_t>& begin, const std::vector<int32_t>& end,
                               int begin_mask, int end_mask) {
  const std::vector<int>& dims = graph_.tensors[static_cast<size_t>(tensor)].dims;
  for (int axis = 0; axis < 3; ++axis) {
    const auto i = static_cast<size_t>(axis);
    const bool from_start = (begin_mask >> axis & 1) != 0 || begin[i] == 0;
    const bool to_end = (end_mask >> axis & 1) != 0 || end[i] >= dims[i];
    if (!from_start || !to_end) return Fail("it slices more than channels");
  }
  const auto place = [&](int32_t at) { return at < 0 ? at + dims[3] : at; };
  const int32_t first = (begin_mask >> 3 & 1) != 0 ? 0 : place(begin[3]);
  const int32_t last = (end_mask >> 3 & 1) != 0 ? dims[3] : std::min(place(end[3]), dims[3]);
  if (first < 0 || first >= last) return Fail("it slices no channels");
  Tensor range;
  range.type = TensorType::kInt32;
  range.constant = true;
  range.ints = {first, last};
  graph_.tensors.push_back(std::move(range));
  result_.inputs.push_back(static_cast<int>(graph_.tensors.size()) - 1);
}

void NodeReader::ReadStridedSlice() {
  result_.op = Op::kSlice;
  const auto* params = Builtin<TfLiteStridedSliceParams>();
  const int input = Activation4d(0, {TensorType::kFloat});
  const int begin = ConstantInts(1, 4), end = ConstantInts(2, 4), strides = ConstantInts(3, 4);
  if (!ok()) return;
  if (params->ellipsis_mask != 0 || params->new_axis_mask != 0 || params->shrink_axis_mask != 0 || params->offset) {
    return Fail("it changes the number of dimensions");
  }
  for (const int32_t stride : graph_.tensors[static_cast<size_t>(strides)].ints) {
    if (stride != 1) return Fail("its strides are not 1");
  }
  const std::vector<int32_t> from = graph_.tensors[static_cast<size_t>(begin)].ints;
  const std::vector<int32_t> to = graph_.tensors[static_cast<size_t>(end)].ints;
  SliceChannels(input, from, to, params->begin_mask, params->end_mask);
  Output({TensorType::kFloat});
}

void NodeReader::ReadSlice() {
  result_.op = Op::kSlice;
  const int input = Activation4d(0, {TensorType::kFloat});
  const int begin = ConstantInts(1, 4), size = ConstantInts(2, 4);
  if (!ok()) return;
  const std::vector<int32_t> from = graph_.tensors[static_cast<size_t>(begin)].ints;
  std::vector<int32_t> to = graph_.tensors[static_cast<size_t>(size)].ints;
  int end_mask = 0;
  for (int axis = 0; axis < 4; ++axis) {
    const auto i = static_cast<size_t>(axis);
    if (from[i] < 0 || to[i] < -1 || from[i] > kMaxDimension || to[i] > kMaxDimension) {
      return Fail("its range is out of range");
    }
    if (to[i] == -1) end_mask |= 1 << axis;
    to[i] += from[i];
  }
  SliceChannels(input, from, to, 0, end_mask);
  Output({TensorType::kFloat});
}

void NodeReader::ReadPool(Op op) {
  result_.op = op;
  const auto* params = Builtin<TfLitePoolParams>();
  if (!ok()) return;
  Window& window = result_.window;
  window.height = params->filter_height;
  window.width = params->filter_width;
  window.stride_height = params->stride_height;
  window.stride_width = params->stride_width;
  window.same = params->padding == kTfLitePaddingSame;
  if (!window.same && params->padding != kTfLitePaddingValid) Fail("its padding is unknown");
  SetActivation(params->activation);
  CheckWindow();
  Activation4d(0, {TensorType::kFloat});
  Output({TensorType::kFloat});
}

void NodeReader::ReadMean() {
  result_.op = Op::kMean;
  Activation4d(0, {TensorType::kFloat});
  const TfLiteTensor* tensor = InputCount() == 2 ? RuntimeTensor(node_.inputs->data[1]) : nullptr;
  const bool usable = tensor != nullptr && IsConstant(*tensor) && tensor->type == kTfLiteInt32 && tensor->bytes == 8;
  if (!usable) return Fail("it is not the mean over height and width");
  int32_t axes[2];
  std::memcpy(axes, tensor->data, sizeof(axes));
  for (int32_t& axis : axes) axis = axis < 0 ? axis + 4 : axis;
  if (axes[0] + axes[1] != 3 || axes[0] * axes[1] != 2) return Fail("it is not the mean over height and width");
  Output({TensorType::kFloat}, true);
}

void NodeReader::ReadResize() {
  result_.op = Op::kResizeNearest;
  const auto* params = Builtin<TfLiteResizeNearestNeighborParams>();
  Activation4d(0, {TensorType::kFloat});
  const int size = ConstantInts(1, 2);
  if (!ok()) return;
  result_.align_corners = params->align_corners;
  result_.half_pixel_centers = params->half_pixel_centers;
  for (const int32_t each : graph_.tensors[static_cast<size_t>(size)].ints) {
    if (each < 1 || each > kMaxDimension) return Fail("its size is out of range");
  }
  result_.inputs.push_back(size);
  Output({TensorType::kFloat});
}

std::string NodeReader::Run() {
  const int32_t code = registration_.builtin_code;
  const std::string custom =
      code == kOpCustom && registration_.custom_name != nullptr ? registration_.custom_name : "";
  const auto unary = [&](Op op, std::initializer_list<TensorType> from, std::initializer_list<TensorType> to) {
    result_.op = op;
    Activation4d(0, from);
    Output(to);
  };
  if (custom == "LceBconv2d") ReadBconv();
  else if (custom == "LceQuantize") unary(Op::kQuantize, {TensorType::kFloat, TensorType::kInt8}, {TensorType::kBits});
  else if (custom == "LceDequantize")
    unary(Op::kDequantize, {TensorType::kBits}, {TensorType::kFloat, TensorType::kInt8});
  else if (custom == "LceBMaxPool2d") ReadBinaryMaxPool();
  else if (code == kOpAdd) ReadArithmetic(Op::kAdd, true);
  else if (code == kOpSub) ReadArithmetic(Op::kSub, true);
  else if (code == kOpMul) ReadArithmetic(Op::kMul, true);
  else if (code == kOpMaximum) ReadArithmetic(Op::kMaximum, false);
  else if (code == kOpMinimum) ReadArithmetic(Op::kMinimum, false);
  else if (code == kOpPrelu) ReadPrelu();
  else if (code == kOpRelu) unary(Op::kRelu, {TensorType::kFloat}, {TensorType::kFloat});
  else if (code == kOpRelu6) unary(Op::kRelu6, {TensorType::kFloat}, {TensorType::kFloat});
  else if (code == kOpReluN1To1) unary(Op::kReluN1To1, {TensorType::kFloat}, {TensorType::kFloat});
  else if (code == kOpRound) unary(Op::kRound, {TensorType::kFloat}, {TensorType::kFloat});
  else if (code == kOpConcatenation) ReadConcat();
  else if (code == kOpStridedSlice) ReadStridedSlice();
  else if (code == kOpSlice) ReadSlice();
  else if (code == kOpAveragePool2d) ReadPool(Op::kAveragePool);
  else if (code == kOpMaxPool2d) ReadPool(Op::kMaxPool);
  else if (code == kOpMean) ReadMean();
  else if (code == kOpResizeNearestNeighbor) ReadResize();
  else Fail("it is not one of the delegate's operators");
  if (ok()) graph_.nodes.push_back(std::move(result_));
  return error_;
}

}  // namespace

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
