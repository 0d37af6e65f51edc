#include "impl.h"

namespace bihrnet {

void FloatConvScalar(const FloatConvRow& args) {
  for (int p = 0; p < args.pixels; ++p) {
    float* y = args.nhwc + static_cast<size_t>(p) * kConvChannels;
    for (int c = 0; c < kConvChannels; ++c) y[c] = args.bias[c];
    for (int row = 0; row < args.rows; ++row) {
      const float* weight = args.weights + row * args.weight_row;
      for (int tap = 0; tap < args.taps; ++tap) {
        const float* from = args.image + p * args.step + row * args.row_step + tap * args.tap_step;
        for (int i = 0; i < args.depth; ++i, weight += kConvChannels) {
          for (int c = 0; c < kConvChannels; ++c) y[c] += from[i] * weight[c];
        }
      }
    }
  }
}

}  // namespace bihrnet
