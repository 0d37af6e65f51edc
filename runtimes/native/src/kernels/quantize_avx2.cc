#if defined(__AVX2__)
#include <immintrin.h>

#include "impl.h"

namespace bihrnet {

void QuantizeAvx2(const Quantize& args) {
  const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // undoes the lanes of the packs
  for (int p = 0; p < args.pixels; p += kLanes) {
    __m256i nibbles = _mm256_setzero_si256();
    for (int c = 0; c < args.channels; ++c) {
      const float* row = args.rows[c] + p;
      const __m256 bias = _mm256_set1_ps(args.bias != nullptr ? args.bias[c] : 0.0f);
      __m256i negative[4];
      for (int i = 0; i < 4; ++i) {
        const __m256 sum = _mm256_add_ps(_mm256_loadu_ps(row + 8 * i), bias);
        negative[i] = _mm256_castps_si256(_mm256_cmp_ps(sum, _mm256_setzero_ps(), _CMP_LT_OQ));
      }
      const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(negative[0], negative[1]),
                                               _mm256_packs_epi32(negative[2], negative[3]));
      nibbles = _mm256_or_si256(nibbles, _mm256_and_si256(bytes, _mm256_set1_epi8(static_cast<char>(1 << c))));
    }
    nibbles = _mm256_permutevar8x32_epi32(nibbles, in_order);
    const __m256i mask = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(args.mask + p));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(args.nibbles + p), _mm256_and_si256(nibbles, mask));
  }
}

}  // namespace bihrnet
#endif
