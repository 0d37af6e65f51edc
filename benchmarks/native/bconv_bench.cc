// The binary convolution kernels at HRNet-W32's four 3x3 widths: billions of binary multiply-adds a second on one core,
// and on x86-64 their share of what the core's byte shuffles alone would allow a lookup of one channel (32 pixels by
// four channels a shuffle). The shuffle rate is measured here, interleaved with the kernels; each figure is the best of
// many short repetitions, since on a shared machine only the best is the core's own.
//
// Usage: bconv_bench [repetitions]; the last line is JSON.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "kernels.h"
#include "tables.h"

namespace bihrnet {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// A 3x3 convolution of height x width x channels onto itself.
class Layer {
 public:
  Layer(int height, int width, int channels)
      : height_(height), width_(width), channels_(channels), pitch_(width + 2), entries_(9 * channels / kQuad) {
    std::mt19937 rng(7);
    const int covered = RoundUp(height * pitch_, kLanes);
    stride_ = RoundUp(covered + 2 * pitch_ + 2, 64);
    signs_.resize(static_cast<size_t>(stride_) * channels / kQuad);
    for (uint8_t& byte : signs_) byte = rng() & 15;
    for (int tap = 0; tap < 9; ++tap) {
      for (int plane = 0; plane < channels / kQuad; ++plane) {
        offsets_.push_back(plane * stride_ + tap / 3 * pitch_ + tap % 3);
      }
    }
    weights_.resize(static_cast<size_t>(channels / 2) * entries_);  // entries_ is a multiple of 3
    for (uint16_t& entry : weights_) entry = PairWeights(rng() & 15, rng() & 15);
  }

  int height() const { return height_; }
  int width() const { return width_; }
  int channels() const { return channels_; }

  // Multiply-adds of existing pixels a second.
  double Run(const Kernels& set, bool quads_outside) {
    const auto start = Clock::now();
    const int vectors = RoundUp(height_ * pitch_ - 2, kLanes) / kLanes;
    const int quads = channels_ / kQuad;
    constexpr int kStep = kTilePixels / kLanes;
    if (quads_outside) {
      for (int quad = 0; quad < quads; ++quad) {
        for (int v = 0; v < vectors; v += kStep) Call(set, quad, v, std::min(kStep, vectors - v));
      }
    } else {
      for (int v = 0; v < vectors; v += kStep) {
        for (int quad = 0; quad < quads; ++quad) Call(set, quad, v, std::min(kStep, vectors - v));
      }
    }
    return 9.0 * height_ * width_ * channels_ * channels_ / SecondsSince(start);
  }

 private:
  static int RoundUp(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

  void Call(const Kernels& set, int quad, int vector, int vectors) {
    const size_t first = static_cast<size_t>(quad) * 2 * entries_;
    set.bconv({&signs_[vector * kLanes], offsets_.data(), &weights_[first], entries_ / 3, vectors}, acc_);
  }

  int height_, width_, channels_, pitch_, stride_, entries_;
  std::vector<uint8_t> signs_;
  std::vector<int32_t> offsets_;
  std::vector<uint16_t> weights_;
  alignas(64) uint16_t acc_[kQuad * kTilePixels];
};

// Shuffles of 32 bytes a second, or 0 where this program cannot tell.
double ShuffleRate() {
#if defined(__x86_64__)
  if (Avx2Kernels() == nullptr) return 0;
  constexpr int kLoops = 1000;
  const auto start = Clock::now();
  for (int i = 0; i < kLoops; ++i) {
    asm volatile(
        ".rept 4\n\t"
        "vpshufb %%ymm15, %%ymm0, %%ymm0\n\t"
        "vpshufb %%ymm15, %%ymm1, %%ymm1\n\t"
        "vpshufb %%ymm15, %%ymm2, %%ymm2\n\t"
        "vpshufb %%ymm15, %%ymm3, %%ymm3\n\t"
        "vpshufb %%ymm15, %%ymm4, %%ymm4\n\t"
        "vpshufb %%ymm15, %%ymm5, %%ymm5\n\t"
        "vpshufb %%ymm15, %%ymm6, %%ymm6\n\t"
        "vpshufb %%ymm15, %%ymm7, %%ymm7\n\t"
        ".endr\n\t"
        "vzeroupper" ::
            : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7");
  }
  return 32.0 * kLoops / SecondsSince(start);
#else
  return 0;
#endif
}

struct Figure {
  const Kernels* set;
  bool quads_outside;
  double best;
};

}  // namespace
}  // namespace bihrnet

int main(int argc, char** argv) {
  using namespace bihrnet;
  const int repetitions = argc > 1 ? std::atoi(argv[1]) : 300;
  const int shapes[][3] = {{64, 48, 32}, {32, 24, 64}, {16, 12, 128}, {8, 6, 256}};
  std::vector<Layer> layers;
  std::vector<std::vector<Figure>> figures;
  for (const auto& shape : shapes) {
    layers.emplace_back(shape[0], shape[1], shape[2]);
    figures.emplace_back();
    for (const Kernels* set : {ScalarKernels(), Avx2Kernels(), NeonKernels()}) {
      if (set == nullptr) continue;
      for (const bool quads_outside : {false, true}) figures.back().push_back({set, quads_outside, 0});
    }
  }
  double shuffles = 0;
  for (int i = 0; i < repetitions; ++i) {
    for (size_t layer = 0; layer < layers.size(); ++layer) {
      shuffles = std::max(shuffles, ShuffleRate());
      for (Figure& figure : figures[layer]) {
        // The scalar set is slow, and a few repetitions say enough about it.
        if (figure.set == ScalarKernels() && i >= 5) continue;
        figure.best = std::max(figure.best, layers[layer].Run(*figure.set, figure.quads_outside));
      }
    }
  }
  const double bound = shuffles * kLanes * kQuad / 1e9;
  std::string json = "{\"shuffle_bound_gmacs\": " + std::to_string(bound) + ", \"figures\": [";
  if (bound > 0) std::printf("shuffle bound %.0f GMAC/s\n", bound);
  for (size_t i = 0; i < layers.size(); ++i) {
    const Layer& layer = layers[i];
    for (const Figure& figure : figures[i]) {
      const char* order = figure.quads_outside ? "channels outside" : "pixels outside";
      const double gmacs = figure.best / 1e9;
      std::printf("%-6s %2d x %2d x %3d, %-16s %7.1f GMAC/s", figure.set->name, layer.height(), layer.width(),
                  layer.channels(), order, gmacs);
      std::printf(bound > 0 ? ", %.3f of the bound\n" : "\n", gmacs / bound);
      char item[256];
      std::snprintf(item, sizeof(item),
                    "%s{\"set\": \"%s\", \"height\": %d, \"width\": %d, \"channels\": %d, \"order\": \"%s\", "
                    "\"gmacs\": %.1f, \"of_bound\": %.4f}",
                    json.back() == '[' ? "" : ", ", figure.set->name, layer.height(), layer.width(), layer.channels(),
                    order, gmacs, bound > 0 ? gmacs / bound : 0.0);
      json += item;
    }
  }
  std::printf("%s]}\n", json.c_str());
  return 0;
}
