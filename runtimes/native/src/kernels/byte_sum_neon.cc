#if defined(__aarch64__)
#include <arm_neon.h>

#include "impl.h"

namespace bihrnet {
namespace {

constexpr int kStep = 16;

inline int8x8_t WholeHalf(const ByteAddition& how, int8x8_t a, int8x8_t b) {
  const int16x8_t products = vmlal_s8(vmull_s8(a, vdup_n_s8(how.weights[0])), b, vdup_n_s8(how.weights[1]));
  const int16x8_t sum = vsubq_s16(products, vdupq_n_s16(static_cast<int16_t>(WholeZero(how))));
  const int16x8_t magnitude = vqrdmulhq_n_s16(vabsq_s16(sum), how.factor);
  const int16x8_t y = vbslq_s16(vcltzq_s16(sum), vnegq_s16(magnitude), magnitude);
  return vqmovn_s16(vaddq_s16(y, vdupq_n_s16(how.zero_points[2])));
}

inline int8x16_t WholeOf(const ByteAddition& how, int8x16_t a, int8x16_t b) {
  return vcombine_s8(WholeHalf(how, vget_low_s8(a), vget_low_s8(b)), WholeHalf(how, vget_high_s8(a), vget_high_s8(b)));
}

// ExactSum, before it is saturated.
inline int16x4_t ExactOf(const ByteAddition& how, int16x4_t a, int16x4_t b) {
  const int32x4_t first = vshlq_n_s32(vsubl_s16(a, vdup_n_s16(how.zero_points[0])), 19);
  const int32x4_t shifted = vshlq_s32(vsubl_s16(b, vdup_n_s16(how.zero_points[1])), vdupq_n_s32(how.second_shift));
  const int32x4_t second = vqrdmulhq_n_s32(shifted, how.second_mantissa);
  const int32x4_t scaled = vqrdmulhq_n_s32(vaddq_s32(first, second), how.sum_mantissa);
  const int32x4_t half = vdupq_n_s32(static_cast<int32_t>((int64_t{1} << how.sum_shift) >> 1));
  const int32x4_t sign = vandq_s32(vshrq_n_s32(scaled, 31), vdupq_n_s32(how.sum_shift > 0 ? -1 : 0));
  const int32x4_t y = vshlq_s32(vaddq_s32(scaled, vaddq_s32(half, sign)), vdupq_n_s32(-how.sum_shift));
  return vqmovn_s32(vaddq_s32(y, vdupq_n_s32(how.zero_points[2])));
}

inline int8x16_t ExactOf(const ByteAddition& how, int8x16_t a, int8x16_t b) {
  const auto half = [&](int16x8_t x, int16x8_t y) {
    return vqmovn_s16(
        vcombine_s16(ExactOf(how, vget_low_s16(x), vget_low_s16(y)), ExactOf(how, vget_high_s16(x), vget_high_s16(y))));
  };
  return vcombine_s8(half(vmovl_s8(vget_low_s8(a)), vmovl_s8(vget_low_s8(b))),
                     half(vmovl_s8(vget_high_s8(a)), vmovl_s8(vget_high_s8(b))));
}

}  // namespace

void ByteSumOfNeon(const ByteSum& args) {
  const ByteAddition& how = *args.how;
  for (int c = 0; c < args.channels; ++c) {
    for (int p = 0; p < args.pixels; p += kStep) {
      const int8x16_t a = vld1q_s8(args.a[c] + p), b = vld1q_s8(args.b[c] + p);
      int8x16_t sum;
      if (how.kind == ByteAddition::Kind::kExact) {
        sum = vmaxq_s8(vminq_s8(ExactOf(how, a, b), vdupq_n_s8(how.high)), vdupq_n_s8(how.low));
      } else if (how.kind == ByteAddition::Kind::kWhole) {
        sum = WholeOf(how, a, b);
      } else {
        sum = vqaddq_s8(a, b);
      }
      vst1q_s8(args.rows[c] + p, sum);
    }
  }
}

}  // namespace bihrnet
#endif
