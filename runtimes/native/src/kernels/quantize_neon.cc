#if defined(__aarch64__)
#include <arm_neon.h>

#include <cmath>

#include "impl.h"

namespace bihrnet {
namespace {

// All bits of a byte where row < threshold, for 16 pixels.
inline uint8x16_t Below(const float* row, float32x4_t threshold) {
  const uint32x4_t a = vcltq_f32(vld1q_f32(row), threshold);
  const uint32x4_t b = vcltq_f32(vld1q_f32(row + 4), threshold);
  const uint32x4_t c = vcltq_f32(vld1q_f32(row + 8), threshold);
  const uint32x4_t d = vcltq_f32(vld1q_f32(row + 12), threshold);
  const uint16x8_t ab = vuzp1q_u16(vreinterpretq_u16_u32(a), vreinterpretq_u16_u32(b));
  const uint16x8_t cd = vuzp1q_u16(vreinterpretq_u16_u32(c), vreinterpretq_u16_u32(d));
  return vuzp1q_u8(vreinterpretq_u8_u16(ab), vreinterpretq_u8_u16(cd));
}

}  // namespace

void QuantizeNeon(const Quantize& args) {
  // Whatever is stored may be any of the arguments, for all that the compiler knows: they are read once.
  const float* rows[kQuad];
  float32x4_t thresholds[kQuad];
#pragma GCC unroll 4
  for (int c = 0; c < kQuad; ++c) {
    const bool given = c < args.channels;  // else nothing is below
    rows[c] = args.rows[given ? c : 0];
    thresholds[c] = vdupq_n_f32(!given ? -INFINITY : args.bias != nullptr ? -args.bias[c] : 0.0f);
  }
  const uint8_t* mask = args.mask;
  uint8_t* to = args.nibbles;
  const int pixels = args.pixels;
  for (int p = 0; p < pixels; p += 16) {
    uint8x16_t nibbles = vdupq_n_u8(0);
#pragma GCC unroll 4
    for (int c = 0; c < kQuad; ++c) {
      nibbles = vorrq_u8(nibbles, vandq_u8(Below(rows[c] + p, thresholds[c]), vdupq_n_u8(1 << c)));
    }
    vst1q_u8(to + p, vandq_u8(nibbles, vld1q_u8(mask + p)));
  }
}

}  // namespace bihrnet
#endif
