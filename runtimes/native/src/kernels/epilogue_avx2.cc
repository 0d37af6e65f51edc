#if defined(__AVX2__)
#include <immintrin.h>

#include "epilogue.h"
#include "impl.h"

namespace bihrnet {
namespace {

template <bool kClamp, bool kPrelu, int kResiduals>
void Rows(const Epilogue& args) {
  const __m256i low = _mm256_set1_epi32(args.clamp_min);
  const __m256i high = _mm256_set1_epi32(args.clamp_max);
  for (int c = 0; c < args.channels; ++c) {
    const auto* acc = reinterpret_cast<const __m128i*>(args.acc + c * kTilePixels);
    const float* first = kResiduals > 0 ? args.residual[c] : nullptr;
    const float* second = kResiduals > 1 ? args.second_residual[c] : nullptr;
    float* row = args.rows[c];
    // Where nothing is clamped, doubling is left to the multiplier.
    const __m256 multiplier = _mm256_set1_ps(kClamp ? args.multiplier[c] : 2.0f * args.multiplier[c]);
    const __m256 bias = _mm256_set1_ps(args.bias[c] + 0.0f);  // never -0
    const __m256 alpha = kPrelu ? _mm256_broadcast_ss(args.alpha + c) : _mm256_setzero_ps();
    for (int p = 0; p < args.pixels; p += kLanes) {
      // Four vectors are in flight before the first is stored: a row may be its own residual, which the compiler
      // cannot rule out to be another vector's.
      __m256 y[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        __m256i count = _mm256_cvtepu16_epi32(_mm_load_si128(acc + p / 8 + i));
        if (kClamp) count = _mm256_max_epi32(_mm256_min_epi32(_mm256_slli_epi32(count, 1), high), low);
        y[i] = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(count), multiplier), bias);
        // Without a bias of -0 no y is -0, and the blend may go by the sign bit.
        if (kPrelu) y[i] = _mm256_blendv_ps(y[i], _mm256_mul_ps(y[i], alpha), y[i]);
        if (kResiduals > 0) y[i] = _mm256_add_ps(y[i], _mm256_loadu_ps(first + p + 8 * i));
        if (kResiduals > 1) y[i] = _mm256_add_ps(y[i], _mm256_loadu_ps(second + p + 8 * i));
      }
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) _mm256_storeu_ps(row + p + 8 * i, y[i]);
    }
  }
}

}  // namespace

void EpilogueAvx2(const Epilogue& args) {
  ForEpilogue(args, [&](auto clamp, auto prelu, auto residuals) {
    Rows<decltype(clamp)::value, decltype(prelu)::value, decltype(residuals)::value>(args);
  });
}

}  // namespace bihrnet
#endif
