#if defined(__AVX2__)
#include <immintrin.h>

#include "impl.h"

namespace bihrnet {
namespace {

inline __m256i Load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline void Store(void* to, __m256i value) { _mm256_storeu_si256(static_cast<__m256i*>(to), value); }

// WholeSum of bytes: of all of them 128 more, so that a product of theirs with signed weights is at hand.
struct Whole {
  explicit Whole(const ByteAddition& how)
      : weights(_mm256_set1_epi16(static_cast<int16_t>(how.weights[0] | how.weights[1] << 8))),
        zero(_mm256_set1_epi16(static_cast<int16_t>(WholeZero(how) + 128 * (how.weights[0] + how.weights[1])))),
        factor(_mm256_set1_epi16(how.factor)),
        sum_zero(_mm256_set1_epi16(how.zero_points[2])) {}

  __m256i Words(__m256i pairs) const {
    const __m256i sum = _mm256_sub_epi16(_mm256_maddubs_epi16(pairs, weights), zero);
    const __m256i magnitude = _mm256_mulhrs_epi16(_mm256_abs_epi16(sum), factor);
    return _mm256_add_epi16(_mm256_sign_epi16(magnitude, sum), sum_zero);
  }
  __m256i operator()(__m256i a, __m256i b) const {
    const __m256i top = _mm256_set1_epi8(-128);
    const __m256i x = _mm256_xor_si256(a, top), y = _mm256_xor_si256(b, top);
    return _mm256_packs_epi16(Words(_mm256_unpacklo_epi8(x, y)), Words(_mm256_unpackhi_epi8(x, y)));
  }

  __m256i weights, zero, factor, sum_zero;
};

// x * mantissa / 2^31 to the nearest integer, ties up.
inline __m256i HighProduct(__m256i x, __m256i mantissa) {
  const __m256i half = _mm256_set1_epi64x(int64_t{1} << 31);
  const __m256i twice = _mm256_slli_epi32(x, 1);
  const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(twice, mantissa), half);
  const __m256i odd = _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(twice, 32), mantissa), half);
  return _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
}

// ExactSum of eight pixels, before it is saturated.
struct Exact {
  explicit Exact(const ByteAddition& how)
      : zero_a(_mm256_set1_epi32(how.zero_points[0])),
        zero_b(_mm256_set1_epi32(how.zero_points[1])),
        zero_sum(_mm256_set1_epi32(how.zero_points[2])),
        second_mantissa(_mm256_set1_epi32(how.second_mantissa)),
        sum_mantissa(_mm256_set1_epi32(how.sum_mantissa)),
        half(_mm256_set1_epi32(static_cast<int32_t>((int64_t{1} << how.sum_shift) >> 1))),
        sign(_mm256_set1_epi32(how.sum_shift > 0 ? -1 : 0)),
        second_shift(_mm_cvtsi32_si128(how.second_shift)),
        sum_shift(_mm_cvtsi32_si128(how.sum_shift)) {}

  __m256i Sum(const int8_t* a, const int8_t* b) const {
    const __m256i x = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(a)));
    const __m256i y = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(b)));
    const __m256i first = _mm256_slli_epi32(_mm256_sub_epi32(x, zero_a), 19);
    const __m256i second = HighProduct(_mm256_sll_epi32(_mm256_sub_epi32(y, zero_b), second_shift), second_mantissa);
    const __m256i scaled = HighProduct(_mm256_add_epi32(first, second), sum_mantissa);
    const __m256i up = _mm256_add_epi32(half, _mm256_and_si256(_mm256_srai_epi32(scaled, 31), sign));
    return _mm256_add_epi32(_mm256_sra_epi32(_mm256_add_epi32(scaled, up), sum_shift), zero_sum);
  }
  __m256i operator()(const int8_t* a, const int8_t* b) const {
    const __m256i low = _mm256_packs_epi32(Sum(a, b), Sum(a + 8, b + 8));
    const __m256i high = _mm256_packs_epi32(Sum(a + 16, b + 16), Sum(a + 24, b + 24));
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  }

  __m256i zero_a, zero_b, zero_sum, second_mantissa, sum_mantissa, half, sign;
  __m128i second_shift, sum_shift;
};

}  // namespace

void ByteSumOfAvx2(const ByteSum& args) {
  const ByteAddition& how = *args.how;
  const Whole whole(how);
  const Exact exact(how);
  const __m256i low = _mm256_set1_epi8(how.low), high = _mm256_set1_epi8(how.high);
  for (int c = 0; c < args.channels; ++c) {
    const int8_t *a = args.a[c], *b = args.b[c];
    int8_t* row = args.rows[c];
    switch (how.kind) {
      case ByteAddition::Kind::kSaturated:
        for (int p = 0; p < args.pixels; p += kLanes) Store(row + p, _mm256_adds_epi8(Load(a + p), Load(b + p)));
        break;
      case ByteAddition::Kind::kWhole:
        for (int p = 0; p < args.pixels; p += kLanes) Store(row + p, whole(Load(a + p), Load(b + p)));
        break;
      case ByteAddition::Kind::kExact:
        for (int p = 0; p < args.pixels; p += kLanes) {
          Store(row + p, _mm256_max_epi8(_mm256_min_epi8(exact(a + p, b + p), high), low));
        }
        break;
    }
  }
}

}  // namespace bihrnet
#endif
