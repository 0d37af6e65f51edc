#if defined(__AVX2__)
#include <immintrin.h>

#include "impl.h"

namespace bihrnet {
namespace {

inline __m256i Load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline void Store(void* to, __m256i value) { _mm256_storeu_si256(static_cast<__m256i*>(to), value); }

inline __m256i Sloped(__m256i x, __m256i slope, __m256i round, __m128i shift) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i a = _mm256_mulhrs_epi16(_mm256_unpacklo_epi8(zero, x), slope);
  const __m256i b = _mm256_mulhrs_epi16(_mm256_unpackhi_epi8(zero, x), slope);
  return _mm256_packs_epi16(_mm256_sra_epi16(_mm256_adds_epi16(a, round), shift),
                            _mm256_sra_epi16(_mm256_adds_epi16(b, round), shift));
}

// A byte is looked up in sixteen parts of the table, fifteen of which give 0: there its place, 112 more, is beyond 127.
inline __m256i LookUp(const int8_t* table, __m256i x) {
  __m256i place = _mm256_xor_si256(x, _mm256_set1_epi8(-128));
  __m256i y = _mm256_setzero_si256();
#pragma GCC unroll 16
  for (int part = 0; part < 16; ++part) {
    const __m256i bytes =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * part)));
    y = _mm256_or_si256(y, _mm256_shuffle_epi8(bytes, _mm256_adds_epu8(place, _mm256_set1_epi8(112))));
    place = _mm256_sub_epi8(place, _mm256_set1_epi8(16));
  }
  return y;
}

// Means of 16 pairs of pixels in two rows, as words.
inline __m256i Means(const int8_t* upper, const int8_t* lower) {
  const __m256i ones = _mm256_set1_epi8(1);
  const __m256i sum =
      _mm256_add_epi16(_mm256_maddubs_epi16(ones, Load(upper)), _mm256_maddubs_epi16(ones, Load(lower)));
  const __m256i mean = _mm256_srli_epi16(_mm256_add_epi16(_mm256_abs_epi16(sum), _mm256_set1_epi16(2)), 2);
  return _mm256_sign_epi16(mean, sum);
}

// Sixteen pixels of a halved row, and eight.
inline void HalveSixteen(const int8_t* upper, const int8_t* lower, int8_t* to) {
  const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packs_epi16(Means(upper, lower), _mm256_setzero_si256()), 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(bytes));
}

inline void HalveEight(const int8_t* upper, const int8_t* lower, int8_t* to) {
  const __m128i ones = _mm_set1_epi8(1);
  const __m128i sum = _mm_add_epi16(_mm_maddubs_epi16(ones, _mm_loadu_si128(reinterpret_cast<const __m128i*>(upper))),
                                    _mm_maddubs_epi16(ones, _mm_loadu_si128(reinterpret_cast<const __m128i*>(lower))));
  const __m128i mean = _mm_srli_epi16(_mm_add_epi16(_mm_abs_epi16(sum), _mm_set1_epi16(2)), 2);
  const __m128i bytes = _mm_sign_epi16(mean, sum);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packs_epi16(bytes, bytes));
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

void ByteMapAvx2(const ByteMapArgs& args) {
  for (int c = 0; c < args.channels; ++c) {
    const ByteMap& map = args.maps[c];
    if (map.table != nullptr) {
      for (int p = 0; p < args.pixels; p += kLanes) {
        Store(args.rows[c] + p, LookUp(map.table, Load(args.source[c] + p)));
      }
      continue;
    }
    const __m256i slope = _mm256_set1_epi16(map.slope);
    const __m256i round = _mm256_set1_epi16(map.round);
    const __m128i shift = _mm_cvtsi32_si128(map.shift);
    const __m256i least = _mm256_set1_epi8(-128);
    for (int p = 0; p < args.pixels; p += kLanes) {
      const __m256i x = Load(args.source[c] + p);
      Store(args.rows[c] + p, _mm256_max_epi8(map.or_x ? x : least, Sloped(x, slope, round, shift)));
    }
  }
}

void ByteHalveAvx2(const ByteHalve& args) {
  const int8_t* upper = args.from;
  int8_t* to = args.to;
  for (int row = 0; row < args.rows; ++row, upper += 2 * ptrdiff_t{args.from_pitch}, to += args.to_pitch) {
    const int8_t* lower = upper + args.from_pitch;
    int i = 0;
    for (; i + 16 <= args.pixels; i += 16) HalveSixteen(upper + 2 * i, lower + 2 * i, to + i);
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
  ForEachRow(args, [&](const int8_t* from, int x, int8_t* to, int count) {
    from += x >> shift;
    int8_t* const end = to + count;
    const int begun = x & (args.factor - 1);
    if (begun != 0) {
      for (int i = begun; i < args.factor && to != end; ++i) *to++ = *from;
      ++from;
    }
    for (; end - to >= kStep; to += kStep, from += kStep >> shift) {
      const __m128i few = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_shuffle_epi8(few, order));
    }
    for (int i = 0; to != end; ++i) *to++ = from[i >> shift];
  });
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
