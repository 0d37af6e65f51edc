#include "tflite/node_reader.h"

namespace bihrnet {

// A CONV_2D of floats in one group. Whether it is one that the delegate can compute is a question of its weights and of
// what stands before it: see compiler/exact_conv.h.
void NodeReader::ReadConv() {
  result_.op = Op::kConv;
  const auto* params = Builtin<TfLiteConvParams>();
  if (!ok()) return;
  Window& window = result_.window;
  window.stride_height = params->stride_height;
  window.stride_width = params->stride_width;
  window.dilation_height = params->dilation_height_factor;
  window.dilation_width = params->dilation_width_factor;
  window.same = params->padding == kTfLitePaddingSame;
  if (!window.same && params->padding != kTfLitePaddingValid) Fail("its padding is unknown");
  SetActivation(params->activation);
  Activation4d(0, {TensorType::kFloat});
  ReadFloatFilter();
}

void NodeReader::ReadFloatFilter() {
  const TfLiteTensor* runtime_filter = ok() ? RuntimeTensor(InputAt(1)) : nullptr;
  Tensor filter;
  const bool usable = runtime_filter != nullptr && IsConstant(*runtime_filter) &&
                      runtime_filter->type == kTfLiteFloat32 && runtime_filter->sparsity == nullptr &&
                      ReadDims(*runtime_filter, &filter.dims) && filter.dims.size() == 4;
  if (!usable) return Fail("its filter is not a constant of floats");
  result_.window.height = filter.dims[1];
  result_.window.width = filter.dims[2];
  CheckWindow();
  if (!ok()) return;
  const Window& window = result_.window;
  if ((window.height - 1) * window.dilation_height > kMaxConvReach ||
      (window.width - 1) * window.dilation_width > kMaxConvReach) {
    return Fail("its filter reaches too far");
  }
  const int64_t taps = int64_t{window.height} * window.width;
  if (taps * filter.dims[3] > kMaxReceptiveField) return Fail("its filter is too large");
  if (runtime_filter->bytes != sizeof(float) * static_cast<size_t>(taps * filter.dims[3] * filter.dims[0])) {
    return Fail("its filter holds other bytes than those of its shape");
  }
  if (graph_.tensors[static_cast<size_t>(result_.inputs[0])].dims[3] != filter.dims[3]) {
    return Fail("its filter has other channels than its input");
  }
  filter.constant = true;
  filter.floats = Floats(runtime_filter->data, static_cast<size_t>(taps * filter.dims[3] * filter.dims[0]));
  graph_.tensors.push_back(filter);
  result_.inputs.push_back(static_cast<int>(graph_.tensors.size()) - 1);
  if (InputAt(2) >= 0) {
    ConstantFloats(2, static_cast<size_t>(filter.dims[0]));
  } else {
    result_.inputs.push_back(-1);
  }
  Output({TensorType::kFloat});
}

}  // namespace bihrnet
