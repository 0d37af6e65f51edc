#if defined(__aarch64__)
#include <arm_neon.h>

#include <cmath>

#include "impl.h"

namespace bihrnet {
namespace {

// As in epilogue_avx2.cc: one instance a combination, doubling left to the multiplier where nothing is clamped.
template <bool kClamp, bool kPrelu, int kResiduals>
void Rows(const Epilogue& args) {
  const int32x4_t low = vdupq_n_s32(args.clamp_min), high = vdupq_n_s32(args.clamp_max);
  const int pixels = args.pixels;
  for (int c = 0; c < args.channels; ++c) {
    const uint16_t* acc = args.acc + c * kTilePixels;
    const float* first = kResiduals > 0 ? args.residual[c] : nullptr;
    const float* second = kResiduals > 1 ? args.second_residual[c] : nullptr;
    float* row = args.rows[c];
    const float multiplier = kClamp ? args.multiplier[c] : 2.0f * args.multiplier[c];
    const float32x4_t bias = vdupq_n_f32(args.bias[c] + 0.0f);  // never -0
    const float alpha = kPrelu ? args.alpha[c] : 0.0f;
    for (int p = 0; p < pixels; p += 16) {
      float32x4_t y[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        uint32x4_t count = vmovl_u16(vld1_u16(acc + p + 4 * i));
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

template <bool kClamp, bool kPrelu>
void WithResiduals(const Epilogue& args) {
  if (args.second_residual != nullptr) return Rows<kClamp, kPrelu, 2>(args);
  if (args.residual != nullptr) return Rows<kClamp, kPrelu, 1>(args);
  Rows<kClamp, kPrelu, 0>(args);
}

}  // namespace

void EpilogueNeon(const Epilogue& args) {
  bool clamp = args.clamp_min > 0 || args.clamp_max < 2 * 65535;
  for (int c = 0; c < args.channels; ++c) clamp |= std::isinf(2.0f * args.multiplier[c]);
  if (args.alpha != nullptr) {
    clamp ? WithResiduals<true, true>(args) : WithResiduals<false, true>(args);
  } else {
    clamp ? WithResiduals<true, false>(args) : WithResiduals<false, false>(args);
  }
}

}  // namespace bihrnet
#endif
