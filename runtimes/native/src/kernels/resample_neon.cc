#if defined(__aarch64__)
#include <arm_neon.h>

#include "impl.h"

namespace bihrnet {

void HalveRowNeon(const Halve& args) {
  int i = 0;
  for (; i + 4 <= args.pixels; i += 4) {
    const float32x4x2_t upper = vld2q_f32(args.upper + 2 * i);
    const float32x4x2_t lower = vld2q_f32(args.lower + 2 * i);
    const float32x4_t sum = vaddq_f32(vaddq_f32(vaddq_f32(upper.val[0], upper.val[1]), lower.val[0]), lower.val[1]);
    vst1q_f32(args.row + i, vmulq_n_f32(sum, 0.25f));
  }
  if (i < args.pixels) HalveRowScalar({args.upper + 2 * i, args.lower + 2 * i, args.row + i, args.pixels - i});
}

void RepeatRowNeon(const Repeat& args) {
  const int factor = args.factor;
  if (factor != 2 && factor != 4 && factor != 8) return RepeatRowScalar(args);
  int i = 0;
  for (; i < args.count && (args.x + i) % factor != 0; ++i) args.row[i] = args.from[args.x / factor];
  const float* from = args.from + (args.x + i) / factor;
  for (; i + 8 <= args.count; i += 8, from += 8 / factor) {
    float32x4_t first, second;
    if (factor == 2) {
      const float32x4_t four = vld1q_f32(from);
      first = vzip1q_f32(four, four);
      second = vzip2q_f32(four, four);
    } else {
      first = vld1q_dup_f32(from);
      second = factor == 4 ? vld1q_dup_f32(from + 1) : first;
    }
    vst1q_f32(args.row + i, first);
    vst1q_f32(args.row + i + 4, second);
  }
  for (int p = 0; i < args.count; ++i, ++p) args.row[i] = from[p / factor];
}

void EverySecondNeon(const uint8_t* from, uint8_t* to, int count) {
  int i = 0;
  for (; i + 16 <= count; i += 16) vst1q_u8(to + i, vld2q_u8(from + 2 * i).val[0]);
  for (; i + 8 <= count; i += 8) vst1_u8(to + i, vld2_u8(from + 2 * i).val[0]);
  for (; i < count; ++i) to[i] = from[2 * i];
}

}  // namespace bihrnet
#endif
