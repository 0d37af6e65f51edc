#if defined(__aarch64__)
#include <arm_neon.h>

#include "epilogue.h"
#include "impl.h"

namespace bihrnet {
namespace {

template <bool kClamp, bool kPrelu, int kResiduals>
void Rows(const Epilogue& args) {
  const int32x4_t low = vdupq_n_s32(args.clamp_min), high = vdupq_n_s32(args.clamp_max);
  const int pixels = args.pixels;
  for (int c = 0; c < args.channels; ++c) {
    const uint16_t* acc = args.acc + c * kTilePixels;
    const float* first = kResiduals > 0 ? args.residual[c] : nullptr;
    const float* second = kResiduals > 1 ? args.second_residual[c] : nullptr;
    float* row = args.rows[c];
    // Where nothing is clamped, doubling is left to the multiplier.
    const float multiplier = kClamp ? args.multiplier[c] : 2.0f * args.multiplier[c];
    const float32x4_t bias = vdupq_n_f32(args.bias[c] + 0.0f);  // never -0
    const float alpha = kPrelu ? args.alpha[c] : 0.0f;
    for (int p = 0; p < pixels; p += 16) {
      float32x4_t y[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const uint32x4_t count = vmovl_u16(vld1_u16(acc + p + 4 * i));
        if (kClamp) {
          const int32x4_t twice = vreinterpretq_s32_u32(vshlq_n_u32(count, 1));
          y[i] = vcvtq_f32_s32(vmaxq_s32(vminq_s32(twice, high), low));
        } else {
          y[i] = vcvtq_f32_u32(count);
        }
        y[i] = vaddq_f32(vmulq_n_f32(y[i], multiplier), bias);
        if (kPrelu) y[i] = vbslq_f32(vcgezq_f32(y[i]), y[i], vmulq_n_f32(y[i], alpha));
        if (kResiduals > 0) y[i] = vaddq_f32(y[i], vld1q_f32(first + p + 4 * i));
        if (kResiduals > 1) y[i] = vaddq_f32(y[i], vld1q_f32(second + p + 4 * i));
      }
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) vst1q_f32(row + p + 4 * i, y[i]);
    }
  }
}

}  // namespace

void EpilogueNeon(const Epilogue& args) {
  ForEpilogue(args, [&](auto clamp, auto prelu, auto residuals) {
    Rows<decltype(clamp)::value, decltype(prelu)::value, decltype(residuals)::value>(args);
  });
}

}  // namespace bihrnet
#endif
