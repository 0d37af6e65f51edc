#if defined(__AVX2__)
#include <immintrin.h>

#include "impl.h"
#include "tables.h"

namespace bihrnet {
namespace {

inline void Store(uint16_t* acc, __m256i bytes, bool first) {
  __m256i* to = reinterpret_cast<__m256i*>(acc);
  __m256i low = _mm256_cvtepu8_epi16(_mm256_castsi256_si128(bytes));
  __m256i high = _mm256_cvtepu8_epi16(_mm256_extracti128_si256(bytes, 1));
  if (!first) {
    low = _mm256_add_epi16(low, _mm256_loadu_si256(to));
    high = _mm256_add_epi16(high, _mm256_loadu_si256(to + 1));
  }
  _mm256_storeu_si256(to, low);
  _mm256_storeu_si256(to + 1, high);
}

// kPairs pairs of channels by kVectors * 32 pixels.
template <int kPairs, int kVectors>
inline void Tile(const BconvTile& tile, const uint16_t* weights, uint16_t* acc) {
  const uint8_t* table = kPairTable.row[0];
  const size_t entries = 3 * static_cast<size_t>(tile.triples);
  const __m256i field = _mm256_set1_epi8(15);
  for (int done = 0; done < tile.triples;) {
    const int end = tile.triples - done < kTriplesPerFlush ? tile.triples : done + kTriplesPerFlush;
    __m256i even[kPairs][kVectors];
    __m256i odd[kPairs][kVectors];
    for (int p = 0; p < kPairs; ++p) {
      for (int v = 0; v < kVectors; ++v) even[p][v] = odd[p][v] = _mm256_setzero_si256();
    }
    for (size_t k = 3 * static_cast<size_t>(done); k < 3 * static_cast<size_t>(end); k += 3) {
      const uint8_t* x0 = tile.signs + tile.offsets[k];
      const uint8_t* x1 = tile.signs + tile.offsets[k + 1];
      const uint8_t* x2 = tile.signs + tile.offsets[k + 2];
#pragma GCC unroll 2
      for (int p = 0; p < kPairs; ++p) {
        const uint16_t* w = weights + p * entries + k;
        const __m256i t0 = _mm256_broadcastsi128_si256(*reinterpret_cast<const __m128i*>(table + w[0]));
        const __m256i t1 = _mm256_broadcastsi128_si256(*reinterpret_cast<const __m128i*>(table + w[1]));
        const __m256i t2 = _mm256_broadcastsi128_si256(*reinterpret_cast<const __m128i*>(table + w[2]));
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          const __m256i a = _mm256_shuffle_epi8(t0, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x0) + v));
          const __m256i b = _mm256_shuffle_epi8(t1, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x1) + v));
          const __m256i c = _mm256_shuffle_epi8(t2, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x2) + v));
          const __m256i sum = _mm256_add_epi8(_mm256_add_epi8(a, b), c);
          even[p][v] = _mm256_add_epi8(even[p][v], _mm256_and_si256(sum, field));
          odd[p][v] = _mm256_add_epi16(odd[p][v], _mm256_srli_epi16(sum, 4));
        }
      }
    }
    for (int p = 0; p < kPairs; ++p) {
      for (int v = 0; v < kVectors; ++v) {
        uint16_t* to = acc + 2 * p * kTilePixels + v * kLanes;
        // Words of odd hold b + 16 c + 256 d, where c is the even field of the odd byte.
        const __m256i c16 = _mm256_slli_epi16(_mm256_srli_epi16(even[p][v], 8), 4);
        Store(to, even[p][v], done == 0);
        Store(to + kTilePixels, _mm256_sub_epi16(odd[p][v], c16), done == 0);
      }
    }
    done = end;
  }
}

template <int kVectors>
void OnePairAtATime(const BconvTile& tile, uint16_t* acc) {
  Tile<1, kVectors>(tile, tile.weights, acc);
  Tile<1, kVectors>(tile, tile.weights + 3 * static_cast<size_t>(tile.triples), acc + 2 * kTilePixels);
}

}  // namespace

void BconvAvx2(const BconvTile& tile, uint16_t* acc) {
  switch (tile.vectors) {
    case 1:
      return Tile<2, 1>(tile, tile.weights, acc);
    case 2:
      return Tile<2, 2>(tile, tile.weights, acc);
    case 3:
      return OnePairAtATime<3>(tile, acc);
    default:
      return OnePairAtATime<4>(tile, acc);
  }
}

}  // namespace bihrnet
#endif
