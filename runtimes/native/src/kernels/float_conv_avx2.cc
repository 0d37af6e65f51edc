#if defined(__AVX2__)
#include <immintrin.h>

#include "impl.h"

namespace bihrnet {
namespace {

constexpr int kTile = 4;  // pixels: with 16 channels, 8 of 16 registers hold sums

template <int kPixels>
inline void Tile(const FloatConvRow& args, int pixel) {
  // Copies: the compiler cannot know that what is stored is none of these.
  const int rows = args.rows, taps = args.taps, depth = args.depth;
  const size_t row_step = args.row_step, tap_step = args.tap_step, weight_row = args.weight_row;
  const size_t step = args.step;
  const float* window = args.image + pixel * step;
  const __m256 low_bias = _mm256_loadu_ps(args.bias), high_bias = _mm256_loadu_ps(args.bias + 8);
  __m256 low[kPixels], high[kPixels];
  for (int p = 0; p < kPixels; ++p) low[p] = low_bias, high[p] = high_bias;
  for (int row = 0; row < rows; ++row) {
    const float* weight = args.weights + row * weight_row;
    for (int tap = 0; tap < taps; ++tap) {
      const float* from = window + row * row_step + tap * tap_step;
      const float* end = from + depth;
      for (; from != end; ++from, weight += kConvChannels) {
        const __m256 first = _mm256_loadu_ps(weight), second = _mm256_loadu_ps(weight + 8);
#pragma GCC unroll 4
        for (int p = 0; p < kPixels; ++p) {
          const __m256 x = _mm256_broadcast_ss(from + p * step);
          low[p] = _mm256_add_ps(low[p], _mm256_mul_ps(x, first));
          high[p] = _mm256_add_ps(high[p], _mm256_mul_ps(x, second));
        }
      }
    }
  }
  for (int p = 0; p < kPixels; ++p) {
    float* to = args.nhwc + static_cast<size_t>(pixel + p) * kConvChannels;
    _mm256_storeu_ps(to, low[p]);
    _mm256_storeu_ps(to + 8, high[p]);
  }
}

}  // namespace

void FloatConvAvx2(const FloatConvRow& args) {
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
