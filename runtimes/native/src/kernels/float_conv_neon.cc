#if defined(__aarch64__)
#include <arm_neon.h>

#include "impl.h"

namespace bihrnet {
namespace {

constexpr int kTile = 4;  // pixels: with 16 channels, 16 of 32 registers hold sums
constexpr int kVectors = kConvChannels / 4;

template <int kPixels>
inline void Tile(const FloatConvRow& args, int pixel) {
  const size_t step = args.step;
  const float* window = args.image + pixel * step;
  float32x4_t sums[kVectors][kPixels];  // four channels each
  for (int v = 0; v < kVectors; ++v) {
    for (float32x4_t& sum : sums[v]) sum = vld1q_f32(args.bias + 4 * v);
  }
  for (int row = 0; row < args.rows; ++row) {
    const float* weight = args.weights + row * args.weight_row;
    for (int tap = 0; tap < args.taps; ++tap) {
      const float* from = window + row * args.row_step + tap * args.tap_step;
      for (int i = 0; i < args.depth; ++i, ++from, weight += kConvChannels) {
        const float32x4_t w0 = vld1q_f32(weight), w1 = vld1q_f32(weight + 4);
        const float32x4_t w2 = vld1q_f32(weight + 8), w3 = vld1q_f32(weight + 12);
#pragma GCC unroll 4
        for (int p = 0; p < kPixels; ++p) {
          const float32x4_t x = vld1q_dup_f32(from + p * step);
          sums[0][p] = vaddq_f32(sums[0][p], vmulq_f32(x, w0));
          sums[1][p] = vaddq_f32(sums[1][p], vmulq_f32(x, w1));
          sums[2][p] = vaddq_f32(sums[2][p], vmulq_f32(x, w2));
          sums[3][p] = vaddq_f32(sums[3][p], vmulq_f32(x, w3));
        }
      }
    }
  }
  for (int p = 0; p < kPixels; ++p) {
    float* to = args.nhwc + static_cast<size_t>(pixel + p) * kConvChannels;
    for (int v = 0; v < kVectors; ++v) vst1q_f32(to + 4 * v, sums[v][p]);
  }
}

}  // namespace

void FloatConvNeon(const FloatConvRow& args) {
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
