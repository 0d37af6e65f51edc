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
    if (bound.bytes) {
      ticks[i] = ByteScaleTicks(bound);
      continue;
    }
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

// The same of bytes, without what is mapped on.
uint64_t Executor::ByteScaleTicks(const BoundStep& bound) const {
  alignas(64) uint16_t acc[kQuad * kTilePixels] = {};
  alignas(64) int8_t scratch[kQuad][kTilePixels];
  int8_t* const rows[kQuad] = {scratch[0], scratch[1], scratch[2], scratch[3]};
  std::vector<ByteCurve> curves(bound.curves, bound.curves + bound.channels);
  for (ByteCurve& curve : curves) curve.has_slope = false;
  uint64_t best = 0;
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t start = Ticks();
    for (int channel = 0; channel < bound.channels; channel += kQuad) {
      for (int pixel = 0; pixel < bound.pixels; pixel += kTilePixels) {
        kernels_.byte_epilogue({acc, rows, &curves[static_cast<size_t>(channel)], nullptr, nullptr, bound.clamp_min,
                                bound.clamp_max, std::min(kQuad, bound.channels - channel),
                                std::min(kTilePixels, bound.pixels - pixel)});
      }
    }
    const uint64_t taken = Ticks() - start;
    best = round == 0 ? taken : std::min(best, taken);
  }
  return best;
}

}  // namespace bihrnet
