#if defined(__AVX2__)
#include <immintrin.h>

#include "impl.h"

namespace bihrnet {
namespace {

inline __m256i Load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline void Store(void* to, __m256i value) { _mm256_storeu_si256(static_cast<__m256i*>(to), value); }

struct Slope {
  explicit Slope(const ByteCurve& curve)
      : slope(_mm256_set1_epi16(curve.slope)), round(_mm256_set1_epi16(curve.round)) {}

  // Words of 256 times a byte, their low bits not looked at; of the result the low bits mean nothing.
  __m256i Words(__m256i x) const {
    const __m256i bytes = _mm256_and_si256(x, _mm256_set1_epi16(static_cast<int16_t>(0xff00)));
    return _mm256_max_epi16(x, _mm256_adds_epi16(_mm256_mulhrs_epi16(bytes, slope), round));
  }

  __m256i slope, round;
};

// Words all the way: even and odd pixels never leave their halves until their bytes lie side by side.
template <bool kSlope>
struct WordCurve {
  WordCurve(const ByteEpilogue&, const ByteCurve& curve)
      : gain(_mm256_set1_epi16(static_cast<int16_t>(curve.gain))),
        base(_mm256_set1_epi16(curve.base)),
        factor(_mm256_set1_epi16(curve.factor)),
        more(_mm256_set1_epi16(curve.more)),
        slope(curve) {}

  __m256i Words(__m256i acc) const {
    const __m256i word = _mm256_add_epi16(_mm256_mullo_epi16(acc, gain), base);
    const __m256i x = _mm256_adds_epi16(_mm256_mulhrs_epi16(word, factor), more);
    return kSlope ? slope.Words(x) : x;
  }
  __m256i operator()(const uint16_t* acc) const {
    const __m256i even = Words(Load(acc)), odd = Words(Load(acc + kLanes / 2));
    return _mm256_blendv_epi8(_mm256_srli_epi16(even, 8), odd, _mm256_set1_epi16(static_cast<int16_t>(0xff00)));
  }

  __m256i gain, base, factor, more;
  Slope slope;
};

template <bool kSlope, bool kClamp>
struct FloatCurve {
  // Where nothing is clamped, doubling is left to the multiplier.
  FloatCurve(const ByteEpilogue& args, const ByteCurve& curve)
      : multiplier(_mm256_set1_ps(kClamp ? curve.multiplier : 2.0f * curve.multiplier)),
        bias(_mm256_set1_ps(curve.bias)),
        low(_mm256_set1_epi32(args.clamp_min)),
        high(_mm256_set1_epi32(args.clamp_max)),
        slope(curve) {}

  __m256i Rounded(__m256i count) const {
    if (kClamp) count = _mm256_max_epi32(_mm256_min_epi32(_mm256_slli_epi32(count, 1), high), low);
    return _mm256_cvtps_epi32(_mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(count), multiplier), bias));
  }
  __m256i Words(__m256i acc) const {
    const __m256i zero = _mm256_setzero_si256();
    return _mm256_packs_epi32(Rounded(_mm256_unpacklo_epi16(acc, zero)), Rounded(_mm256_unpackhi_epi16(acc, zero)));
  }
  __m256i operator()(const uint16_t* acc) const {
    const __m256i in_turn =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15));
    const __m256i halves = _mm256_packs_epi16(Words(Load(acc)), Words(Load(acc + kLanes / 2)));
    __m256i x = _mm256_shuffle_epi8(halves, in_turn);
    if (!kSlope) return x;
    const __m256i even = slope.Words(_mm256_slli_epi16(x, 8)), odd = slope.Words(x);
    return _mm256_blendv_epi8(_mm256_srli_epi16(even, 8), odd, _mm256_set1_epi16(static_cast<int16_t>(0xff00)));
  }

  __m256 multiplier, bias;
  __m256i low, high;
  Slope slope;
};

// One instance a combination: what is not asked for costs nothing.
template <typename Curve, int kResiduals>
void Row(const ByteEpilogue& args, int c) {
  const Curve curve(args, args.curves[c]);
  const uint16_t* acc = args.acc + c * kTilePixels;
  const int8_t* first = kResiduals > 0 ? args.residual[c] : nullptr;
  const int8_t* second = kResiduals > 1 ? args.second_residual[c] : nullptr;
  int8_t* row = args.rows[c];
  for (int p = 0; p < args.pixels; p += kLanes) {
    __m256i x = curve(acc + p);
    if (kResiduals > 0) x = _mm256_adds_epi8(x, Load(first + p));
    if (kResiduals > 1) x = _mm256_adds_epi8(x, Load(second + p));
    Store(row + p, x);
  }
}

template <typename Curve>
void WithResiduals(const ByteEpilogue& args, int c) {
  if (args.second_residual != nullptr) return Row<Curve, 2>(args, c);
  if (args.residual != nullptr) return Row<Curve, 1>(args, c);
  Row<Curve, 0>(args, c);
}

template <bool kSlope>
void Curves(const ByteEpilogue& args, int c) {
  const bool clamp = args.clamp_min > 0 || args.clamp_max < 2 * 65535;
  if (args.curves[c].gain != 0) return WithResiduals<WordCurve<kSlope>>(args, c);
  clamp ? WithResiduals<FloatCurve<kSlope, true>>(args, c) : WithResiduals<FloatCurve<kSlope, false>>(args, c);
}

}  // namespace

void ByteEpilogueAvx2(const ByteEpilogue& args) {
  for (int c = 0; c < args.channels; ++c) {
    if (args.curves[c].table != nullptr) {
      ByteTableRow(args, c);
    } else {
      args.curves[c].has_slope ? Curves<true>(args, c) : Curves<false>(args, c);
    }
  }
}

}  // namespace bihrnet
#endif
