#if defined(__AVX2__)
#include <immintrin.h>

#include "impl.h"

namespace bihrnet {
namespace {

inline __m256i Load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline void Store(void* to, __m256i value) { _mm256_storeu_si256(static_cast<__m256i*>(to), value); }

inline __m256i Sloped(__m256i x, __m256i slope, __m256i round) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i a = _mm256_mulhrs_epi16(_mm256_unpacklo_epi8(zero, x), slope);
  const __m256i b = _mm256_mulhrs_epi16(_mm256_unpackhi_epi8(zero, x), slope);
  return _mm256_packs_epi16(_mm256_srai_epi16(_mm256_add_epi16(a, round), 8),
                            _mm256_srai_epi16(_mm256_add_epi16(b, round), 8));
}

// Eight pixels of a halved row.
inline void HalveEight(const int8_t* upper, const int8_t* lower, int8_t* to) {
  const __m128i ones = _mm_set1_epi8(1);
  const __m128i sum = _mm_add_epi16(_mm_maddubs_epi16(ones, _mm_loadu_si128(reinterpret_cast<const __m128i*>(upper))),
                                    _mm_maddubs_epi16(ones, _mm_loadu_si128(reinterpret_cast<const __m128i*>(lower))));
  const __m128i mean = _mm_srli_epi16(_mm_add_epi16(_mm_abs_epi16(sum), _mm_set1_epi16(2)), 2);
  const __m128i bytes = _mm_sign_epi16(mean, sum);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packs_epi16(bytes, bytes));
}

// One instance a combination: what is not asked for costs nothing.
template <bool kClamp, bool kSlope, int kResiduals>
void Row(const ByteEpilogue& args, int c) {
  const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // undoes the lanes of the packs
  const __m256i low = _mm256_set1_epi32(args.clamp_min);
  const __m256i high = _mm256_set1_epi32(args.clamp_max);
  const ByteCurve& curve = args.curves[c];
  const auto* acc = reinterpret_cast<const __m128i*>(args.acc + c * kTilePixels);
  const int8_t* first = kResiduals > 0 ? args.residual[c] : nullptr;
  const int8_t* second = kResiduals > 1 ? args.second_residual[c] : nullptr;
  int8_t* row = args.rows[c];
  // Where nothing is clamped, doubling is left to the multiplier.
  const __m256 multiplier = _mm256_set1_ps(kClamp ? curve.multiplier : 2.0f * curve.multiplier);
  const __m256 bias = _mm256_set1_ps(curve.bias);
  const __m256i slope = _mm256_set1_epi16(curve.slope);
  const __m256i round = _mm256_set1_epi16(curve.round);
  for (int p = 0; p < args.pixels; p += kLanes) {
    __m256i y[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      __m256i count = _mm256_cvtepu16_epi32(_mm_load_si128(acc + p / 8 + i));
      if (kClamp) count = _mm256_max_epi32(_mm256_min_epi32(_mm256_slli_epi32(count, 1), high), low);
      y[i] = _mm256_cvtps_epi32(_mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(count), multiplier), bias));
    }
    __m256i x = _mm256_packs_epi16(_mm256_packs_epi32(y[0], y[1]), _mm256_packs_epi32(y[2], y[3]));
    if (kSlope) x = _mm256_max_epi8(x, Sloped(x, slope, round));
    x = _mm256_permutevar8x32_epi32(x, in_order);
    if (kResiduals > 0) x = _mm256_adds_epi8(x, Load(first + p));
    if (kResiduals > 1) x = _mm256_adds_epi8(x, Load(second + p));
    Store(row + p, x);
  }
}

template <bool kClamp, bool kSlope>
void WithResiduals(const ByteEpilogue& args, int c) {
  if (args.second_residual != nullptr) return Row<kClamp, kSlope, 2>(args, c);
  if (args.residual != nullptr) return Row<kClamp, kSlope, 1>(args, c);
  Row<kClamp, kSlope, 0>(args, c);
}

template <int kChannels>
void Signs(const ByteSigns& args) {
  __m256i thresholds[kChannels];
  const int8_t* rows[kChannels];
  for (int c = 0; c < kChannels; ++c) {
    thresholds[c] = _mm256_set1_epi8(args.thresholds[c]);
    rows[c] = args.rows[c];
  }
  const __m256i always = _mm256_set1_epi8(static_cast<char>(args.always));
  for (int p = 0; p < args.pixels; p += kLanes) {
    __m256i nibbles = always;
#pragma GCC unroll 4
    for (int c = 0; c < kChannels; ++c) {
      const __m256i bit = _mm256_set1_epi8(static_cast<char>(1 << c));
      nibbles = _mm256_or_si256(nibbles, _mm256_and_si256(_mm256_cmpgt_epi8(thresholds[c], Load(rows[c] + p)), bit));
    }
    Store(args.nibbles + p, _mm256_and_si256(nibbles, Load(args.mask + p)));
  }
}

}  // namespace

void ByteEpilogueAvx2(const ByteEpilogue& args) {
  const bool clamp = args.clamp_min > 0 || args.clamp_max < 2 * 65535;
  for (int c = 0; c < args.channels; ++c) {
    if (args.curves[c].table != nullptr) {
      ByteTableRow(args, c);
    } else if (args.curves[c].has_slope) {
      clamp ? WithResiduals<true, true>(args, c) : WithResiduals<false, true>(args, c);
    } else {
      clamp ? WithResiduals<true, false>(args, c) : WithResiduals<false, false>(args, c);
    }
  }
}

void ByteSumOfAvx2(const ByteSum& args) {
  for (int c = 0; c < args.channels; ++c) {
    for (int p = 0; p < args.pixels; p += kLanes) {
      Store(args.rows[c] + p, _mm256_adds_epi8(Load(args.a[c] + p), Load(args.b[c] + p)));
    }
  }
}

void ByteMapAvx2(const ByteMapArgs& args) {
  for (int c = 0; c < args.channels; ++c) {
    const ByteMap& map = args.maps[c];
    if (map.table != nullptr) {
      ByteTableMap(args, c);
      continue;
    }
    const __m256i slope = _mm256_set1_epi16(map.slope);
    const __m256i round = _mm256_set1_epi16(map.round);
    const __m256i least = _mm256_set1_epi8(-128);
    for (int p = 0; p < args.pixels; p += kLanes) {
      const __m256i x = Load(args.source[c] + p);
      Store(args.rows[c] + p, _mm256_max_epi8(map.or_x ? x : least, Sloped(x, slope, round)));
    }
  }
}

void ByteHalveAvx2(const ByteHalve& args) {
  const int8_t* upper = args.from;
  int8_t* to = args.to;
  for (int row = 0; row < args.rows; ++row, upper += 2 * ptrdiff_t{args.from_pitch}, to += args.to_pitch) {
    const int8_t* lower = upper + args.from_pitch;
    int i = 0;
    for (; i + 8 <= args.pixels; i += 8) HalveEight(upper + 2 * i, lower + 2 * i, to + i);
    if (i == args.pixels) continue;
    if (args.pixels >= 8) {
      // The last eight, some of them once more.
      const int last = args.pixels - 8;
      HalveEight(upper + 2 * last, lower + 2 * last, to + last);
      continue;
    }
    for (; i < args.pixels; ++i) to[i] = HalfBytes(upper, lower, i);
  }
}

void ByteRepeatAvx2(const ByteRepeat& args) {
  if (args.factor != 2 && args.factor != 4 && args.factor != 8) return ByteRepeatScalar(args);
  constexpr int kStep = 16;
  const int shift = args.factor == 2 ? 1 : args.factor == 4 ? 2 : 3;
  alignas(16) int8_t places[kStep];
  for (int i = 0; i < kStep; ++i) places[i] = static_cast<int8_t>(i >> shift);
  const __m128i order = _mm_load_si128(reinterpret_cast<const __m128i*>(places));
  int i = 0;
  for (; i + kStep <= args.pixels; i += kStep) {
    const __m128i few = _mm_loadu_si128(reinterpret_cast<const __m128i*>(args.from + (i >> shift)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(args.to + i), _mm_shuffle_epi8(few, order));
  }
  for (; i < args.pixels; ++i) args.to[i] = args.from[i >> shift];
}

void ByteSignsAvx2(const ByteSigns& args) {
  switch (args.channels) {
    case 1:
      return Signs<1>(args);
    case 2:
      return Signs<2>(args);
    case 3:
      return Signs<3>(args);
    default:
      return Signs<4>(args);
  }
}

}  // namespace bihrnet
#endif
