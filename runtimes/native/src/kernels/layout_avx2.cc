#if defined(__AVX2__)
#include <immintrin.h>

#include "impl.h"

namespace bihrnet {
namespace {

constexpr int kStep = 8;

// 4x4 transposes in both halves: v[i] holds pixels i and i + 4 on one side, channel i of 8 pixels on the other.
inline void Transpose4(__m256* v) {
  const __m256 a = _mm256_unpacklo_ps(v[0], v[1]);
  const __m256 b = _mm256_unpackhi_ps(v[0], v[1]);
  const __m256 c = _mm256_unpacklo_ps(v[2], v[3]);
  const __m256 d = _mm256_unpackhi_ps(v[2], v[3]);
  v[0] = _mm256_shuffle_ps(a, c, 0x44);
  v[1] = _mm256_shuffle_ps(a, c, 0xee);
  v[2] = _mm256_shuffle_ps(b, d, 0x44);
  v[3] = _mm256_shuffle_ps(b, d, 0xee);
}

// The rest of a row, and quads that are not whole.
void RowsFromNhwcTail(const Transpose& args, int first) {
  for (int c = 0; c < args.channels; ++c) {
    for (int p = first; p < args.pixels; ++p) {
      args.rows[c][p] = args.nhwc[static_cast<size_t>(p) * args.nhwc_channels + c];
    }
  }
}

void NhwcFromRowsTail(const Transpose& args, int first) {
  for (int c = 0; c < args.channels; ++c) {
    for (int p = first; p < args.pixels; ++p) {
      args.nhwc[static_cast<size_t>(p) * args.nhwc_channels + c] = args.rows[c][p];
    }
  }
}

}  // namespace

void RowsFromNhwcAvx2(const Transpose& args) {
  if (args.channels != kQuad) return RowsFromNhwcTail(args, 0);
  const size_t stride = args.nhwc_channels;
  int p = 0;
  for (; p + kStep <= args.pixels; p += kStep) {
    const float* from = args.nhwc + p * stride;
    __m256 v[4];
    for (int i = 0; i < 4; ++i) {
      v[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from + i * stride)),
                                  _mm_loadu_ps(from + (i + 4) * stride), 1);
    }
    Transpose4(v);
    for (int i = 0; i < 4; ++i) _mm256_storeu_ps(args.rows[i] + p, v[i]);
  }
  RowsFromNhwcTail(args, p);
}

void NhwcFromRowsAvx2(const Transpose& args) {
  if (args.channels != kQuad) return NhwcFromRowsTail(args, 0);
  const size_t stride = args.nhwc_channels;
  int p = 0;
  for (; p + kStep <= args.pixels; p += kStep) {
    float* to = args.nhwc + p * stride;
    __m256 v[4];
    for (int i = 0; i < 4; ++i) v[i] = _mm256_loadu_ps(args.rows[i] + p);
    Transpose4(v);
    for (int i = 0; i < 4; ++i) {
      _mm_storeu_ps(to + i * stride, _mm256_castps256_ps128(v[i]));
      _mm_storeu_ps(to + (i + 4) * stride, _mm256_extractf128_ps(v[i], 1));
    }
  }
  NhwcFromRowsTail(args, p);
}

}  // namespace bihrnet
#endif
