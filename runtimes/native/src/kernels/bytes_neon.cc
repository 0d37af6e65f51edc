#if defined(__aarch64__)
#include <arm_neon.h>

#include "impl.h"

namespace bihrnet {
namespace {

constexpr int kStep = 16;

inline int8x8_t SlopedHalf(int8x8_t x, const ByteMap& map) {
  const int16x8_t scaled = vqrdmulhq_n_s16(vshlq_n_s16(vmovl_s8(x), 8), map.slope);
  return vqmovn_s16(vshlq_s16(vqaddq_s16(scaled, vdupq_n_s16(map.round)), vdupq_n_s16(-map.shift)));
}

inline int8x16_t Sloped(int8x16_t x, const ByteMap& map) {
  return vcombine_s8(SlopedHalf(vget_low_s8(x), map), SlopedHalf(vget_high_s8(x), map));
}

// What lies beyond a table's 64 bytes stays as it is.
inline uint8x16_t LookUp(const int8_t* table, int8x16_t x) {
  uint8x16_t place = veorq_u8(vreinterpretq_u8_s8(x), vdupq_n_u8(128));
  uint8x16_t y = vdupq_n_u8(0);
  for (int part = 0; part < 4; ++part) {
    y = vqtbx4q_u8(y, vld1q_u8_x4(reinterpret_cast<const uint8_t*>(table + 64 * part)), place);
    place = vsubq_u8(place, vdupq_n_u8(64));
  }
  return y;
}

}  // namespace

void ByteMapNeon(const ByteMapArgs& args) {
  for (int c = 0; c < args.channels; ++c) {
    const ByteMap& map = args.maps[c];
    if (map.table != nullptr) {
      for (int p = 0; p < args.pixels; p += kStep) {
        vst1q_s8(args.rows[c] + p, vreinterpretq_s8_u8(LookUp(map.table, vld1q_s8(args.source[c] + p))));
      }
      continue;
    }
    for (int p = 0; p < args.pixels; p += kStep) {
      const int8x16_t x = vld1q_s8(args.source[c] + p);
      const int8x16_t y = Sloped(x, map);
      vst1q_s8(args.rows[c] + p, map.or_x ? vmaxq_s8(x, y) : y);
    }
  }
}

void ByteHalveNeon(const ByteHalve& args) {
  for (int row = 0; row < args.rows; ++row) {
    const int8_t* upper = args.from + ptrdiff_t{2} * row * args.from_pitch;
    const int8_t* lower = upper + args.from_pitch;
    int8_t* to = args.to + ptrdiff_t{row} * args.to_pitch;
    int i = 0;
    for (; i + 8 <= args.pixels; i += 8) {
      const int16x8_t sum = vaddq_s16(vpaddlq_s8(vld1q_s8(upper + 2 * i)), vpaddlq_s8(vld1q_s8(lower + 2 * i)));
      const int16x8_t mean = vshrq_n_s16(vaddq_s16(vabsq_s16(sum), vdupq_n_s16(2)), 2);
      vst1_s8(to + i, vmovn_s16(vbslq_s16(vcltzq_s16(sum), vnegq_s16(mean), mean)));
    }
    for (; i < args.pixels; ++i) to[i] = HalfBytes(upper, lower, i);
  }
}

void ByteRepeatNeon(const ByteRepeat& args) {
  if (args.factor != 2 && args.factor != 4 && args.factor != 8) return ByteRepeatScalar(args);
  const int shift = args.factor == 2 ? 1 : args.factor == 4 ? 2 : 3;
  uint8_t places[kStep];
  for (int i = 0; i < kStep; ++i) places[i] = static_cast<uint8_t>(i >> shift);
  const uint8x16_t order = vld1q_u8(places);
  ForEachRow(args, [&](const int8_t* from, int x, int8_t* to, int count) {
    from += x >> shift;
    int8_t* const end = to + count;
    const int begun = x & (args.factor - 1);
    if (begun != 0) {
      for (int i = begun; i < args.factor && to != end; ++i) *to++ = *from;
      ++from;
    }
    for (; end - to >= kStep; to += kStep, from += kStep >> shift) {
      vst1q_s8(to, vqtbl1q_s8(vld1q_s8(from), order));
    }
    for (int i = 0; to != end; ++i) *to++ = from[i >> shift];
  });
}

void ByteSignsNeon(const ByteSigns& args) {
  // A byte that is stored may be any of the arguments, for all that the compiler knows: they are read once.
  const int8_t* rows[kQuad];
  int8x16_t thresholds[kQuad];
#pragma GCC unroll 4
  for (int c = 0; c < kQuad; ++c) {
    const bool given = c < args.channels;  // else nothing is below
    rows[c] = args.rows[given ? c : 0];
    thresholds[c] = vdupq_n_s8(given ? args.thresholds[c] : -128);
  }
  const uint8_t* mask = args.mask;
  uint8_t* to = args.nibbles;
  const uint8x16_t always = vdupq_n_u8(args.always);
  const int pixels = args.pixels;
  for (int p = 0; p < pixels; p += kStep) {
    uint8x16_t nibbles = vdupq_n_u8(0);
#pragma GCC unroll 4
    for (int c = 0; c < kQuad; ++c) {
      const uint8x16_t below = vcltq_s8(vld1q_s8(rows[c] + p), thresholds[c]);
      nibbles = vorrq_u8(nibbles, vandq_u8(below, vdupq_n_u8(1 << c)));
    }
    vst1q_u8(to + p, vandq_u8(vorrq_u8(nibbles, always), vld1q_u8(mask + p)));
  }
}

}  // namespace bihrnet
#endif
