#if defined(__aarch64__)
#include <arm_neon.h>

#include <cstring>

#include "impl.h"

namespace bihrnet {
namespace {

constexpr int kTile = 4;  // pixels: with 16 channels, 16 of 32 registers hold sums

template <int kPixels>
inline void Tile(const ConvRow& args, int pixel) {
  const int16_t* window = args.words + static_cast<size_t>(pixel) * args.step;
  const size_t step = args.step;
  const int16_t* weight = args.weights;
  int32x4_t sums[4][kPixels];  // four channels each
  for (auto& quad : sums) {
    for (int32x4_t& sum : quad) sum = vdupq_n_s32(0);
  }
  for (int run = 0; run < args.runs; ++run) {
    const int16_t* from = window + args.offsets[run];
    for (int pair = 0; pair < args.pairs; ++pair, from += 2, weight += 2 * kConvChannels) {
      const int16x8x2_t first = vld2q_s16(weight), second = vld2q_s16(weight + kConvChannels);
#pragma GCC unroll 4
      for (int p = 0; p < kPixels; ++p) {
        uint32_t both;
        std::memcpy(&both, from + p * step, sizeof(both));
        const int16x4_t words = vcreate_s16(both);
        sums[0][p] = vmlal_lane_s16(sums[0][p], vget_low_s16(first.val[0]), words, 0);
        sums[1][p] = vmlal_high_lane_s16(sums[1][p], first.val[0], words, 0);
        sums[2][p] = vmlal_lane_s16(sums[2][p], vget_low_s16(second.val[0]), words, 0);
        sums[3][p] = vmlal_high_lane_s16(sums[3][p], second.val[0], words, 0);
        sums[0][p] = vmlal_lane_s16(sums[0][p], vget_low_s16(first.val[1]), words, 1);
        sums[1][p] = vmlal_high_lane_s16(sums[1][p], first.val[1], words, 1);
        sums[2][p] = vmlal_lane_s16(sums[2][p], vget_low_s16(second.val[1]), words, 1);
        sums[3][p] = vmlal_high_lane_s16(sums[3][p], second.val[1], words, 1);
      }
    }
  }
#pragma GCC unroll 4  // else the sums have to lie in memory
  for (int c = 0; c < kConvChannels; c += kQuad) {
    if (c >= args.channels) break;
    const float32x4_t multiplier = vld1q_f32(args.multiplier + c);
    const float32x4_t bias = vld1q_f32(args.bias + c);
#pragma GCC unroll 4
    for (int p = 0; p < kPixels; ++p) {
      float values[kQuad];
      vst1q_f32(values, vaddq_f32(vmulq_f32(vcvtq_f32_s32(sums[c / kQuad][p]), multiplier), bias));
      for (int i = 0; i < kQuad && c + i < args.channels; ++i) args.rows[c + i][pixel + p] = values[i];
    }
  }
}

// As the scalar kernel rounds, clamps and takes NaN, which no comparison lets through.
template <bool kPrelu>
inline int16x4_t Rounded(const float* from, const float* alpha, float32x4_t low, float32x4_t high) {
  float32x4_t x = vld1q_f32(from);
  if (kPrelu) x = vbslq_f32(vcgezq_f32(x), x, vmulq_f32(x, vld1q_f32(alpha)));
  x = vbslq_f32(vcgtq_f32(x, low), x, low);
  x = vbslq_f32(vcltq_f32(x, high), x, high);
  return vqmovn_s32(vcvtnq_s32_f32(x));
}

template <bool kPrelu>
void WordsFrom(const Words& args) {
  const float32x4_t low = vdupq_n_f32(args.low), high = vdupq_n_f32(args.high);
  const int whole = args.channels / 4 * 4;
  const int rest = args.channels - whole;
  const float none[4] = {};
  float last_alpha[4] = {};
  if (kPrelu) std::memcpy(last_alpha, args.alpha + whole, rest * sizeof(float));
  for (int p = 0; p < args.pixels; ++p) {
    const float* from = args.nhwc + static_cast<size_t>(p) * args.nhwc_pitch;
    int16_t* to = args.words + static_cast<size_t>(p) * args.words_pitch;
    for (int c = 0; c < whole; c += 4) {
      vst1_s16(to + c, Rounded<kPrelu>(from + c, kPrelu ? args.alpha + c : none, low, high));
    }
    if (rest == 0) continue;
    float values[4] = {};
    int16_t words[4];
    std::memcpy(values, from + whole, rest * sizeof(float));
    vst1_s16(words, Rounded<kPrelu>(values, last_alpha, low, high));
    if (rest % 2 != 0) words[rest] = 0;
    std::memcpy(to + whole, words, PixelWords(rest) * sizeof(int16_t));
  }
}

}  // namespace

void WordsFromNhwcNeon(const Words& args) { args.alpha != nullptr ? WordsFrom<true>(args) : WordsFrom<false>(args); }

void ConvNeon(const ConvRow& args) {
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
