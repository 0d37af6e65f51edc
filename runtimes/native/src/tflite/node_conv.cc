#include <algorithm>
#include <cstdlib>

#include "compiler/fixed_point.h"
#include "tflite/node_reader.h"

namespace bihrnet {
namespace {

// One scale a channel, or one for all; none where they are not as the runtime makes them.
std::vector<float> ScalesOf(const TfLiteTensor& filter, size_t channels) {
  std::vector<float> scales;
  const auto* affine = static_cast<const TfLiteAffineQuantization*>(filter.quantization.params);
  if (filter.quantization.type == kTfLiteAffineQuantization && affine != nullptr && affine->scale != nullptr) {
    const TfLiteFloatArray& array = *affine->scale;
    const TfLiteIntArray* zero_points = affine->zero_point;
    const bool centered =
        zero_points == nullptr ||
        std::all_of(zero_points->data, zero_points->data + zero_points->size, [](int point) { return point == 0; });
    if (!centered || (array.size > 1 && affine->quantized_dimension != 0)) return {};
    scales.assign(array.data, array.data + std::max(array.size, 0));
  } else if (filter.params.zero_point == 0) {
    scales = {filter.params.scale};
  }
  if (scales.size() == 1) scales.assign(channels, scales[0]);
  if (scales.size() != channels) return {};
  return scales;
}

}  // namespace

// A CONV_2D in one group. Of floats, whether it is one that the delegate can compute is a question of its weights
// and of what stands before it: see compiler/exact_conv.h.
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
  const bool bytes = IsInt8(0);
  Activation4d(0, {bytes ? TensorType::kInt8 : TensorType::kFloat});
  bytes ? ReadByteFilter() : ReadFloatFilter();
}

// A constant of so many bytes a weight, whose window the delegate can take; null where it is not.
const TfLiteTensor* NodeReader::ConvFilter(TfLiteType type, size_t weight_bytes, Tensor* made) {
  const TfLiteTensor* runtime_filter = ok() ? RuntimeTensor(InputAt(1)) : nullptr;
  Tensor& filter = *made;
  const bool usable = runtime_filter != nullptr && IsConstant(*runtime_filter) && runtime_filter->type == type &&
                      runtime_filter->sparsity == nullptr && ReadDims(*runtime_filter, &filter.dims) &&
                      filter.dims.size() == 4;
  if (!usable) return Fail("its filter is not a constant of its input's type"), nullptr;
  result_.window.height = filter.dims[1];
  result_.window.width = filter.dims[2];
  CheckWindow();
  if (!ok()) return nullptr;
  const Window& window = result_.window;
  if ((window.height - 1) * window.dilation_height > kMaxConvReach ||
      (window.width - 1) * window.dilation_width > kMaxConvReach) {
    return Fail("its filter reaches too far"), nullptr;
  }
  const int64_t taps = int64_t{window.height} * window.width;
  if (taps * filter.dims[3] > kMaxReceptiveField) return Fail("its filter is too large"), nullptr;
  if (runtime_filter->bytes != weight_bytes * static_cast<size_t>(taps * filter.dims[3] * filter.dims[0])) {
    return Fail("its filter holds other bytes than those of its shape"), nullptr;
  }
  if (graph_.tensors[static_cast<size_t>(result_.inputs[0])].dims[3] != filter.dims[3]) {
    return Fail("its filter has other channels than its input"), nullptr;
  }
  filter.constant = true;
  return runtime_filter;
}

void NodeReader::ReadFloatFilter() {
  Tensor filter;
  const TfLiteTensor* runtime_filter = ConvFilter(kTfLiteFloat32, sizeof(float), &filter);
  if (runtime_filter == nullptr) return;
  filter.floats = Floats(runtime_filter->data, runtime_filter->bytes / sizeof(float));
  graph_.tensors.push_back(filter);
  result_.inputs.push_back(static_cast<int>(graph_.tensors.size()) - 1);
  if (InputAt(2) >= 0) {
    ConstantFloats(2, static_cast<size_t>(filter.dims[0]));
  } else {
    result_.inputs.push_back(-1);
  }
  Output({TensorType::kFloat});
}

void NodeReader::ReadByteFilter() {
  result_.op = Op::kByteConv;
  Tensor filter;
  const TfLiteTensor* runtime_filter = ConvFilter(kTfLiteInt8, 1, &filter);
  if (runtime_filter == nullptr) return;
  const auto* weights = static_cast<const int8_t*>(runtime_filter->data);
  filter.type = TensorType::kInt8;
  filter.bytes.assign(weights, weights + runtime_filter->bytes);
  const auto channels = static_cast<size_t>(filter.dims[0]);
  const std::vector<float> scales = ScalesOf(*runtime_filter, channels);
  if (scales.empty()) return Fail("its filter is not quantized by output channels");
  graph_.tensors.push_back(filter);
  result_.inputs.push_back(static_cast<int>(graph_.tensors.size()) - 1);
  result_.inputs.push_back(InputAt(2) >= 0 ? ConstantInts(2, channels) : -1);
  Output({TensorType::kInt8});
  if (ok()) FindByteScales(filter, scales);
}

// Sums of words and their products must not leave int32, in whatever order they are added, nor twice such a sum.
void NodeReader::FindByteScales(const Tensor& filter, const std::vector<float>& scales) {
  constexpr int64_t kMostSum = int64_t{1} << 29;
  const Tensor& input = graph_.tensors[static_cast<size_t>(result_.inputs[0])];
  const Tensor& output = graph_.tensors[static_cast<size_t>(result_.outputs[0])];
  const Tensor* bias = result_.inputs[2] >= 0 ? &graph_.tensors[static_cast<size_t>(result_.inputs[2])] : nullptr;
  const int64_t word = std::max(127 - input.zero_point, input.zero_point + 128);
  const size_t count = filter.bytes.size() / scales.size();
  for (size_t c = 0; c < scales.size(); ++c) {
    int64_t sum = bias != nullptr ? std::abs(int64_t{bias->ints[c]}) : 0;
    for (size_t i = 0; i < count; ++i) sum += word * std::abs(int{filter.bytes[c * count + i]});
    const double factor = static_cast<double>(input.scale) * static_cast<double>(scales[c]) / output.scale;
    if (sum > kMostSum) return Fail("its sums are too large");
    if (!(factor > 0.0 && factor < 1.0)) return Fail("its scales are beyond those that it takes");
    const Multiplier multiplier = QuantizeMultiplier(factor);
    if (multiplier.shift > 0) return Fail("its scales are beyond those that it takes");
    result_.mantissas.push_back(multiplier.mantissa);
    result_.shifts.push_back(-multiplier.shift);
  }
}

}  // namespace bihrnet
