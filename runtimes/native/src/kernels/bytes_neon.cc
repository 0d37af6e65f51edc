#if defined(__aarch64__)
#include <arm_neon.h>

#include "impl.h"

namespace bihrnet {
namespace {

constexpr int kStep = 16;

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

inline int8x8_t Sloped(const ByteCurve& curve, int8x8_t x) {
  const int16x8_t scaled = vqrdmulhq_n_s16(vshlq_n_s16(vmovl_s8(x), 8), curve.slope);
  return vqmovn_s16(vshrq_n_s16(vaddq_s16(scaled, vdupq_n_s16(curve.round)), 8));
}

}  // namespace

void ByteEpilogueNeon(const ByteEpilogue& args) {
  for (int c = 0; c < args.channels; ++c) {
    const ByteCurve& curve = args.curves[c];
    if (curve.table != nullptr) {
      ByteTableRow(args, c);
      continue;
    }
    const uint16_t* acc = args.acc + c * kTilePixels;
    for (int p = 0; p < args.pixels; p += kStep) {
      int8x16_t x = vcombine_s8(vqmovn_s16(Nearest(args, curve, vld1q_u16(acc + p))),
                                vqmovn_s16(Nearest(args, curve, vld1q_u16(acc + p + 8))));
      if (curve.has_slope) {
        x = vmaxq_s8(x, vcombine_s8(Sloped(curve, vget_low_s8(x)), Sloped(curve, vget_high_s8(x))));
      }
      if (args.residual != nullptr) x = vqaddq_s8(x, vld1q_s8(args.residual[c] + p));
      if (args.second_residual != nullptr) x = vqaddq_s8(x, vld1q_s8(args.second_residual[c] + p));
      vst1q_s8(args.rows[c] + p, x);
    }
  }
}

void ByteSumOfNeon(const ByteSum& args) {
  for (int c = 0; c < args.channels; ++c) {
    for (int p = 0; p < args.pixels; p += kStep) {
      vst1q_s8(args.rows[c] + p, vqaddq_s8(vld1q_s8(args.a[c] + p), vld1q_s8(args.b[c] + p)));
    }
  }
}

void ByteSignsNeon(const ByteSigns& args) {
  for (int p = 0; p < args.pixels; p += kStep) {
    uint8x16_t nibbles = vdupq_n_u8(args.always);
    for (int c = 0; c < args.channels; ++c) {
      const uint8x16_t below = vcltq_s8(vld1q_s8(args.rows[c] + p), vdupq_n_s8(args.thresholds[c]));
      nibbles = vorrq_u8(nibbles, vandq_u8(below, vdupq_n_u8(static_cast<uint8_t>(1 << c))));
    }
    vst1q_u8(args.nibbles + p, vandq_u8(nibbles, vld1q_u8(args.mask + p)));
  }
}

}  // namespace bihrnet
#endif
