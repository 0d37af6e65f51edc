// What the binary convolutions' own scale and bias cost, for the profile.
#include <algorithm>

#include "runtime/executor.h"

namespace bihrnet {
namespace {

constexpr int kRounds = 5;  // the best counts: a step takes microseconds, and the machine does other things

}  // namespace

// The epilogue does them together with what else is fused, PRELU and additions, and there they cannot be timed apart:
// they are done once more here, alone, from counts to rows in a first cache.
std::vector<uint64_t> Executor::ScaleTicks() const {
  std::vector<uint64_t> ticks(program_.steps.size(), 0);
  alignas(64) uint16_t acc[kQuad * kTilePixels] = {};
  alignas(64) float scratch[kQuad][kTilePixels];
  float* const rows[kQuad] = {scratch[0], scratch[1], scratch[2], scratch[3]};
  for (size_t i = 0; i < ticks.size(); ++i) {
    const BoundStep& bound = (*bound_)[static_cast<int>(i)];
    if (bound.kind != StepKind::kBconv || bound.pads_are_zero) continue;
    Epilogue epilogue = {};
    epilogue.acc = acc;
    epilogue.rows = rows;
    epilogue.clamp_min = bound.clamp_min;
    epilogue.clamp_max = bound.clamp_max;
    for (int round = 0; round < kRounds; ++round) {
      const uint64_t start = Ticks();
      for (int channel = 0; channel < bound.channels; channel += kQuad) {
        epilogue.multiplier = bound.multiplier + channel;
        epilogue.bias = bound.bias + channel;
        epilogue.channels = std::min(kQuad, bound.channels - channel);
        for (int pixel = 0; pixel < bound.pixels; pixel += kTilePixels) {
          epilogue.pixels = std::min(kTilePixels, bound.pixels - pixel);
          kernels_.epilogue(epilogue);
        }
      }
      const uint64_t taken = Ticks() - start;
      ticks[i] = round == 0 ? taken : std::min(ticks[i], taken);
    }
  }
  return ticks;
}

}  // namespace bihrnet
