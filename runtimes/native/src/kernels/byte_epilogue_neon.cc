#if defined(__aarch64__)
#include <arm_neon.h>

#include "impl.h"

namespace bihrnet {
namespace {

constexpr int kStep = 16;  // pixels: eight even ones and eight odd ones

inline int16x8_t Nearest(const ByteEpilogue& args, const ByteCurve& curve, uint16x8_t acc) {
  int32x4_t counts[2] = {vreinterpretq_s32_u32(vshll_n_u16(vget_low_u16(acc), 1)),
                         vreinterpretq_s32_u32(vshll_n_u16(vget_high_u16(acc), 1))};
  for (int32x4_t& count : counts) {
    count = vmaxq_s32(vminq_s32(count, vdupq_n_s32(args.clamp_max)), vdupq_n_s32(args.clamp_min));
    const float32x4_t scaled = vmulq_n_f32(vcvtq_f32_s32(count), curve.multiplier);
    count = vcvtnq_s32_f32(vaddq_f32(scaled, vdupq_n_f32(curve.bias)));
  }
  return vcombine_s16(vqmovn_s32(counts[0]), vqmovn_s32(counts[1]));
}

// 256 times the byte.
inline int16x8_t OnCurve(const ByteEpilogue& args, const ByteCurve& curve, uint16x8_t acc) {
  if (curve.gain == 0) return vshlq_n_s16(vmovl_s8(vqmovn_s16(Nearest(args, curve, acc))), 8);
  const int16x8_t word = vaddq_s16(vreinterpretq_s16_u16(vmulq_n_u16(acc, curve.gain)), vdupq_n_s16(curve.base));
  return vqaddq_s16(vqrdmulhq_n_s16(word, curve.factor), vdupq_n_s16(curve.more));
}

inline int8x8_t Half(const ByteEpilogue& args, const ByteCurve& curve, const uint16_t* acc) {
  int16x8_t x = OnCurve(args, curve, vld1q_u16(acc));
  if (curve.has_slope) {
    const int16x8_t bytes = vandq_s16(x, vdupq_n_s16(static_cast<int16_t>(0xff00)));
    x = vmaxq_s16(x, vqaddq_s16(vqrdmulhq_n_s16(bytes, curve.slope), vdupq_n_s16(curve.round)));
  }
  return vshrn_n_s16(x, 8);
}

}  // namespace

void ByteEpilogueNeon(const ByteEpilogue& args) {
  for (int c = 0; c < args.channels; ++c) {
    const ByteCurve& curve = args.curves[c];
    if (curve.table != nullptr) {
      ByteTableRow(args, c);
      continue;
    }
    for (int p = 0; p < args.pixels; p += kStep) {
      const uint16_t* acc = args.acc + c * kTilePixels + p / kLanes * kLanes + p % kLanes / 2;
      const int8x8_t even = Half(args, curve, acc), odd = Half(args, curve, acc + kLanes / 2);
      int8x16_t x = vcombine_s8(vzip1_s8(even, odd), vzip2_s8(even, odd));
      if (args.residual != nullptr) x = vqaddq_s8(x, vld1q_s8(args.residual[c] + p));
      if (args.second_residual != nullptr) x = vqaddq_s8(x, vld1q_s8(args.second_residual[c] + p));
      vst1q_s8(args.rows[c] + p, x);
    }
  }
}

}  // namespace bihrnet
#endif
