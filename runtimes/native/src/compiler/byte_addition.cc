#include "compiler/byte_addition.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/byte_sum.h"

namespace bihrnet {
namespace {

constexpr int kTries = 4;          // factors to both sides of the exact one
constexpr int kMostWeights = 128;  // together: more would not fit the kernels' words
constexpr double kSameRatio = 1e-5;

// Where both scales are multiples of a third, a sum has few values, and rounds like a product of words: ties go away
// from zero, or, where the error of TensorFlow Lite's scales leads there, all towards it.
class Whole {
 public:
  explicit Whole(const ByteAddition& how) {
    for (int a = -128; a < 128; ++a) {
      for (int b = -128; b < 128; ++b) {
        bytes_.push_back(static_cast<int8_t>(std::clamp<int32_t>(AddBytes(how, a, b), -128, 127)));
      }
    }
  }

  // `first` and `second`: the operands' scales in units of the sum's.
  bool Find(double first, double second, ByteAddition* how) const {
    for (int b = 1; b < kMostWeights; ++b) {
      const auto a = static_cast<int>(std::lround(b * first / second));
      if (a + b > kMostWeights) return false;
      if (std::fabs(a * second / (b * first) - 1) > kSameRatio) continue;
      const double factor = first / a * 32768;
      for (int far = 0; far <= kTries; ++far) {
        for (const int sign : {1, -1}) {
          const double tried = std::ceil(factor) + sign * far;
          if (tried < 1 || tried > 32767) continue;
          how->weights[0] = static_cast<int8_t>(a);
          how->weights[1] = static_cast<int8_t>(b);
          how->factor = static_cast<int16_t>(tried);
          if (a < kMostWeights && Fits(*how)) return true;
        }
      }
    }
    return false;
  }

 private:
  bool Fits(const ByteAddition& how) const {
    size_t next = 0;
    for (int a = -128; a < 128; ++a) {
      for (int b = -128; b < 128; ++b) {
        if (WholeSum(how, a, b) != bytes_[next++]) return false;
      }
    }
    return true;
  }

  std::vector<int8_t> bytes_;
};

bool Saturates(const ByteAddition& how) {
  for (int a = -128; a < 128; ++a) {
    for (int b = -128; b < 128; ++b) {
      if (std::clamp(AddBytes(how, a, b), -128, 127) != std::clamp(a + b, -128, 127)) return false;
    }
  }
  return true;
}

}  // namespace

ByteAddition ByteAdditionOf(const Tensor& a, const Tensor& b, const Tensor& sum, std::pair<int32_t, int32_t> range) {
  ByteAddition how;
  const double twice = 2 * std::max(a.scale, b.scale);
  const Multiplier second = QuantizeMultiplier(b.scale / twice);
  const Multiplier scale = QuantizeMultiplier(twice / ((1 << kAdditionShift) * sum.scale));
  how.zero_points[0] = static_cast<int16_t>(a.zero_point);
  how.zero_points[1] = static_cast<int16_t>(b.zero_point);
  how.zero_points[2] = static_cast<int16_t>(sum.zero_point);
  how.second_shift = std::max(0, kAdditionShift + second.shift);
  how.second_mantissa = kAdditionShift + second.shift < 0 ? 0 : second.mantissa;
  how.sum_mantissa = scale.mantissa;
  how.sum_shift = -scale.shift;
  how.low = static_cast<int8_t>(range.first);
  how.high = static_cast<int8_t>(range.second);
  if (range.first != -128 || range.second != 127) return how;
  if (a.zero_point + b.zero_point == sum.zero_point && Saturates(how)) {
    how.kind = ByteAddition::Kind::kSaturated;
  } else if (Whole(how).Find(a.scale / sum.scale, b.scale / sum.scale, &how)) {
    how.kind = ByteAddition::Kind::kWhole;
  }
  return how;
}

}  // namespace bihrnet
