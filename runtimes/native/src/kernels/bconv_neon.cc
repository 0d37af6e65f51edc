// Per three nibbles, a pair of channels and 16 pixels: 3 tbl, 2 add, then total += s and odd += s >> 4, which is one
// usra. The even field is total - 16 odd modulo 256, exact because it stays below 256. That is 7 instructions for 384
// multiply-adds. Both pairs share the loads of the signs, and 64 pixels share the loads of the table's rows. The inner
// loops are written out because compilers run out of registers here and keep sums on the stack. benchmarks/neon.sh
// counts the instructions.
#if defined(__aarch64__)
#include <arm_neon.h>

#include "impl.h"
#include "tables.h"

namespace bihrnet {
namespace {

// Where a tile is in its lists of nibbles, and where its signs are.
struct Cursor {
  const int32_t* offsets;
  const uint16_t* weights[2];
  const uint8_t* signs;
};

// Byte sums of a pair of channels; both fields in total, the odd one's alone in odd.
template <int kVectors>
struct Sums {
  uint8x16_t total[2][kVectors];
  uint8x16_t odd[2][kVectors];
};

// clang-format off
// Three nibbles: pair 0's rows to v16 .. v18, pair 1's to v19 .. v21, the addresses of the signs to x9 .. x11.
#define BIHRNET_ROW(row, weights)                   \
  "ldrh w12, [%[" weights "]], #2\n\t"              \
  "ldr " row ", [%[table], x12]\n\t"
#define BIHRNET_TRIPLE                              \
  "ldpsw x9, x10, [%[offsets]], #8\n\t"             \
  "ldrsw x11, [%[offsets]], #4\n\t"                 \
  "add x9, x9, %[signs]\n\t"                        \
  "add x10, x10, %[signs]\n\t"                      \
  "add x11, x11, %[signs]\n\t"                      \
  BIHRNET_ROW("q16", "w0") BIHRNET_ROW("q19", "w1") \
  BIHRNET_ROW("q17", "w0") BIHRNET_ROW("q20", "w1") \
  BIHRNET_ROW("q18", "w0") BIHRNET_ROW("q21", "w1")

#define BIHRNET_TBL(to, row, signs) "tbl " to ".16b, {" row ".16b}, " signs ".16b\n\t"
#define BIHRNET_ADD(to, from) "add " to ".16b, " to ".16b, " from ".16b\n\t"
#define BIHRNET_SPLIT(sum, total, odd)              \
  BIHRNET_ADD("%[" total "]", sum)                  \
  "usra %[" odd "].16b, " sum ".16b, #4\n\t"

// 32 pixels from byte `at` of the signs, into the sums named for vectors a and b.
#define BIHRNET_PIXELS(at, a, b)                                                      \
  "ldp q22, q23, [x9, #" at "]\n\t"                                                   \
  "ldp q24, q25, [x10, #" at "]\n\t"                                                  \
  "ldp q26, q27, [x11, #" at "]\n\t"                                                  \
  BIHRNET_TBL("v28", "v16", "v22") BIHRNET_TBL("v29", "v16", "v23")                   \
  BIHRNET_TBL("v30", "v19", "v22") BIHRNET_TBL("v31", "v19", "v23")                   \
  BIHRNET_TBL("v22", "v17", "v24") BIHRNET_TBL("v23", "v17", "v25")                   \
  BIHRNET_TBL("v24", "v20", "v24") BIHRNET_TBL("v25", "v20", "v25")                   \
  BIHRNET_ADD("v28", "v22") BIHRNET_ADD("v29", "v23")                                 \
  BIHRNET_TBL("v22", "v18", "v26") BIHRNET_TBL("v23", "v18", "v27")                   \
  BIHRNET_ADD("v30", "v24") BIHRNET_ADD("v31", "v25")                                 \
  BIHRNET_TBL("v26", "v21", "v26") BIHRNET_TBL("v27", "v21", "v27")                   \
  BIHRNET_ADD("v28", "v22") BIHRNET_ADD("v29", "v23")                                 \
  BIHRNET_ADD("v30", "v26") BIHRNET_ADD("v31", "v27")                                 \
  BIHRNET_SPLIT("v28", "t0" a, "o0" a) BIHRNET_SPLIT("v29", "t0" b, "o0" b)           \
  BIHRNET_SPLIT("v30", "t1" a, "o1" a) BIHRNET_SPLIT("v31", "t1" b, "o1" b)

#define BIHRNET_ZERO(x) "movi %[" x "].16b, #0\n\t"

#define BIHRNET_LOOP                                \
  "cmp %[offsets], %[end]\n\t"                      \
  "b.ne 1b"

#define BIHRNET_CLOBBERS                            \
  "x9", "x10", "x11", "x12", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", \
  "v28", "v29", "v30", "v31", "cc", "memory"
// clang-format on

void SumTriples(Cursor* cursor, int triples, Sums<4>* sums) {
  const int32_t* end = cursor->offsets + 3 * triples;
  uint8x16_t t00, t01, t02, t03, t10, t11, t12, t13;
  uint8x16_t o00, o01, o02, o03, o10, o11, o12, o13;
  // clang-format off
  asm volatile(
      BIHRNET_ZERO("t00") BIHRNET_ZERO("t01") BIHRNET_ZERO("t02") BIHRNET_ZERO("t03")
      BIHRNET_ZERO("t10") BIHRNET_ZERO("t11") BIHRNET_ZERO("t12") BIHRNET_ZERO("t13")
      BIHRNET_ZERO("o00") BIHRNET_ZERO("o01") BIHRNET_ZERO("o02") BIHRNET_ZERO("o03")
      BIHRNET_ZERO("o10") BIHRNET_ZERO("o11") BIHRNET_ZERO("o12") BIHRNET_ZERO("o13")
      "1:\n\t"
      BIHRNET_TRIPLE
      BIHRNET_PIXELS("0", "0", "1")
      BIHRNET_PIXELS("32", "2", "3")
      BIHRNET_LOOP
      : [t00] "=&w"(t00), [t01] "=&w"(t01), [t02] "=&w"(t02), [t03] "=&w"(t03), [t10] "=&w"(t10), [t11] "=&w"(t11),
        [t12] "=&w"(t12), [t13] "=&w"(t13), [o00] "=&w"(o00), [o01] "=&w"(o01), [o02] "=&w"(o02), [o03] "=&w"(o03),
        [o10] "=&w"(o10), [o11] "=&w"(o11), [o12] "=&w"(o12), [o13] "=&w"(o13), [offsets] "+r"(cursor->offsets),
        [w0] "+r"(cursor->weights[0]), [w1] "+r"(cursor->weights[1])
      : [signs] "r"(cursor->signs), [table] "r"(kPairTable.row[0]), [end] "r"(end)
      : BIHRNET_CLOBBERS);
  // clang-format on
  *sums = {{{t00, t01, t02, t03}, {t10, t11, t12, t13}}, {{o00, o01, o02, o03}, {o10, o11, o12, o13}}};
}

void SumTriples(Cursor* cursor, int triples, Sums<2>* sums) {
  const int32_t* end = cursor->offsets + 3 * triples;
  uint8x16_t t00, t01, t10, t11;
  uint8x16_t o00, o01, o10, o11;
  // clang-format off
  asm volatile(
      BIHRNET_ZERO("t00") BIHRNET_ZERO("t01") BIHRNET_ZERO("t10") BIHRNET_ZERO("t11")
      BIHRNET_ZERO("o00") BIHRNET_ZERO("o01") BIHRNET_ZERO("o10") BIHRNET_ZERO("o11")
      "1:\n\t"
      BIHRNET_TRIPLE
      BIHRNET_PIXELS("0", "0", "1")
      BIHRNET_LOOP
      : [t00] "=&w"(t00), [t01] "=&w"(t01), [t10] "=&w"(t10), [t11] "=&w"(t11), [o00] "=&w"(o00), [o01] "=&w"(o01),
        [o10] "=&w"(o10), [o11] "=&w"(o11), [offsets] "+r"(cursor->offsets), [w0] "+r"(cursor->weights[0]),
        [w1] "+r"(cursor->weights[1])
      : [signs] "r"(cursor->signs), [table] "r"(kPairTable.row[0]), [end] "r"(end)
      : BIHRNET_CLOBBERS);
  // clang-format on
  *sums = {{{t00, t01}, {t10, t11}}, {{o00, o01}, {o10, o11}}};
}

// The same in halves: even pixels to the first of `acc`, odd ones half a vector on.
inline void FlushHalves(uint8x16_t total, uint8x16_t odd, bool first, uint16_t* acc) {
  const uint8x16_t bytes[2] = {vsubq_u8(total, vshlq_n_u8(odd, 4)), odd};
  for (int i = 0; i < 2; ++i, acc += kTilePixels) {
    const uint16x8_t pairs = vreinterpretq_u16_u8(bytes[i]);
    const uint16x8_t evens = vandq_u16(pairs, vdupq_n_u16(255)), odds = vshrq_n_u16(pairs, 8);
    uint16_t* second = acc + kLanes / 2;
    vst1q_u16(acc, first ? evens : vaddq_u16(vld1q_u16(acc), evens));
    vst1q_u16(second, first ? odds : vaddq_u16(vld1q_u16(second), odds));
  }
}

// Adds the byte sums of 16 pixels to two rows of accumulators.
inline void Flush(uint8x16_t total, uint8x16_t odd, bool first, uint16_t* acc) {
  const uint8x16_t bytes[2] = {vsubq_u8(total, vshlq_n_u8(odd, 4)), odd};
  for (int i = 0; i < 2; ++i, acc += kTilePixels) {
    const uint16x8_t zero = vdupq_n_u16(0);
    vst1q_u16(acc, vaddw_u8(first ? zero : vld1q_u16(acc), vget_low_u8(bytes[i])));
    vst1q_u16(acc + 8, vaddw_high_u8(first ? zero : vld1q_u16(acc + 8), bytes[i]));
  }
}

// Four channels by kVectors * 16 pixels.
template <int kVectors>
void Quad(const BconvTile& tile, int pixel, uint16_t* acc) {
  Cursor cursor = {
      tile.offsets, {tile.weights, tile.weights + 3 * static_cast<size_t>(tile.triples)}, tile.signs + pixel};
  for (int done = 0; done < tile.triples;) {
    const int left = tile.triples - done;
    const int some = left < kTriplesPerFlush ? left : kTriplesPerFlush;
    Sums<kVectors> sums;
    SumTriples(&cursor, some, &sums);
    for (int pair = 0; pair < 2; ++pair) {
      for (int v = 0; v < kVectors; ++v) {
        uint16_t* rows = acc + 2 * pair * kTilePixels + pixel;
        if (tile.halves) {
          FlushHalves(sums.total[pair][v], sums.odd[pair][v], done == 0, rows + v / 2 * kLanes + v % 2 * 8);
        } else {
          Flush(sums.total[pair][v], sums.odd[pair][v], done == 0, rows + 16 * v);
        }
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
