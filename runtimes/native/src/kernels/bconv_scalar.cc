#include <cstring>

#include "impl.h"
#include "tables.h"

namespace bihrnet {
namespace {

void Pair(const BconvTile& tile, const uint16_t* weights, uint16_t* even, uint16_t* odd) {
  const uint8_t* table = kPairTable.row[0];
  const int pixels = tile.vectors * kLanes;
  std::memset(even, 0, pixels * sizeof(*even));
  std::memset(odd, 0, pixels * sizeof(*odd));
  for (int k = 0; k < 3 * tile.triples; k += 3) {
    const uint8_t* row[3];
    const uint8_t* signs[3];
    for (int i = 0; i < 3; ++i) {
      row[i] = table + weights[k + i];
      signs[i] = tile.signs + tile.offsets[k + i];
    }
    for (int p = 0; p < pixels; ++p) {
      // Three counts of at most 4 fit a field of four bits. Behind an image lies what its memory was used for before:
      // no pixel, but not to be looked up as it is.
      const unsigned sum = row[0][signs[0][p] & 15] + row[1][signs[1][p] & 15] + row[2][signs[2][p] & 15];
      even[p] = static_cast<uint16_t>(even[p] + (sum & 15));
      odd[p] = static_cast<uint16_t>(odd[p] + (sum >> 4));
    }
  }
}

}  // namespace

void BconvScalar(const BconvTile& tile, uint16_t* acc) {
  for (int pair = 0; pair < 2; ++pair) {
    uint16_t* even = acc + 2 * pair * kTilePixels;
    Pair(tile, tile.weights + 3 * static_cast<size_t>(tile.triples) * pair, even, even + kTilePixels);
  }
  if (!tile.halves) return;
  for (int c = 0; c < kQuad; ++c) {
    uint16_t* row = acc + c * kTilePixels;
    for (int v = 0; v < tile.vectors; ++v, row += kLanes) {
      uint16_t in_order[kLanes];
      std::memcpy(in_order, row, sizeof(in_order));
      for (int p = 0; p < kLanes; ++p) row[AccumulatorAt(p, true)] = in_order[p];
    }
  }
}

}  // namespace bihrnet
