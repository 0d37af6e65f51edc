// Per three nibbles, a pair of output channels and 16 pixels: 3 tbl, 2 add, then total += s and odd += s >> 4, which is
// one usra. The even field is total - 16 odd modulo 256, exact because it stays below 256. That is 7 instructions for
// 384 multiply-adds. Both pairs share the loads of the signs, and 64 pixels share the loads of the table rows.
#if defined(__aarch64__)
#include <arm_neon.h>

#include "impl.h"
#include "tables.h"

namespace bihrnet {
namespace {

// Adds the byte sums of 16 pixels to two rows of accumulators.
inline void Flush(uint8x16_t total, uint8x16_t odd, bool first, uint16_t* acc) {
  const uint8x16_t even = vsubq_u8(total, vshlq_n_u8(odd, 4));
  const uint8x16_t bytes[2] = {even, odd};
  for (int i = 0; i < 2; ++i, acc += kTilePixels) {
    const uint16x8_t zero = vdupq_n_u16(0);
    vst1q_u16(acc, vaddw_u8(first ? zero : vld1q_u16(acc), vget_low_u8(bytes[i])));
    vst1q_u16(acc + 8, vaddw_high_u8(first ? zero : vld1q_u16(acc + 8), bytes[i]));
  }
}

// Four channels by kVectors * 16 pixels.
template <int kVectors>
void Quad(const BconvTile& tile, int pixel, uint16_t* acc) {
  const uint8_t* table = kPairTable.row[0];
  const uint8_t* signs = tile.signs + pixel;
  const int32_t* offsets = tile.offsets;
  const uint16_t* weights[2] = {tile.weights, tile.weights + 3 * static_cast<size_t>(tile.triples)};
  for (int done = 0; done < tile.triples;) {
    const int some = tile.triples - done < kTriplesPerFlush ? tile.triples - done : kTriplesPerFlush;
    uint8x16_t total[2][kVectors];
    uint8x16_t odd[2][kVectors];
    for (int pair = 0; pair < 2; ++pair) {
      for (int v = 0; v < kVectors; ++v) total[pair][v] = odd[pair][v] = vdupq_n_u8(0);
    }
    for (int k = 0; k < some; ++k) {
      uint8x16_t rows[2][3];
      for (int pair = 0; pair < 2; ++pair) {
        for (int i = 0; i < 3; ++i) rows[pair][i] = vld1q_u8(table + weights[pair][i]);
        weights[pair] += 3;
      }
      const uint8_t* from[3] = {signs + offsets[0], signs + offsets[1], signs + offsets[2]};
      offsets += 3;
      for (int v = 0; v < kVectors; ++v) {
        const uint8x16_t x0 = vld1q_u8(from[0] + 16 * v);
        const uint8x16_t x1 = vld1q_u8(from[1] + 16 * v);
        const uint8x16_t x2 = vld1q_u8(from[2] + 16 * v);
        for (int pair = 0; pair < 2; ++pair) {
          const uint8x16_t sum = vaddq_u8(vaddq_u8(vqtbl1q_u8(rows[pair][0], x0), vqtbl1q_u8(rows[pair][1], x1)),
                                          vqtbl1q_u8(rows[pair][2], x2));
          total[pair][v] = vaddq_u8(total[pair][v], sum);
          odd[pair][v] = vsraq_n_u8(odd[pair][v], sum, 4);
        }
      }
    }
    for (int pair = 0; pair < 2; ++pair) {
      for (int v = 0; v < kVectors; ++v) {
        Flush(total[pair][v], odd[pair][v], done == 0, acc + 2 * pair * kTilePixels + pixel + 16 * v);
      }
    }
    done += some;
  }
}

}  // namespace

void BconvNeon(const BconvTile& tile, uint16_t* acc) {
  int vector = 0;
  for (; vector + 2 <= tile.vectors; vector += 2) Quad<4>(tile, vector * kLanes, acc);
  if (vector < tile.vectors) Quad<2>(tile, vector * kLanes, acc);
}

}  // namespace bihrnet
#endif
