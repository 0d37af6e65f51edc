#if defined(__aarch64__)
#include <arm_neon.h>

#include "impl.h"

namespace bihrnet {
namespace {

constexpr int kStep = 8;

template <int kFactor>
void RepeatPixels(const Repeat& args) {
  ForEachRow(args, [](const float* from, int first, float* to, int count) {
    const unsigned x = static_cast<unsigned>(first);
    from += x / kFactor;
    float* const end = to + count;
    if (x % kFactor != 0) {
      for (unsigned i = x % kFactor; i < kFactor && to != end; ++i) *to++ = *from;
      ++from;
    }
    for (; end - to >= kStep; to += kStep, from += kStep / kFactor) {
      float32x4_t low, high;
      if (kFactor == 2) {
        const float32x4_t four = vld1q_f32(from);
        low = vzip1q_f32(four, four);
        high = vzip2q_f32(four, four);
      } else {
        low = vld1q_dup_f32(from);
        high = kFactor == 4 ? vld1q_dup_f32(from + 1) : low;
      }
      vst1q_f32(to, low);
      vst1q_f32(to + 4, high);
    }
    for (unsigned i = 0; to != end; ++i) *to++ = from[i / kFactor];
  });
}

inline void EverySecond(const uint8_t* from, uint8_t* to, int count) {
  int i = 0;
  for (; i + 16 <= count; i += 16) vst1q_u8(to + i, vld2q_u8(from + 2 * i).val[0]);
  for (; i + 8 <= count; i += 8) vst1_u8(to + i, vld2_u8(from + 2 * i).val[0]);
  for (; i < count; ++i) to[i] = from[2 * i];
}

inline void HalveVectors(const float* upper, const float* lower, float* to, int pixels) {
  int i = 0;
  for (; i + 4 <= pixels; i += 4) {
    const float32x4x2_t u = vld2q_f32(upper + 2 * i);
    const float32x4x2_t l = vld2q_f32(lower + 2 * i);
    const float32x4_t sum = vaddq_f32(vaddq_f32(vaddq_f32(u.val[0], u.val[1]), l.val[0]), l.val[1]);
    vst1q_f32(to + i, vmulq_n_f32(sum, 0.25f));
  }
  HalveRow(upper, lower, to, i, pixels);
}

}  // namespace

void HalveRowsNeon(const Halve& args) {
  const float* upper = args.from;
  float* to = args.to;
  for (int row = 0; row < args.rows; ++row, upper += 2 * args.from_pitch, to += args.to_pitch) {
    HalveVectors(upper, upper + args.from_pitch, to, args.pixels);
  }
}

void RepeatRowsNeon(const Repeat& args) {
  switch (args.factor) {
    case 2:
      return RepeatPixels<2>(args);
    case 4:
      return RepeatPixels<4>(args);
    case 8:
      return RepeatPixels<8>(args);
    default:
      RepeatRowsScalar(args);
  }
}

void EverySecondNeon(const Alternate& args) {
  const uint8_t* from = args.from;
  uint8_t* to = args.to;
  for (int row = 0; row < args.rows; ++row, from += args.from_pitch, to += args.to_pitch) {
    EverySecond(from, to, args.count);
  }
}

}  // namespace bihrnet
#endif
