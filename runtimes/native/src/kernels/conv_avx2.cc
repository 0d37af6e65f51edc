#if defined(__AVX2__)
#include <immintrin.h>

#include <cstring>

#include "impl.h"

namespace bihrnet {
namespace {

constexpr int kTile = 4;  // pixels: with 16 channels, 8 of 16 registers hold sums

// Two words of a window, in every lane.
inline __m256i Broadcast(const int16_t* words) {
  int32_t both;
  std::memcpy(&both, words, sizeof(both));
  return _mm256_set1_epi32(both);
}

inline __m256i Load(const int16_t* words) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)); }

// Eight channels of kTile pixels to rows: transposed in both halves, a half is four channels.
template <int kPixels>
inline void Store(const ConvRow& args, const __m256i* sums, int first, int pixel) {
  if (first >= args.channels) return;
  const __m256 multiplier = _mm256_loadu_ps(args.multiplier + first);
  const __m256 bias = _mm256_loadu_ps(args.bias + first);
  __m256 v[kTile];
  for (int p = 0; p < kTile; ++p) {
    v[p] =
        p < kPixels ? _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sums[p]), multiplier), bias) : _mm256_setzero_ps();
  }
  const __m256 a = _mm256_unpacklo_ps(v[0], v[1]);
  const __m256 b = _mm256_unpackhi_ps(v[0], v[1]);
  const __m256 c = _mm256_unpacklo_ps(v[2], v[3]);
  const __m256 d = _mm256_unpackhi_ps(v[2], v[3]);
  const __m256 rows[4] = {_mm256_shuffle_ps(a, c, 0x44), _mm256_shuffle_ps(a, c, 0xee), _mm256_shuffle_ps(b, d, 0x44),
                          _mm256_shuffle_ps(b, d, 0xee)};
  for (int i = 0; i < 8 && first + i < args.channels; ++i) {
    const __m128 row = i < 4 ? _mm256_castps256_ps128(rows[i]) : _mm256_extractf128_ps(rows[i - 4], 1);
    float* to = args.rows[first + i] + pixel;
    if (kPixels == kTile) {
      _mm_storeu_ps(to, row);
    } else {
      alignas(16) float values[kTile];
      _mm_store_ps(values, row);
      for (int p = 0; p < kPixels; ++p) to[p] = values[p];
    }
  }
}

template <int kPixels>
inline void Tile(const ConvRow& args, int pixel) {
  const int16_t* window = args.words + static_cast<size_t>(pixel) * args.step;
  const size_t step = args.step;
  const int16_t* weight = args.weights;
  __m256i low[kTile], high[kTile];
  for (int p = 0; p < kPixels; ++p) low[p] = high[p] = _mm256_setzero_si256();
  for (int run = 0; run < args.runs; ++run) {
    const int16_t* from = window + args.offsets[run];
    for (int pair = 0; pair < args.pairs; ++pair, from += 2, weight += 2 * kConvChannels) {
      const __m256i first = Load(weight), second = Load(weight + kConvChannels);
#pragma GCC unroll 4
      for (int p = 0; p < kPixels; ++p) {
        const __m256i words = Broadcast(from + p * step);
        low[p] = _mm256_add_epi32(low[p], _mm256_madd_epi16(words, first));
        high[p] = _mm256_add_epi32(high[p], _mm256_madd_epi16(words, second));
      }
    }
  }
  Store<kPixels>(args, low, 0, pixel);
  Store<kPixels>(args, high, 8, pixel);
}

// As the scalar kernel rounds, clamps and takes NaN: max and min give their second operand where the first is NaN, and
// a number between integers rounds to one between them.
template <bool kPrelu>
inline __m256i Rounded(const float* from, const float* alpha, __m256 low, __m256 high) {
  __m256 x = _mm256_loadu_ps(from);
  if (kPrelu) {
    const __m256 negative = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_NGE_UQ);
    x = _mm256_blendv_ps(x, _mm256_mul_ps(x, _mm256_loadu_ps(alpha)), negative);
  }
  return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(x, low), high));
}

// 16 channels of a pixel.
template <bool kPrelu>
inline void Convert(const float* from, const float* alpha, __m256 low, __m256 high, int16_t* to) {
  const __m256i a = Rounded<kPrelu>(from, alpha, low, high);
  const __m256i b = Rounded<kPrelu>(from + 8, alpha + 8, low, high);
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), words);
}

template <bool kPrelu>
void WordsFrom(const Words& args) {
  const __m256 low = _mm256_set1_ps(args.low), high = _mm256_set1_ps(args.high);
  const int whole = args.channels / 16 * 16;
  const int rest = args.channels - whole;
  alignas(32) float none[16] = {};
  alignas(32) float last_alpha[16] = {};
  if (kPrelu) std::memcpy(last_alpha, args.alpha + whole, rest * sizeof(float));
  for (int p = 0; p < args.pixels; ++p) {
    const float* from = args.nhwc + static_cast<size_t>(p) * args.nhwc_pitch;
    int16_t* to = args.words + static_cast<size_t>(p) * args.words_pitch;
    for (int c = 0; c < whole; c += 16) {
      Convert<kPrelu>(from + c, kPrelu ? args.alpha + c : none, low, high, to + c);
    }
    if (rest == 0) continue;
    alignas(32) float values[16] = {};
    alignas(32) int16_t words[16];
    std::memcpy(values, from + whole, rest * sizeof(float));
    Convert<kPrelu>(values, last_alpha, low, high, words);
    if (rest % 2 != 0) words[rest] = 0;
    std::memcpy(to + whole, words, PixelWords(rest) * sizeof(int16_t));
  }
}

}  // namespace

void WordsFromNhwcAvx2(const Words& args) { args.alpha != nullptr ? WordsFrom<true>(args) : WordsFrom<false>(args); }

void ConvAvx2(const ConvRow& args) {
  int pixel = 0;
  for (; pixel + kTile <= args.pixels; pixel += kTile) Tile<kTile>(args, pixel);
  switch (args.pixels - pixel) {
    case 3:
      return Tile<3>(args, pixel);
    case 2:
      return Tile<2>(args, pixel);
    case 1:
      return Tile<1>(args, pixel);
    default:
      return;
  }
}

}  // namespace bihrnet
#endif
