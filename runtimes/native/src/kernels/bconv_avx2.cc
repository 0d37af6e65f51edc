// Two pairs of channels by 64 pixels at a time, so that both pairs share the loads of the signs: unaligned loads, half
// of them across a cache line, are what a Zen core runs out of next to its shuffles. The inner loops are written out
// because compilers spill here, or fold the shared loads into the shuffles again, which costs up to a third of the
// speed; scaled addresses in place of pointers that move cost a tenth.
#if defined(__AVX2__)
#include <immintrin.h>

#include "impl.h"
#include "tables.h"

namespace bihrnet {
namespace {

// Where a tile is in its lists of nibbles, and where the lists' rows and signs are.
struct Cursor {
  const int32_t* offsets;
  const uint16_t* weights[2];
  const uint8_t* signs;
};

// Byte sums. Bytes of even are the even channel's counts; words of odd are b + 16 c + 256 d where b and d are the odd
// channel's counts of two pixels and c is the even channel's of the second, which shifting words leaves there.
template <int kVectors>
struct Sums {
  __m256i even[2][kVectors];
  __m256i odd[2][kVectors];
};

// clang-format off
// Where the signs of three nibbles are: r8, r9, r10. Two of the offsets come with one load.
#define BIHRNET_OFFSETS                             \
  "movq (%[offsets]), %%r9\n\t"                     \
  "movslq %%r9d, %%r8\n\t"                          \
  "sarq $32, %%r9\n\t"                              \
  "movslq 8(%[offsets]), %%r10\n\t"

// Nibble i: both pairs' rows to ymm8 and ymm9.
#define BIHRNET_ROWS(i)                             \
  "movzwl 2*" #i "(%[w0]), %%eax\n\t"               \
  "vbroadcasti128 (%[table],%%rax), %%ymm8\n\t"     \
  "movzwl 2*" #i "(%[w1]), %%ecx\n\t"               \
  "vbroadcasti128 (%[table],%%rcx), %%ymm9\n\t"

// Counts of three nibbles, at most 12 a field, to the byte sums.
#define BIHRNET_SPLIT(sum, even, odd)               \
  "vpsrlw $4, " sum ", %%ymm10\n\t"                 \
  "vpand %[fields], " sum ", " sum "\n\t"           \
  "vpaddw %%ymm10, " odd ", " odd "\n\t"            \
  "vpaddb " sum ", " even ", " even "\n\t"

#define BIHRNET_ZERO(x) "vpxor " x ", " x ", " x "\n\t"

// The next triple, until the last.
#define BIHRNET_LOOP                                \
  "add $12, %[offsets]\n\t"                         \
  "add $6, %[w0]\n\t"                               \
  "add $6, %[w1]\n\t"                               \
  "cmp %[end], %[offsets]\n\t"                      \
  "jne 1b"

// 64 pixels: pair 0's counts to ymm11 and ymm12, pair 1's to ymm13 and ymm14.
#define BIHRNET_FIRST_OF_64                         \
  BIHRNET_ROWS(0)                                   \
  "vmovdqu (%[signs],%%r8), %%ymm10\n\t"            \
  "vpshufb %%ymm10, %%ymm8, %%ymm11\n\t"            \
  "vpshufb %%ymm10, %%ymm9, %%ymm13\n\t"            \
  "vmovdqu 32(%[signs],%%r8), %%ymm10\n\t"          \
  "vpshufb %%ymm10, %%ymm8, %%ymm12\n\t"            \
  "vpshufb %%ymm10, %%ymm9, %%ymm14\n\t"
// The first vector is loaded twice for want of a register.
#define BIHRNET_NEXT_OF_64(i, offset)               \
  BIHRNET_ROWS(i)                                   \
  "vpshufb (%[signs]," offset "), %%ymm8, %%ymm10\n\t" \
  "vpaddb %%ymm10, %%ymm11, %%ymm11\n\t"            \
  "vpshufb (%[signs]," offset "), %%ymm9, %%ymm10\n\t" \
  "vpaddb %%ymm10, %%ymm13, %%ymm13\n\t"            \
  "vmovdqu 32(%[signs]," offset "), %%ymm10\n\t"    \
  "vpshufb %%ymm10, %%ymm8, %%ymm8\n\t"             \
  "vpshufb %%ymm10, %%ymm9, %%ymm9\n\t"             \
  "vpaddb %%ymm8, %%ymm12, %%ymm12\n\t"             \
  "vpaddb %%ymm9, %%ymm14, %%ymm14\n\t"

// 32 pixels: pair 0's counts to ymm11, pair 1's to ymm12.
#define BIHRNET_FIRST_OF_32                         \
  BIHRNET_ROWS(0)                                   \
  "vmovdqu (%[signs],%%r8), %%ymm10\n\t"            \
  "vpshufb %%ymm10, %%ymm8, %%ymm11\n\t"            \
  "vpshufb %%ymm10, %%ymm9, %%ymm12\n\t"
#define BIHRNET_NEXT_OF_32(i, offset)               \
  BIHRNET_ROWS(i)                                   \
  "vmovdqu (%[signs]," offset "), %%ymm10\n\t"      \
  "vpshufb %%ymm10, %%ymm8, %%ymm8\n\t"             \
  "vpshufb %%ymm10, %%ymm9, %%ymm9\n\t"             \
  "vpaddb %%ymm8, %%ymm11, %%ymm11\n\t"             \
  "vpaddb %%ymm9, %%ymm12, %%ymm12\n\t"
// clang-format on

void SumTriples(Cursor* cursor, int triples, Sums<2>* sums) {
  const int32_t* end = cursor->offsets + 3 * triples;
  __m256i e00, e01, e10, e11, o00, o01, o10, o11;
  asm volatile(
      BIHRNET_ZERO("%[e00]") BIHRNET_ZERO("%[e01]") BIHRNET_ZERO("%[e10]") BIHRNET_ZERO("%[e11]")
      BIHRNET_ZERO("%[o00]") BIHRNET_ZERO("%[o01]") BIHRNET_ZERO("%[o10]") BIHRNET_ZERO("%[o11]")
      ".p2align 5\n"
      "1:\n\t"
      BIHRNET_OFFSETS
      BIHRNET_FIRST_OF_64
      BIHRNET_NEXT_OF_64(1, "%%r9")
      BIHRNET_NEXT_OF_64(2, "%%r10")
      BIHRNET_SPLIT("%%ymm11", "%[e00]", "%[o00]")
      BIHRNET_SPLIT("%%ymm13", "%[e10]", "%[o10]")
      BIHRNET_SPLIT("%%ymm12", "%[e01]", "%[o01]")
      BIHRNET_SPLIT("%%ymm14", "%[e11]", "%[o11]")
      BIHRNET_LOOP
      : [e00] "=&x"(e00), [e01] "=&x"(e01), [e10] "=&x"(e10), [e11] "=&x"(e11), [o00] "=&x"(o00), [o01] "=&x"(o01),
        [o10] "=&x"(o10), [o11] "=&x"(o11), [offsets] "+r"(cursor->offsets), [w0] "+r"(cursor->weights[0]),
        [w1] "+r"(cursor->weights[1])
      : [signs] "r"(cursor->signs), [table] "r"(kPairTable.row[0]), [end] "r"(end), [fields] "x"(_mm256_set1_epi8(15))
      : "rax", "rcx", "r8", "r9", "r10", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "cc", "memory");
  *sums = {{{e00, e01}, {e10, e11}}, {{o00, o01}, {o10, o11}}};
}

void SumTriples(Cursor* cursor, int triples, Sums<1>* sums) {
  const int32_t* end = cursor->offsets + 3 * triples;
  __m256i e0, e1, o0, o1;
  asm volatile(
      BIHRNET_ZERO("%[e0]") BIHRNET_ZERO("%[e1]") BIHRNET_ZERO("%[o0]") BIHRNET_ZERO("%[o1]")
      ".p2align 5\n"
      "1:\n\t"
      BIHRNET_OFFSETS
      BIHRNET_FIRST_OF_32
      BIHRNET_NEXT_OF_32(1, "%%r9")
      BIHRNET_NEXT_OF_32(2, "%%r10")
      BIHRNET_SPLIT("%%ymm11", "%[e0]", "%[o0]")
      BIHRNET_SPLIT("%%ymm12", "%[e1]", "%[o1]")
      BIHRNET_LOOP
      : [e0] "=&x"(e0), [e1] "=&x"(e1), [o0] "=&x"(o0), [o1] "=&x"(o1), [offsets] "+r"(cursor->offsets),
        [w0] "+r"(cursor->weights[0]), [w1] "+r"(cursor->weights[1])
      : [signs] "r"(cursor->signs), [table] "r"(kPairTable.row[0]), [end] "r"(end), [fields] "x"(_mm256_set1_epi8(15))
      : "rax", "rcx", "r8", "r9", "r10", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "cc", "memory");
  *sums = {{{e0}, {e1}}, {{o0}, {o1}}};
}

// Totals of 32 pixels and two channels in words, of the first and of the second pixel of every two.
struct Totals {
  __m256i even_first, even_second, odd_first, odd_second;
};

inline Totals Widen(__m256i even, __m256i odd) {
  const __m256i low = _mm256_set1_epi16(255);
  const __m256i c = _mm256_srli_epi16(even, 8);
  const __m256i both = _mm256_sub_epi16(odd, _mm256_slli_epi16(c, 4));
  return {_mm256_and_si256(even, low), c, _mm256_and_si256(both, low), _mm256_srli_epi16(both, 8)};
}

inline Totals Add(const Totals& a, const Totals& b) {
  return {_mm256_add_epi16(a.even_first, b.even_first), _mm256_add_epi16(a.even_second, b.even_second),
          _mm256_add_epi16(a.odd_first, b.odd_first), _mm256_add_epi16(a.odd_second, b.odd_second)};
}

// Pixels in order from words of their even and odd ones.
inline void Store(__m256i first, __m256i second, uint16_t* acc) {
  const __m256i low = _mm256_unpacklo_epi16(first, second);
  const __m256i high = _mm256_unpackhi_epi16(first, second);
  __m256i* to = reinterpret_cast<__m256i*>(acc);
  _mm256_storeu_si256(to, _mm256_permute2x128_si256(low, high, 0x20));
  _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(low, high, 0x31));
}

inline void StoreHalves(__m256i first, __m256i second, uint16_t* acc) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(acc), first);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(acc) + 1, second);
}

template <bool kHalves>
inline void Finish(const Totals& t, uint16_t* acc) {
  if (kHalves) {
    StoreHalves(t.even_first, t.even_second, acc);
    StoreHalves(t.odd_first, t.odd_second, acc + kTilePixels);
  } else {
    Store(t.even_first, t.even_second, acc);
    Store(t.odd_first, t.odd_second, acc + kTilePixels);
  }
}

template <int kVectors, bool kHalves>
inline void Quad(const BconvTile& tile, int pixel, uint16_t* acc) {
  Cursor cursor = {
      tile.offsets, {tile.weights, tile.weights + 3 * static_cast<size_t>(tile.triples)}, tile.signs + pixel};
  Totals totals[2][kVectors];
  // As many triples in every round, so that none is a short loop.
  const int flushes = (tile.triples + kTriplesPerFlush - 1) / kTriplesPerFlush;
  const int step = (tile.triples + flushes - 1) / flushes;
  for (int done = 0; done < tile.triples;) {
    const int left = tile.triples - done;
    const int some = left < step ? left : step;
    Sums<kVectors> sums;
    SumTriples(&cursor, some, &sums);
    for (int pair = 0; pair < 2; ++pair) {
      for (int v = 0; v < kVectors; ++v) {
        const Totals sum = Widen(sums.even[pair][v], sums.odd[pair][v]);
        const Totals total = done == 0 ? sum : Add(totals[pair][v], sum);
        if (some == left) {
          Finish<kHalves>(total, acc + 2 * pair * kTilePixels + pixel + v * kLanes);
        } else {
          totals[pair][v] = total;
        }
      }
    }
    done += some;
  }
}

template <bool kHalves>
void Quads(const BconvTile& tile, uint16_t* acc) {
  int vector = 0;
  for (; vector + 2 <= tile.vectors; vector += 2) Quad<2, kHalves>(tile, vector * kLanes, acc);
  if (vector < tile.vectors) Quad<1, kHalves>(tile, vector * kLanes, acc);
}

}  // namespace

void BconvAvx2(const BconvTile& tile, uint16_t* acc) { tile.halves ? Quads<true>(tile, acc) : Quads<false>(tile, acc); }

}  // namespace bihrnet
#endif
