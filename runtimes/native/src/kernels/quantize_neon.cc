#if defined(__aarch64__)
#include <arm_neon.h>

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
  for (int p = 0; p < args.pixels; p += 16) {
    uint8x16_t nibbles = vdupq_n_u8(0);
    for (int c = 0; c < args.channels; ++c) {
      const float32x4_t threshold = vdupq_n_f32(args.bias != nullptr ? -args.bias[c] : 0.0f);
      const uint8x16_t bit = vdupq_n_u8(static_cast<uint8_t>(1 << c));
      nibbles = vorrq_u8(nibbles, vandq_u8(Below(args.rows[c] + p, threshold), bit));
    }
    vst1q_u8(args.nibbles + p, vandq_u8(nibbles, vld1q_u8(args.mask + p)));
  }
}

}  // namespace bihrnet
#endif
