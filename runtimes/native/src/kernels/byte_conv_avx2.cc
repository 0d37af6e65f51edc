#if defined(__AVX2__)
#include <immintrin.h>

#include <cstring>

#include "impl.h"

namespace bihrnet {
namespace {

constexpr int kTile = 6;  // pixels: with 16 channels, 12 of 16 registers hold sums

// Two words of a window, in every lane.
inline __m256i Broadcast(const int16_t* words) {
  int32_t both;
  std::memcpy(&both, words, sizeof(both));
  return _mm256_set1_epi32(both);
}

inline __m256i Load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }

// Eight channels of a pixel, without the offset.
inline __m256i Scaled(const ByteConvRow& args, int c, __m256i sum) {
  const __m256i half = _mm256_set1_epi64x(int64_t{1} << 31);
  const __m256i twice = _mm256_slli_epi32(sum, 1);
  const __m256i mantissa = Load(args.mantissa + c);
  const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(twice, mantissa), half);
  const __m256i odd =
      _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(twice, 32), _mm256_srli_epi64(mantissa, 32)), half);
  const __m256i first = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
  const __m256i shift = Load(args.shift + c);
  const __m256i up = _mm256_srli_epi32(_mm256_sllv_epi32(_mm256_set1_epi32(1), shift), 1);
  return _mm256_srav_epi32(_mm256_add_epi32(first, up), shift);
}

// 16 channels of a pixel, in order.
inline __m256i Bytes(const ByteConvRow& args, __m256i low, __m256i high) {
  __m256i x = _mm256_packs_epi32(Scaled(args, 0, low), Scaled(args, 8, high));
  x = _mm256_adds_epi16(x, _mm256_set1_epi16(static_cast<int16_t>(args.offset)));
  x = _mm256_max_epi16(_mm256_min_epi16(x, _mm256_set1_epi16(static_cast<int16_t>(args.high))),
                       _mm256_set1_epi16(static_cast<int16_t>(args.low)));
  return _mm256_permute4x64_epi64(x, 0xd8);
}

inline void StoreWords(const ByteConvRow& args, __m256i x, int pixel) {
  if (args.slope != nullptr) {
    const __m256i scaled = _mm256_mulhrs_epi16(_mm256_slli_epi16(x, 8), Load(args.slope));
    x = _mm256_max_epi16(x, _mm256_srai_epi16(_mm256_adds_epi16(scaled, Load(args.round)), 8));
  }
  x = _mm256_sub_epi16(x, _mm256_set1_epi16(args.zero_point));
  int16_t* to = args.to + static_cast<size_t>(pixel) * args.to_pitch;
  if (args.channels == kConvChannels) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), x);
  } else {
    alignas(32) int16_t words[kConvChannels];
    _mm256_store_si256(reinterpret_cast<__m256i*>(words), x);
    std::memcpy(to, words, args.channels * sizeof(int16_t));
  }
}

template <int kPixels>
inline void Tile(const ByteConvRow& args, int pixel) {
  const int16_t* window = args.words + static_cast<size_t>(pixel) * args.step;
  const size_t step = args.step;
  const int16_t* weight = args.weights;
  const int pairs = args.pairs;
  __m256i low[kPixels], high[kPixels];
  for (int p = 0; p < kPixels; ++p) low[p] = Load(args.bias), high[p] = Load(args.bias + 8);
  for (int run = 0; run < args.runs; ++run) {
    const int16_t* from = window + args.offsets[run];
    for (int pair = 0; pair < pairs; ++pair, from += 2, weight += 2 * kConvChannels) {
      const __m256i first = Load(weight), second = Load(weight + kConvChannels);
#pragma GCC unroll 6
      for (int p = 0; p < kPixels; ++p) {
        const __m256i words = Broadcast(from + p * step);
        low[p] = _mm256_add_epi32(low[p], _mm256_madd_epi16(words, first));
        high[p] = _mm256_add_epi32(high[p], _mm256_madd_epi16(words, second));
      }
    }
  }
  if (args.to != nullptr) {
    for (int p = 0; p < kPixels; ++p) StoreWords(args, Bytes(args, low[p], high[p]), pixel + p);
    return;
  }
  alignas(32) int16_t bytes[kPixels][kConvChannels];
  for (int p = 0; p < kPixels; ++p)
    _mm256_store_si256(reinterpret_cast<__m256i*>(bytes[p]), Bytes(args, low[p], high[p]));
  for (int c = 0; c < args.channels; ++c) {
    int8_t* row = args.rows[c] + pixel;
    for (int p = 0; p < kPixels; ++p) row[p] = static_cast<int8_t>(bytes[p][c]);
  }
}

}  // namespace

void ByteConvAvx2(const ByteConvRow& args) {
  int pixel = 0;
  for (; pixel + kTile <= args.pixels; pixel += kTile) Tile<kTile>(args, pixel);
  for (; pixel + 2 <= args.pixels; pixel += 2) Tile<2>(args, pixel);
  if (pixel < args.pixels) Tile<1>(args, pixel);
}

}  // namespace bihrnet
#endif
