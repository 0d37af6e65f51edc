#include "mini_ops.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <vector>

#include "mini_runtime.h"

namespace mini {
namespace {

TfLiteTensor* Input(TfLiteContext* context, const TfLiteNode* node, int index) {
  if (index >= node->inputs->size || node->inputs->data[index] < 0) return nullptr;
  return &context->tensors[node->inputs->data[index]];
}

TfLiteTensor* Output(TfLiteContext* context, const TfLiteNode* node) {
  return node->outputs->size == 1 ? &context->tensors[node->outputs->data[0]] : nullptr;
}

TfLiteStatus Refuse(TfLiteContext* context, const char* what) {
  context->ReportError(context, "%s is not run by the test runtime", what);
  return kTfLiteError;
}

bool IsFloat(const TfLiteTensor* tensor) {
  if (!tensor || tensor->type != kTfLiteFloat32 || tensor->sparsity) return false;
  return std::all_of(tensor->dims->data, tensor->dims->data + tensor->dims->size, [](int size) { return size > 0; });
}

const float* Floats(const TfLiteTensor* tensor) { return static_cast<const float*>(tensor->data); }

float Activate(float value, TfLiteFusedActivation activation) {
  switch (activation) {
    case kTfLiteActRelu:
      return std::max(value, 0.0f);
    case kTfLiteActReluN1To1:
      return std::min(std::max(value, -1.0f), 1.0f);
    case kTfLiteActRelu6:
      return std::min(std::max(value, 0.0f), 6.0f);
    default:
      return value;
  }
}

bool Known(TfLiteFusedActivation activation) { return activation >= kTfLiteActNone && activation <= kTfLiteActRelu6; }

// Every operator has a function for its output's shape. Invoke asks again: where two nodes of a damaged graph write one
// tensor, the shapes of Prepare may be gone.

template <bool (*Shape)(TfLiteContext*, const TfLiteNode*, std::vector<int>*)>
TfLiteStatus Prepare(TfLiteContext* context, TfLiteNode* node) {
  std::vector<int> dims;
  TfLiteTensor* output = Output(context, node);
  if (!IsFloat(output) || !Shape(context, node, &dims)) return Refuse(context, "such an operator");
  return context->ResizeTensor(context, output, NewIntArray(dims));
}

template <bool (*Shape)(TfLiteContext*, const TfLiteNode*, std::vector<int>*)>
bool IsPrepared(TfLiteContext* context, const TfLiteNode* node) {
  std::vector<int> dims;
  const TfLiteIntArray* prepared = Output(context, node)->dims;
  return Shape(context, node, &dims) && dims == std::vector<int>(prepared->data, prepared->data + prepared->size);
}

// Operators of one input.

using Dims = std::vector<int>;

bool UnaryDims(TfLiteContext* context, const TfLiteNode* node, Dims* dims) {
  const TfLiteTensor* input = Input(context, node, 0);
  if (!IsFloat(input)) return false;
  dims->assign(input->dims->data, input->dims->data + input->dims->size);
  return true;
}

template <float (*Function)(float)>
TfLiteStatus InvokeUnary(TfLiteContext* context, TfLiteNode* node) {
  const TfLiteTensor* input = Input(context, node, 0);
  TfLiteTensor* output = Output(context, node);
  if (!IsPrepared<UnaryDims>(context, node)) return kTfLiteError;
  std::transform(Floats(input), Floats(input) + input->bytes / sizeof(float), static_cast<float*>(output->data),
                 Function);
  return kTfLiteOk;
}

float Relu(float x) { return std::max(x, 0.0f); }
float RoundToEven(float x) { return std::nearbyint(x); }

// Operators of two inputs that are broadcast against one another.

int SizeFromBack(const TfLiteIntArray* dims, int axis) {
  return axis < dims->size ? dims->data[dims->size - 1 - axis] : 1;
}

bool BinaryDims(TfLiteContext* context, const TfLiteNode* node, Dims* dims) {
  const TfLiteTensor* a = Input(context, node, 0);
  const TfLiteTensor* b = Input(context, node, 1);
  if (!IsFloat(a) || !IsFloat(b)) return false;
  dims->resize(static_cast<size_t>(std::max(a->dims->size, b->dims->size)));
  for (size_t axis = 0; axis < dims->size(); ++axis) {
    const int sizes[] = {SizeFromBack(a->dims, static_cast<int>(axis)), SizeFromBack(b->dims, static_cast<int>(axis))};
    if (sizes[0] != sizes[1] && sizes[0] != 1 && sizes[1] != 1) return false;
    (*dims)[dims->size() - 1 - axis] = std::max(sizes[0], sizes[1]);
  }
  return true;
}

template <float (*Function)(float, float), bool kActivated = false>
TfLiteStatus InvokeBinary(TfLiteContext* context, TfLiteNode* node) {
  const TfLiteTensor* inputs[] = {Input(context, node, 0), Input(context, node, 1)};
  TfLiteTensor* output = Output(context, node);
  TfLiteFusedActivation activation = kTfLiteActNone;
  if (kActivated) activation = static_cast<const TfLiteArithmeticParams*>(node->builtin_data)->activation;
  if (!Known(activation)) return Refuse(context, "such an activation");
  if (!IsPrepared<BinaryDims>(context, node)) return kTfLiteError;
  const int rank = output->dims->size;
  const size_t count = output->bytes / sizeof(float);
  for (size_t i = 0; i < count; ++i) {
    size_t at[2] = {0, 0};
    for (int which = 0; which < 2; ++which) {
      size_t rest = i;
      size_t stride = 1;
      for (int axis = 0; axis < rank; ++axis) {
        const int size = SizeFromBack(inputs[which]->dims, axis);
        const size_t place = rest % static_cast<size_t>(SizeFromBack(output->dims, axis));
        rest /= static_cast<size_t>(SizeFromBack(output->dims, axis));
        if (size != 1) at[which] += place * stride;
        stride *= static_cast<size_t>(size);
      }
    }
    const float value = Function(Floats(inputs[0])[at[0]], Floats(inputs[1])[at[1]]);
    static_cast<float*>(output->data)[i] = Activate(value, activation);
  }
  return kTfLiteOk;
}

float Add(float a, float b) { return a + b; }
float Mul(float a, float b) { return a * b; }
float Minimum(float a, float b) { return std::min(a, b); }
float Maximum(float a, float b) { return std::max(a, b); }
float Prelu(float x, float alpha) { return x >= 0 ? x : x * alpha; }

// CONV_2D.

struct Axis {
  int64_t in, filter, stride, dilation, out, pad;
};

bool MeasureAxis(Axis* axis, TfLitePadding padding) {
  if (axis->stride <= 0 || axis->dilation <= 0) return false;
  const int64_t reach = (axis->filter - 1) * axis->dilation + 1;
  if (padding == kTfLitePaddingSame) {
    axis->out = (axis->in + axis->stride - 1) / axis->stride;
    axis->pad = std::max<int64_t>(0, (axis->out - 1) * axis->stride + reach - axis->in) / 2;
  } else {
    axis->out = axis->in < reach ? 0 : (axis->in - reach) / axis->stride + 1;
    axis->pad = 0;
  }
  return axis->out > 0;
}

bool MeasureConv(TfLiteContext* context, const TfLiteNode* node, Axis* rows, Axis* columns) {
  const TfLiteTensor* input = Input(context, node, 0);
  const TfLiteTensor* filter = Input(context, node, 1);
  const TfLiteTensor* bias = Input(context, node, 2);
  const auto* params = static_cast<const TfLiteConvParams*>(node->builtin_data);
  if (!params || !IsFloat(input) || !IsFloat(filter)) return false;
  const int* in = input->dims->data;
  const int* weights = filter->dims->data;
  if (input->dims->size != 4 || filter->dims->size != 4 || in[3] != weights[3]) return false;
  if (bias && (!IsFloat(bias) || bias->bytes != static_cast<size_t>(weights[0]) * sizeof(float))) return false;
  if (params->padding == kTfLitePaddingUnknown || !Known(params->activation)) return false;
  *rows = {in[1], weights[1], params->stride_height, params->dilation_height_factor, 0, 0};
  *columns = {in[2], weights[2], params->stride_width, params->dilation_width_factor, 0, 0};
  return MeasureAxis(rows, params->padding) && MeasureAxis(columns, params->padding);
}

bool ConvDims(TfLiteContext* context, const TfLiteNode* node, Dims* dims) {
  Axis rows, columns;
  if (!MeasureConv(context, node, &rows, &columns)) return false;
  *dims = {Input(context, node, 0)->dims->data[0], static_cast<int>(rows.out), static_cast<int>(columns.out),
           Input(context, node, 1)->dims->data[0]};
  return true;
}

TfLiteStatus InvokeConv(TfLiteContext* context, TfLiteNode* node) {
  const TfLiteTensor* input = Input(context, node, 0);
  const TfLiteTensor* filter = Input(context, node, 1);
  const TfLiteTensor* bias = Input(context, node, 2);
  const auto* params = static_cast<const TfLiteConvParams*>(node->builtin_data);
  Axis rows, columns;
  if (!IsPrepared<ConvDims>(context, node) || !MeasureConv(context, node, &rows, &columns)) return kTfLiteError;
  const int64_t batch = input->dims->data[0];
  const int64_t depth = input->dims->data[3];
  const int64_t channels = filter->dims->data[0];
  const double work = static_cast<double>(batch * rows.out * columns.out * channels) *
                      static_cast<double>(rows.filter * columns.filter * depth);
  if (!static_cast<Interpreter*>(context->impl_)->Work(work)) return Refuse(context, "so large a CONV_2D");
  auto* out = static_cast<float*>(Output(context, node)->data);
  for (int64_t pixel = 0; pixel < batch * rows.out * columns.out; ++pixel) {
    const int64_t image = pixel / (rows.out * columns.out);
    const int64_t top = pixel / columns.out % rows.out * rows.stride - rows.pad;
    const int64_t left = pixel % columns.out * columns.stride - columns.pad;
    for (int64_t channel = 0; channel < channels; ++channel) {
      float sum = 0;
      for (int64_t tap = 0; tap < rows.filter * columns.filter; ++tap) {
        const int64_t y = top + tap / columns.filter * rows.dilation;
        const int64_t x = left + tap % columns.filter * columns.dilation;
        if (y < 0 || y >= rows.in || x < 0 || x >= columns.in) continue;
        const float* values = Floats(input) + ((image * rows.in + y) * columns.in + x) * depth;
        const float* weights = Floats(filter) + (channel * rows.filter * columns.filter + tap) * depth;
        for (int64_t c = 0; c < depth; ++c) sum += values[c] * weights[c];
      }
      *out++ = Activate(sum + (bias ? Floats(bias)[channel] : 0.0f), params->activation);
    }
  }
  return kTfLiteOk;
}

}  // namespace

void SetReference(int32_t builtin, TfLiteRegistration* registration) {
  const auto set = [registration](auto prepare, auto invoke) {
    registration->prepare = prepare;
    registration->invoke = invoke;
  };
  switch (builtin) {
    case bihrnet::kOpAdd:
      return set(Prepare<BinaryDims>, InvokeBinary<Add, true>);
    case bihrnet::kOpMul:
      return set(Prepare<BinaryDims>, InvokeBinary<Mul, true>);
    case bihrnet::kOpMinimum:
      return set(Prepare<BinaryDims>, InvokeBinary<Minimum>);
    case bihrnet::kOpMaximum:
      return set(Prepare<BinaryDims>, InvokeBinary<Maximum>);
    case bihrnet::kOpPrelu:
      return set(Prepare<BinaryDims>, InvokeBinary<Prelu>);
    case bihrnet::kOpRelu:
      return set(Prepare<UnaryDims>, InvokeUnary<Relu>);
    case bihrnet::kOpRound:
      return set(Prepare<UnaryDims>, InvokeUnary<RoundToEven>);
    case bihrnet::kOpConv2d:
      return set(Prepare<ConvDims>, InvokeConv);
    default:
      return;
  }
}

}  // namespace mini
