#if defined(__AVX2__)
#include <immintrin.h>

#include <cstring>

#include "impl.h"

namespace bihrnet {
namespace {

constexpr int kStep = 8;

inline __m128 Even(__m128 a, __m128 b) { return _mm_shuffle_ps(a, b, 0x88); }
inline __m128 Odd(__m128 a, __m128 b) { return _mm_shuffle_ps(a, b, 0xdd); }

template <int kFactor>
inline __m256 Repeated(const float* from) {
  if (kFactor == 8) return _mm256_broadcast_ss(from);
  if (kFactor == 4) {
    double two;
    std::memcpy(&two, from, sizeof(two));  // not aligned as a double
    return _mm256_permutevar_ps(_mm256_castpd_ps(_mm256_set1_pd(two)), _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
  }
  const __m256 four = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(from));
  return _mm256_permutevar_ps(four, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
}

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
    for (; end - to >= kStep; to += kStep, from += kStep / kFactor) _mm256_storeu_ps(to, Repeated<kFactor>(from));
    for (unsigned i = 0; to != end; ++i) *to++ = from[i / kFactor];
  });
}

inline void EverySecond(const uint8_t* from, uint8_t* to, int count) {
  const __m128i low = _mm_set1_epi16(0x00ff);
  int i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * i));
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * i + 16));
    const __m128i bytes = _mm_packus_epi16(_mm_and_si128(a, low), _mm_and_si128(b, low));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), bytes);
  }
  for (; i + 8 <= count; i += 8) {
    const __m128i a = _mm_and_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * i)), low);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to + i), _mm_packus_epi16(a, a));
  }
  for (; i < count; ++i) to[i] = from[2 * i];
}

// Four pixels of a halved row.
inline void HalveFour(const float* upper, const float* lower, float* to) {
  const __m128 u0 = _mm_loadu_ps(upper), u1 = _mm_loadu_ps(upper + 4);
  const __m128 l0 = _mm_loadu_ps(lower), l1 = _mm_loadu_ps(lower + 4);
  const __m128 sum = _mm_add_ps(_mm_add_ps(_mm_add_ps(Even(u0, u1), Odd(u0, u1)), Even(l0, l1)), Odd(l0, l1));
  _mm_storeu_ps(to, _mm_mul_ps(sum, _mm_set1_ps(0.25f)));
}

inline void HalveVectors(const float* upper, const float* lower, float* to, int pixels) {
  int i = 0;
  for (; i + kStep <= pixels; i += kStep) {
    const __m256 u0 = _mm256_loadu_ps(upper + 2 * i), u1 = _mm256_loadu_ps(upper + 2 * i + 8);
    const __m256 l0 = _mm256_loadu_ps(lower + 2 * i), l1 = _mm256_loadu_ps(lower + 2 * i + 8);
    __m256 sum = _mm256_add_ps(_mm256_shuffle_ps(u0, u1, 0x88), _mm256_shuffle_ps(u0, u1, 0xdd));
    sum = _mm256_add_ps(sum, _mm256_shuffle_ps(l0, l1, 0x88));
    sum = _mm256_add_ps(sum, _mm256_shuffle_ps(l0, l1, 0xdd));
    sum = _mm256_mul_ps(sum, _mm256_set1_ps(0.25f));
    // The shuffles took pairs from each half.
    _mm256_storeu_ps(to + i, _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(sum), 0xd8)));
  }
  if (i == pixels) return;
  if (pixels < 4) return HalveRow(upper, lower, to, i, pixels);
  if (pixels - i >= 4) HalveFour(upper + 2 * i, lower + 2 * i, to + i);
  // The last four, some of them once more: rows of six pixels are common.
  const int last = pixels - 4;
  HalveFour(upper + 2 * last, lower + 2 * last, to + last);
}

}  // namespace

void HalveRowsAvx2(const Halve& args) {
  const float* upper = args.from;
  float* to = args.to;
  for (int row = 0; row < args.rows; ++row, upper += 2 * args.from_pitch, to += args.to_pitch) {
    HalveVectors(upper, upper + args.from_pitch, to, args.pixels);
  }
}

void RepeatRowsAvx2(const Repeat& args) {
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

void EverySecondAvx2(const Alternate& args) {
  const uint8_t* from = args.from;
  uint8_t* to = args.to;
  for (int row = 0; row < args.rows; ++row, from += args.from_pitch, to += args.to_pitch) {
    EverySecond(from, to, args.count);
  }
}

}  // namespace bihrnet
#endif
