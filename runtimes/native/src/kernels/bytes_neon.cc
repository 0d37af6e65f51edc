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

inline int8x8_t SlopedHalf(int8x8_t x, int16_t slope, int16_t round) {
  const int16x8_t scaled = vqrdmulhq_n_s16(vshlq_n_s16(vmovl_s8(x), 8), slope);
  return vqmovn_s16(vshrq_n_s16(vaddq_s16(scaled, vdupq_n_s16(round)), 8));
}

inline int8x16_t Sloped(int8x16_t x, int16_t slope, int16_t round) {
  return vcombine_s8(SlopedHalf(vget_low_s8(x), slope, round), SlopedHalf(vget_high_s8(x), slope, round));
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
      if (curve.has_slope) x = vmaxq_s8(x, Sloped(x, curve.slope, curve.round));
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

void ByteMapNeon(const ByteMapArgs& args) {
  for (int c = 0; c < args.channels; ++c) {
    const ByteMap& map = args.maps[c];
    if (map.table != nullptr) {
      ByteTableMap(args, c);
      continue;
    }
    for (int p = 0; p < args.pixels; p += kStep) {
      const int8x16_t x = vld1q_s8(args.source[c] + p);
      const int8x16_t y = Sloped(x, map.slope, map.round);
      vst1q_s8(args.rows[c] + p, map.or_x ? vmaxq_s8(x, y) : y);
    }
  }
}

void ByteHalveNeon(const ByteHalve& args) {
  for (int row = 0; row < args.rows; ++row) {
    const int8_t* upper = args.from + ptrdiff_t{2} * row * args.from_pitch;
    const int8_t* lower = upper + args.from_pitch;
    int8_t* to = args.to + ptrdiff_t{row} * args.to_pitch;
    int i = 0;
    for (; i + 8 <= args.pixels; i += 8) {
      const int16x8_t sum = vaddq_s16(vpaddlq_s8(vld1q_s8(upper + 2 * i)), vpaddlq_s8(vld1q_s8(lower + 2 * i)));
      const int16x8_t mean = vshrq_n_s16(vaddq_s16(vabsq_s16(sum), vdupq_n_s16(2)), 2);
      vst1_s8(to + i, vmovn_s16(vbslq_s16(vcltzq_s16(sum), vnegq_s16(mean), mean)));
    }
    for (; i < args.pixels; ++i) to[i] = HalfBytes(upper, lower, i);
  }
}

void ByteRepeatNeon(const ByteRepeat& args) {
  if (args.factor != 2 && args.factor != 4 && args.factor != 8) return ByteRepeatScalar(args);
  const int shift = args.factor == 2 ? 1 : args.factor == 4 ? 2 : 3;
  uint8_t places[kStep];
  for (int i = 0; i < kStep; ++i) places[i] = static_cast<uint8_t>(i >> shift);
  const uint8x16_t order = vld1q_u8(places);
  int i = 0;
  for (; i + kStep <= args.pixels; i += kStep) {
    vst1q_s8(args.to + i, vqtbl1q_s8(vld1q_s8(args.from + (i >> shift)), order));
  }
  for (; i < args.pixels; ++i) args.to[i] = args.from[i >> shift];
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
