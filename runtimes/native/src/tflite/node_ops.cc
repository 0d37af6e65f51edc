#include <algorithm>
#include <cstring>

#include "tflite/node_reader.h"

namespace bihrnet {

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
  const TfLiteTensor* runtime_filter = ok() ? RuntimeTensor(InputAt(1)) : nullptr;
  if (runtime_filter == nullptr || !IsConstant(*runtime_filter) || runtime_filter->type != kTfLiteInt32) {
    return Fail("its filter is not a bitpacked constant");
  }
  const int filter = Intern(InputAt(1), *runtime_filter);
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

// A constant is one value, or one a channel; what else may be broadcast is left to the runtime.
void NodeReader::CheckChannels(const Tensor& activation, const Tensor& constant) {
  const size_t count = constant.count();
  if (count != 1 && count != static_cast<size_t>(activation.dims.back())) {
    Fail("constant " + constant.name + " is not one value a channel");
  }
}

void NodeReader::ReadArithmetic(Op op, bool has_activation) {
  result_.op = op;
  if (InputCount() != 2) return Fail("it has not two inputs");
  if (has_activation && node_.builtin_data != nullptr) {
    SetActivation(Builtin<TfLiteArithmeticParams>()->activation);
  }
  if (IsInt8(0) || IsInt8(1)) return ReadByteArithmetic();
  int constants = 0;
  for (int i = 0; i < 2 && ok(); ++i) {
    const TfLiteTensor* tensor = RuntimeTensor(InputAt(i));
    if (tensor != nullptr && IsConstant(*tensor)) {
      ConstantFloats(i, 0);
      ++constants;
    } else {
      Activation4d(i, {TensorType::kFloat});
    }
  }
  if (constants == 2) Fail("both of its inputs are constants");
  const auto input = [&](size_t i) -> const Tensor& { return graph_.tensors[static_cast<size_t>(result_.inputs[i])]; };
  if (ok() && constants == 0 && input(0).dims != input(1).dims) Fail("its inputs differ in size");
  if (ok() && constants == 1) CheckChannels(input(input(0).constant ? 1 : 0), input(input(0).constant ? 0 : 1));
  Output({TensorType::kFloat});
}

bool NodeReader::IsInt8(int position) const {
  const TfLiteTensor* tensor = RuntimeTensor(InputAt(position));
  return tensor != nullptr && tensor->type == kTfLiteInt8;
}

// An int8 output is to have the scale and zero point of an input: the operator only moves or compares values.
void NodeReader::SameScale(int tensor) {
  if (!ok()) return;
  const Tensor& from = graph_.tensors[static_cast<size_t>(tensor)];
  const Tensor& to = graph_.tensors[static_cast<size_t>(result_.outputs[0])];
  if (from.type != to.type) return Fail("its output has another type than its input");
  if (from.type == TensorType::kInt8 && (from.scale != to.scale || from.zero_point != to.zero_point)) {
    Fail("its output has another scale than its input");
  }
}

// What TensorFlow Lite multiplies an int8 tensor's integers by; beyond these bounds its own arithmetic overflows.
void NodeReader::CheckFactor(double factor, double most) {
  if (!(factor > 0.0 && factor < most)) Fail("its scales are too far apart");
}

// ADD of two int8 tensors or of a constant, MUL by a constant.
void NodeReader::ReadByteArithmetic() {
  const Op op = result_.op;
  int constant = -1;
  for (int i = 0; i < 2 && ok(); ++i) {
    const TfLiteTensor* tensor = RuntimeTensor(InputAt(i));
    if (tensor != nullptr && IsConstant(*tensor)) {
      if (constant >= 0) Fail("both of its inputs are constants");
      Constant(i, kTfLiteInt8);
      constant = i;
    } else {
      Activation4d(i, {TensorType::kInt8});
    }
  }
  if (op != Op::kAdd && !(op == Op::kMul && constant >= 0)) Fail("it is none of those that are taken of int8");
  Output({TensorType::kInt8});
  if (!ok()) return;
  const auto input = [&](int i) -> const Tensor& {
    return graph_.tensors[static_cast<size_t>(result_.inputs[static_cast<size_t>(i)])];
  };
  if (constant < 0 && input(0).dims != input(1).dims) Fail("its inputs differ in size");
  if (constant >= 0) CheckChannels(input(1 - constant), input(constant));
  const float output = graph_.tensors[static_cast<size_t>(result_.outputs[0])].scale;
  const float a = input(0).scale, b = input(1).scale;
  if (op == Op::kMul) return CheckFactor(a * b / output, 1 << 14);  // in float32 as it is computed, which may overflow
  CheckFactor(2.0 * std::max(a, b) / output / (1 << 20), 1.0);
}

void NodeReader::ReadPrelu() {
  result_.op = Op::kPrelu;
  const bool bytes = IsInt8(0);
  const int input = Activation4d(0, {bytes ? TensorType::kInt8 : TensorType::kFloat});
  const int slopes = bytes ? Constant(1, kTfLiteInt8) : ConstantFloats(1, 0);
  if (!ok()) return;
  CheckChannels(graph_.tensors[static_cast<size_t>(input)], graph_.tensors[static_cast<size_t>(slopes)]);
  const int output = Output({bytes ? TensorType::kInt8 : TensorType::kFloat});
  if (!ok() || !bytes) return;
  const auto scale = [&](int tensor) -> float { return graph_.tensors[static_cast<size_t>(tensor)].scale; };
  CheckFactor(scale(input) / scale(output), 1 << 14);
  CheckFactor(scale(input) * scale(slopes) / scale(output), 1 << 14);
}

void NodeReader::ReadConcat() {
  result_.op = Op::kConcat;
  const auto* params = Builtin<TfLiteConcatenationParams>();
  if (!ok()) return;
  if (params->axis != 3 && params->axis != -1) Fail("it does not join channels");
  SetActivation(params->activation);
  if (InputCount() < 1) Fail("it has no inputs");
  for (int i = 0; i < InputCount() && ok(); ++i) Activation4d(i, {TensorType::kFloat, TensorType::kInt8});
  Output({TensorType::kFloat, TensorType::kInt8});
  for (size_t i = 0; i < result_.inputs.size() && ok(); ++i) SameScale(result_.inputs[i]);
  if (ok() && IsInt8(0) && result_.activation != Activation::kNone) Fail("it has an activation that is not supported");
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
  const int input = Activation4d(0, {TensorType::kFloat, TensorType::kInt8});
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
  Output({TensorType::kFloat, TensorType::kInt8});
  SameScale(input);
}

void NodeReader::ReadSlice() {
  result_.op = Op::kSlice;
  const int input = Activation4d(0, {TensorType::kFloat, TensorType::kInt8});
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
  Output({TensorType::kFloat, TensorType::kInt8});
  SameScale(input);
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
  const int input = Activation4d(0, {TensorType::kFloat, TensorType::kInt8});
  Output({TensorType::kFloat, TensorType::kInt8});
  SameScale(input);
}

void NodeReader::ReadMean() {
  result_.op = Op::kMean;
  Activation4d(0, {TensorType::kFloat});
  const TfLiteTensor* tensor = InputCount() == 2 ? RuntimeTensor(InputAt(1)) : nullptr;
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
  const int input = Activation4d(0, {TensorType::kFloat, TensorType::kInt8});
  const int size = ConstantInts(1, 2);
  if (!ok()) return;
  result_.align_corners = params->align_corners;
  result_.half_pixel_centers = params->half_pixel_centers;
  for (const int32_t each : graph_.tensors[static_cast<size_t>(size)].ints) {
    if (each < 1 || each > kMaxDimension) return Fail("its size is out of range");
  }
  result_.inputs.push_back(size);
  Output({TensorType::kFloat, TensorType::kInt8});
  SameScale(input);
}

std::string NodeReader::Run() {
  const int32_t code = registration_.builtin_code;
  const std::string custom = code == kOpCustom && registration_.custom_name != nullptr ? registration_.custom_name : "";
  const auto unary = [&](Op op, std::initializer_list<TensorType> from, std::initializer_list<TensorType> to) {
    result_.op = op;
    Activation4d(0, from);
    Output(to);
  };
  if (custom == "LceBconv2d")
    ReadBconv();
  else if (custom == "LceQuantize")
    unary(Op::kQuantize, {TensorType::kFloat, TensorType::kInt8}, {TensorType::kBits});
  else if (custom == "LceDequantize")
    unary(Op::kDequantize, {TensorType::kBits}, {TensorType::kFloat, TensorType::kInt8});
  else if (custom == "LceBMaxPool2d")
    ReadBinaryMaxPool();
  else if (code == kOpConv2d)
    ReadConv();
  else if (code == kOpAdd)
    ReadArithmetic(Op::kAdd, true);
  else if (code == kOpSub)
    ReadArithmetic(Op::kSub, true);
  else if (code == kOpMul)
    ReadArithmetic(Op::kMul, true);
  else if (code == kOpMaximum)
    ReadArithmetic(Op::kMaximum, false);
  else if (code == kOpMinimum)
    ReadArithmetic(Op::kMinimum, false);
  else if (code == kOpPrelu)
    ReadPrelu();
  else if (code == kOpRelu)
    unary(Op::kRelu, {TensorType::kFloat}, {TensorType::kFloat});
  else if (code == kOpRelu6)
    unary(Op::kRelu6, {TensorType::kFloat}, {TensorType::kFloat});
  else if (code == kOpReluN1To1)
    unary(Op::kReluN1To1, {TensorType::kFloat}, {TensorType::kFloat});
  else if (code == kOpRound)
    unary(Op::kRound, {TensorType::kFloat}, {TensorType::kFloat});
  else if (code == kOpConcatenation)
    ReadConcat();
  else if (code == kOpStridedSlice)
    ReadStridedSlice();
  else if (code == kOpSlice)
    ReadSlice();
  else if (code == kOpAveragePool2d)
    ReadPool(Op::kAveragePool);
  else if (code == kOpMaxPool2d)
    ReadPool(Op::kMaxPool);
  else if (code == kOpMean)
    ReadMean();
  else if (code == kOpResizeNearestNeighbor)
    ReadResize();
  else
    Fail("it is not one of the delegate's operators");
  if (ok()) graph_.nodes.push_back(std::move(result_));
  return error_;
}

}  // namespace bihrnet
