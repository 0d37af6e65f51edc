// A region of a TFLite graph as the compiler sees it: checked operators over tensors, nothing of the runtime in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace bihrnet {

enum class TensorType : uint8_t { kFloat, kInt8, kBits, kInt32 };

// A constant where the runtime keeps it: files do not align floats.
class Floats {
 public:
  Floats() = default;
  Floats(const void* data, size_t count) : data_(static_cast<const uint8_t*>(data)), count_(count) {}

  size_t size() const { return count_; }
  float operator[](size_t i) const {
    float value;
    std::memcpy(&value, data_ + i * sizeof(value), sizeof(value));
    return value;
  }
  std::vector<float> Copy() const {
    std::vector<float> values(count_);
    if (count_ > 0) std::memcpy(values.data(), data_, count_ * sizeof(float));
    return values;
  }

 private:
  const uint8_t* data_ = nullptr;
  size_t count_ = 0;
};

struct Tensor {
  TensorType type = TensorType::kFloat;
  std::vector<int> dims;
  bool constant = false;
  Floats floats;                    // of a constant of kFloat
  std::vector<int32_t> ints;        // of a constant of kInt32 other than a filter
  std::vector<int8_t> bytes;        // of a constant of kInt8
  const uint8_t* filter = nullptr;  // of a convolution: where the runtime keeps it, not aligned
  float scale = 0.0f;
  int32_t zero_point = 0;
  std::string name;

  // Of a constant other than a filter.
  size_t count() const { return type == TensorType::kInt8 ? bytes.size() : floats.size(); }
};

enum class Op : uint8_t {
  kBconv,
  kConv,
  kByteConv,
  kQuantize,
  kDequantize,
  kBinaryMaxPool,
  kAdd,
  kSub,
  kMul,
  kMaximum,
  kMinimum,
  kPrelu,
  kRelu,
  kRelu6,
  kReluN1To1,
  kRound,
  kConcat,
  kSlice,
  kAveragePool,
  kMaxPool,
  kMean,
  kResizeNearest,
};

enum class Activation : uint8_t { kNone, kRelu, kReluN1To1, kRelu6 };

struct Window {
  int height = 1;
  int width = 1;
  int stride_height = 1;
  int stride_width = 1;
  int dilation_height = 1;
  int dilation_width = 1;
  bool same = false;  // SAME padding, else VALID
};

struct Node {
  Op op;
  std::vector<int> inputs;  // tensors of the Graph; -1 for an optional one that is not there
  std::vector<int> outputs;
  Activation activation = Activation::kNone;
  Window window;
  int channels_in = 0;             // kBconv: the filter's channels are bitpacked
  bool pad_is_zero = false;        // kBconv with SAME: pads count as 0, not as +1
  std::vector<int32_t> mantissas;  // kByteConv, one a channel: sums are scaled by mantissa / 2^(31 + shift)
  std::vector<int32_t> shifts;
  bool align_corners = false;  // kResizeNearest
  bool half_pixel_centers = false;
  std::string name;  // of its output, for messages
};

struct Graph {
  std::vector<Tensor> tensors;
  std::vector<Node> nodes;  // in an order in which they can run
  std::vector<int> inputs;  // tensors that come from outside, constants not among them
  std::vector<int> outputs;
};

// No tensor, and no plan, goes beyond this: larger sizes are refused before memory is taken.
constexpr int64_t kMaxElements = int64_t{1} << 28;
constexpr int kMaxDimension = 1 << 20;

}  // namespace bihrnet
