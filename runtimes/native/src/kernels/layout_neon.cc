#if defined(__aarch64__)
#include <arm_neon.h>

#include "impl.h"

namespace bihrnet {
namespace {

constexpr int kStep = 4;

// A 4x4 transpose: v[i] is pixel i on one side, channel i on the other.
inline void Transpose4(float32x4_t* v) {
  const float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(v[0], v[1]));
  const float64x2_t b = vreinterpretq_f64_f32(vtrn2q_f32(v[0], v[1]));
  const float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(v[2], v[3]));
  const float64x2_t d = vreinterpretq_f64_f32(vtrn2q_f32(v[2], v[3]));
  v[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
  v[1] = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
  v[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
  v[3] = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
}

// The rest of a row, and quads that are not whole.
void RowsFromNhwcTail(const Transpose& args, int first) {
  for (int c = 0; c < args.channels; ++c) {
    for (int p = first; p < args.pixels; ++p) {
      args.rows[c][p] = args.nhwc[static_cast<size_t>(p) * args.nhwc_channels + c];
    }
  }
}

void NhwcFromRowsTail(const Transpose& args, int first) {
  for (int c = 0; c < args.channels; ++c) {
    for (int p = first; p < args.pixels; ++p) {
      args.nhwc[static_cast<size_t>(p) * args.nhwc_channels + c] = args.rows[c][p];
    }
  }
}

}  // namespace

void RowsFromNhwcNeon(const Transpose& args) {
  if (args.channels != kQuad) return RowsFromNhwcTail(args, 0);
  const size_t stride = args.nhwc_channels;
  int p = 0;
  for (; p + kStep <= args.pixels; p += kStep) {
    const float* from = args.nhwc + p * stride;
    float32x4_t v[4];
    for (int i = 0; i < 4; ++i) v[i] = vld1q_f32(from + i * stride);
    Transpose4(v);
    for (int i = 0; i < 4; ++i) vst1q_f32(args.rows[i] + p, v[i]);
  }
  RowsFromNhwcTail(args, p);
}

void NhwcFromRowsNeon(const Transpose& args) {
  if (args.channels != kQuad) return NhwcFromRowsTail(args, 0);
  const size_t stride = args.nhwc_channels;
  int p = 0;
  for (; p + kStep <= args.pixels; p += kStep) {
    float* to = args.nhwc + p * stride;
    float32x4_t v[4];
    for (int i = 0; i < 4; ++i) v[i] = vld1q_f32(args.rows[i] + p);
    Transpose4(v);
    for (int i = 0; i < 4; ++i) vst1q_f32(to + i * stride, v[i]);
  }
  NhwcFromRowsTail(args, p);
}

}  // namespace bihrnet
#endif
