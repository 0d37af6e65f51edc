#if defined(__aarch64__)
#include <arm_neon.h>

#include "impl.h"

namespace bihrnet {
namespace {

constexpr int kStep = 16;  // pixels: eight even ones and eight odd ones

// Where there is no line: the float, rounded; 256 times the byte.
struct NearestCurve {
  int32x4_t low, high;
  float32x4_t bias;
  float multiplier;

  NearestCurve(const ByteEpilogue& args, const ByteCurve& curve)
      : low(vdupq_n_s32(args.clamp_min)),
        high(vdupq_n_s32(args.clamp_max)),
        bias(vdupq_n_f32(curve.bias)),
        multiplier(curve.multiplier) {}

  int32x4_t Four(uint32x4_t twice) const {
    const int32x4_t count = vmaxq_s32(vminq_s32(vreinterpretq_s32_u32(twice), high), low);
    return vcvtnq_s32_f32(vaddq_f32(vmulq_n_f32(vcvtq_f32_s32(count), multiplier), bias));
  }

  int16x8_t operator()(uint16x8_t acc) const {
    const int32x4_t first = Four(vshll_n_u16(vget_low_u16(acc), 1)), second = Four(vshll_high_n_u16(acc, 1));
    const int8x8_t bytes = vqmovn_s16(vqmovn_high_s32(vqmovn_s32(first), second));
    return vreinterpretq_s16_u16(vshll_n_u8(vreinterpret_u8_s8(bytes), 8));
  }
};

// The byte on a line, in the upper half of a word.
struct LineCurve {
  uint16_t gain;
  int16_t factor;
  int16x8_t base, more;

  LineCurve(const ByteEpilogue&, const ByteCurve& curve)
      : gain(curve.gain), factor(curve.factor), base(vdupq_n_s16(curve.base)), more(vdupq_n_s16(curve.more)) {}

  int16x8_t operator()(uint16x8_t acc) const {
    const uint16x8_t word = vmlaq_n_u16(vreinterpretq_u16_s16(base), acc, gain);
    return vqaddq_s16(vqrdmulhq_n_s16(vreinterpretq_s16_u16(word), factor), more);
  }
};

// A byte that is stored may be any of the arguments, for all that the compiler knows: they are read once a row, and
// there is one instance a combination.
template <typename Curve, bool kSlope, int kResiduals>
void Row(const ByteEpilogue& args, int c) {
  const Curve curve(args, args.curves[c]);
  const int16_t slope = args.curves[c].slope;
  const int16x8_t round = vdupq_n_s16(args.curves[c].round);
  const auto sloped = [&](int16x8_t x) {
    if (!kSlope) return x;
    const int16x8_t bytes = vandq_s16(x, vdupq_n_s16(static_cast<int16_t>(0xff00)));
    return vmaxq_s16(x, vqaddq_s16(vqrdmulhq_n_s16(bytes, slope), round));
  };
  const uint16_t* acc = args.acc + c * kTilePixels;
  const int8_t* first = kResiduals > 0 ? args.residual[c] : nullptr;
  const int8_t* second = kResiduals > 1 ? args.second_residual[c] : nullptr;
  int8_t* row = args.rows[c];
  const int pixels = args.pixels;
  for (int p = 0; p < pixels; p += kLanes, acc += kLanes) {
#pragma GCC unroll 2
    for (int i = 0; i < kLanes; i += kStep) {
      const int16x8_t even = sloped(curve(vld1q_u16(acc + i / 2)));
      const int16x8_t odd = sloped(curve(vld1q_u16(acc + (kLanes + i) / 2)));
      // The upper half of an even word becomes the lower half of the odd one.
      int8x16_t x = vreinterpretq_s8_u16(vsriq_n_u16(vreinterpretq_u16_s16(odd), vreinterpretq_u16_s16(even), 8));
      if (kResiduals > 0) x = vqaddq_s8(x, vld1q_s8(first + p + i));
      if (kResiduals > 1) x = vqaddq_s8(x, vld1q_s8(second + p + i));
      vst1q_s8(row + p + i, x);
    }
  }
}

template <typename Curve, bool kSlope>
void WithResiduals(const ByteEpilogue& args, int c) {
  if (args.second_residual != nullptr) return Row<Curve, kSlope, 2>(args, c);
  args.residual != nullptr ? Row<Curve, kSlope, 1>(args, c) : Row<Curve, kSlope, 0>(args, c);
}

template <typename Curve>
void WithSlope(const ByteEpilogue& args, int c) {
  args.curves[c].has_slope ? WithResiduals<Curve, true>(args, c) : WithResiduals<Curve, false>(args, c);
}

}  // namespace

void ByteEpilogueNeon(const ByteEpilogue& args) {
  for (int c = 0; c < args.channels; ++c) {
    if (args.curves[c].table != nullptr) {
      ByteTableRow(args, c);
    } else {
      args.curves[c].gain == 0 ? WithSlope<NearestCurve>(args, c) : WithSlope<LineCurve>(args, c);
    }
  }
}

}  // namespace bihrnet
#endif
