#if defined(__aarch64__)
#include <arm_neon.h>

#include "impl.h"

namespace bihrnet {
namespace {

constexpr int kStep = 16;

struct Saturated {
  explicit Saturated(const ByteAddition&) {}

  int8x16_t operator()(int8x16_t a, int8x16_t b) const { return vqaddq_s8(a, b); }
};

struct Whole {
  int8x16_t weights[2];
  int16x8_t zero, offset;
  int16_t factor;

  explicit Whole(const ByteAddition& how)
      : weights{vdupq_n_s8(how.weights[0]), vdupq_n_s8(how.weights[1])},
        zero(vdupq_n_s16(static_cast<int16_t>(WholeZero(how)))),
        offset(vdupq_n_s16(how.zero_points[2])),
        factor(how.factor) {}

  int16x8_t Scaled(int16x8_t products) const {
    const int16x8_t sum = vsubq_s16(products, zero);
    const int16x8_t magnitude = vqrdmulhq_n_s16(vabsq_s16(sum), factor);
    return vaddq_s16(vbslq_s16(vcltzq_s16(sum), vnegq_s16(magnitude), magnitude), offset);
  }

  int8x16_t operator()(int8x16_t a, int8x16_t b) const {
    const int16x8_t low =
        vmlal_s8(vmull_s8(vget_low_s8(a), vget_low_s8(weights[0])), vget_low_s8(b), vget_low_s8(weights[1]));
    const int16x8_t high = vmlal_high_s8(vmull_high_s8(a, weights[0]), b, weights[1]);
    return vqmovn_high_s16(vqmovn_s16(Scaled(low)), Scaled(high));
  }
};

// ExactSum's steps.
struct Exact {
  int16x8_t zero_points[2];
  int32x4_t second_shift, half, sign_mask, sum_shift, offset;
  int32_t second_mantissa, sum_mantissa;
  int8x16_t low, high;

  explicit Exact(const ByteAddition& how)
      : zero_points{vdupq_n_s16(how.zero_points[0]), vdupq_n_s16(how.zero_points[1])},
        second_shift(vdupq_n_s32(how.second_shift)),
        half(vdupq_n_s32(static_cast<int32_t>((int64_t{1} << how.sum_shift) >> 1))),
        sign_mask(vdupq_n_s32(how.sum_shift > 0 ? -1 : 0)),
        sum_shift(vdupq_n_s32(-how.sum_shift)),
        offset(vdupq_n_s32(how.zero_points[2])),
        second_mantissa(how.second_mantissa),
        sum_mantissa(how.sum_mantissa),
        low(vdupq_n_s8(how.low)),
        high(vdupq_n_s8(how.high)) {}

  int16x4_t Four(int32x4_t a, int32x4_t b) const {
    const int32x4_t second = vqrdmulhq_n_s32(vshlq_s32(b, second_shift), second_mantissa);
    const int32x4_t scaled = vqrdmulhq_n_s32(vaddq_s32(vshlq_n_s32(a, 19), second), sum_mantissa);
    const int32x4_t sign = vandq_s32(vshrq_n_s32(scaled, 31), sign_mask);
    const int32x4_t y = vshlq_s32(vaddq_s32(scaled, vaddq_s32(half, sign)), sum_shift);
    return vqmovn_s32(vaddq_s32(y, offset));
  }

  int8x8_t Eight(int8x8_t a, int8x8_t b) const {
    const int16x8_t x = vsubq_s16(vmovl_s8(a), zero_points[0]), y = vsubq_s16(vmovl_s8(b), zero_points[1]);
    return vqmovn_s16(vcombine_s16(Four(vmovl_s16(vget_low_s16(x)), vmovl_s16(vget_low_s16(y))),
                                   Four(vmovl_high_s16(x), vmovl_high_s16(y))));
  }

  int8x16_t operator()(int8x16_t a, int8x16_t b) const {
    const int8x16_t sum = vcombine_s8(Eight(vget_low_s8(a), vget_low_s8(b)), Eight(vget_high_s8(a), vget_high_s8(b)));
    return vmaxq_s8(vminq_s8(sum, high), low);
  }
};

// A byte that is stored may be any of the arguments, for all that the compiler knows: they are read once.
template <typename Addition>
void Sums(const ByteSum& args) {
  const Addition add(*args.how);
  const int pixels = args.pixels;
  for (int c = 0; c < args.channels; ++c) {
    const int8_t *a = args.a[c], *b = args.b[c];
    int8_t* row = args.rows[c];
    for (int p = 0; p < pixels; p += kStep) vst1q_s8(row + p, add(vld1q_s8(a + p), vld1q_s8(b + p)));
  }
}

}  // namespace

void ByteSumOfNeon(const ByteSum& args) {
  switch (args.how->kind) {
    case ByteAddition::Kind::kExact:
      return Sums<Exact>(args);
    case ByteAddition::Kind::kWhole:
      return Sums<Whole>(args);
    case ByteAddition::Kind::kSaturated:
      return Sums<Saturated>(args);
  }
}

}  // namespace bihrnet
#endif
