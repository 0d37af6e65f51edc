#if defined(__AVX2__)
#include <immintrin.h>

#include "impl.h"

namespace bihrnet {
namespace {

// All bits of a byte where row < threshold, for kLanes pixels; bytes come in the order of the packs.
inline __m256i Below(const float* row, __m256 threshold) {
  __m256i below[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    below[i] = _mm256_castps_si256(_mm256_cmp_ps(threshold, _mm256_loadu_ps(row + 8 * i), _CMP_GT_OQ));
  }
  return _mm256_packs_epi16(_mm256_packs_epi32(below[0], below[1]), _mm256_packs_epi32(below[2], below[3]));
}

// The number of channels is known to the compiler, which then keeps all thresholds in registers.
template <int kChannels>
void Rows(const Quantize& args) {
  const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // undoes the lanes of the packs
  const float* rows[kChannels];
  __m256 thresholds[kChannels];
  for (int c = 0; c < kChannels; ++c) {
    rows[c] = args.rows[c];
    thresholds[c] = _mm256_set1_ps(args.bias != nullptr ? -args.bias[c] : 0.0f);
  }
  for (int p = 0; p < args.pixels; p += kLanes) {
    __m256i nibbles = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int c = 0; c < kChannels; ++c) {
      const __m256i bit = _mm256_set1_epi8(static_cast<char>(1 << c));
      nibbles = _mm256_or_si256(nibbles, _mm256_and_si256(Below(rows[c] + p, thresholds[c]), bit));
    }
    nibbles = _mm256_permutevar8x32_epi32(nibbles, in_order);
    const __m256i mask = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(args.mask + p));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(args.nibbles + p), _mm256_and_si256(nibbles, mask));
  }
}

}  // namespace

void QuantizeAvx2(const Quantize& args) {
  switch (args.channels) {
    case 1:
      return Rows<1>(args);
    case 2:
      return Rows<2>(args);
    case 3:
      return Rows<3>(args);
    default:
      return Rows<4>(args);
  }
}

}  // namespace bihrnet
#endif
