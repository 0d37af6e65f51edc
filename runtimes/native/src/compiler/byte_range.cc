#include "compiler/byte_range.h"

#include <algorithm>
#include <cmath>

namespace bihrnet {

// TensorFlow Lite, CalculateActivationRangeQuantized.
std::pair<int32_t, int32_t> ByteRange(const Tensor& tensor, Activation activation) {
  constexpr float kBeyondInt8 = 1e6f;  // a step of an int8 tensor that saturates wherever it starts
  const auto byte = [&](float real) {
    const float steps = std::clamp(std::round(real / tensor.scale), -kBeyondInt8, kBeyondInt8);
    return std::clamp(tensor.zero_point + static_cast<int32_t>(steps), -128, 127);
  };
  switch (activation) {
    case Activation::kRelu:
      return {byte(0.0f), 127};
    case Activation::kRelu6:
      return {byte(0.0f), byte(6.0f)};
    case Activation::kReluN1To1:
      return {byte(-1.0f), byte(1.0f)};
    case Activation::kNone:
      break;
  }
  return {-128, 127};
}

}  // namespace bihrnet
