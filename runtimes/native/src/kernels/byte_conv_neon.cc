#if defined(__aarch64__)
#include <arm_neon.h>

#include <cstring>

#include "impl.h"

namespace bihrnet {
namespace {

constexpr int kTile = 4;  // pixels: with 16 channels, 16 of 32 registers hold sums

// Four channels of a pixel.
inline int16x4_t Bytes(const ByteConvRow& args, int c, int32x4_t sum) {
  const int32x4_t first = vqrdmulhq_s32(sum, vld1q_s32(args.mantissa + c));
  const int32x4_t second = vrshlq_s32(first, vnegq_s32(vld1q_s32(args.shift + c)));
  const int16x4_t x = vqadd_s16(vqmovn_s32(second), vdup_n_s16(static_cast<int16_t>(args.offset)));
  return vmax_s16(vmin_s16(x, vdup_n_s16(static_cast<int16_t>(args.high))), vdup_n_s16(static_cast<int16_t>(args.low)));
}

inline void StoreFour(const ByteConvRow& args, int c, int pixel, int16x4_t x) {
  int16_t words[kQuad];
  const int channels = args.channels - c < kQuad ? args.channels - c : kQuad;
  if (args.to == nullptr) {
    vst1_s16(words, x);
    for (int i = 0; i < channels; ++i) args.rows[c + i][pixel] = static_cast<int8_t>(words[i]);
    return;
  }
  if (args.slope != nullptr) {
    const int16x4_t scaled = vqrdmulh_s16(vshl_n_s16(x, 8), vld1_s16(args.slope + c));
    x = vmax_s16(x, vshr_n_s16(vqadd_s16(scaled, vld1_s16(args.round + c)), 8));
  }
  vst1_s16(words, vsub_s16(x, vdup_n_s16(args.zero_point)));
  std::memcpy(args.to + static_cast<size_t>(pixel) * args.to_pitch + c, words, channels * sizeof(int16_t));
}

template <int kPixels>
inline void Tile(const ByteConvRow& args, int pixel) {
  const int16_t* window = args.words + static_cast<size_t>(pixel) * args.step;
  const size_t step = args.step;
  const int16_t* weight = args.weights;
  int32x4_t sums[4][kPixels];  // four channels each
  for (int quad = 0; quad < 4; ++quad) {
    for (int32x4_t& sum : sums[quad]) sum = vld1q_s32(args.bias + quad * kQuad);
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
#pragma GCC unroll 4
    for (int p = 0; p < kPixels; ++p) StoreFour(args, c, pixel + p, Bytes(args, c, sums[c / kQuad][p]));
  }
}

}  // namespace

void ByteConvNeon(const ByteConvRow& args) {
  int pixel = 0;
  for (; pixel + kTile <= args.pixels; pixel += kTile) Tile<kTile>(args, pixel);
  for (; pixel < args.pixels; ++pixel) Tile<1>(args, pixel);
}

}  // namespace bihrnet
#endif
