// The lookup table of the binary convolution: popcounts of two weight nibbles against all sixteen sign nibbles.
#pragma once

#include <array>
#include <cstdint>

namespace bihrnet {

// Row w, column s: popcount((w & 15) ^ s) | popcount((w >> 4) ^ s) << 4. Row 256 (kNoWeights) is zero.
struct alignas(64) PairTable {
  uint8_t row[257][16];
};

constexpr PairTable MakePairTable() {
  PairTable table{};
  for (unsigned w = 0; w < 256; ++w) {
    for (unsigned s = 0; s < 16; ++s) {
      unsigned counts[2] = {0, 0};
      for (unsigned bit = 0; bit < 4; ++bit) {
        counts[0] += ((w ^ s) >> bit) & 1;
        counts[1] += (((w >> 4) ^ s) >> bit) & 1;
      }
      table.row[w][s] = static_cast<uint8_t>(counts[0] | counts[1] << 4);
    }
  }
  return table;
}

inline constexpr PairTable kPairTable = MakePairTable();

}  // namespace bihrnet
