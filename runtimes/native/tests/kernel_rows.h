// What the kernels' tests work on: floats worth trying, rows to read and to write, and how a test fails.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "guarded.h"
#include "kernels.h"

namespace bihrnet {

[[noreturn]] inline void Fail(const std::string& what, const char* set) {
  std::fprintf(stderr, "kernels_test: %s: set %s differs\n", what.c_str(), set);
  std::exit(1);
}

// Floats without NaN among which are both zeros, infinities, denormals, ties and numbers around 2^23.
inline float Any(bool infinities) {
  static const float kSpecial[] = {0.0f,
                                   -0.0f,
                                   0.5f,
                                   -0.5f,
                                   1.5f,
                                   2.5f,
                                   -2.5f,
                                   1e-42f,
                                   -1e-42f,
                                   0.4999999701976776123046875f,
                                   8388607.5f,
                                   -8388607.5f,
                                   8388608.0f,
                                   4194304.5f,
                                   -4194303.5f,
                                   16777215.0f,
                                   3e9f,
                                   -3e9f,
                                   -0.4999999701976776f};
  const int kind = Random(0, 9);
  if (kind == 0) return kSpecial[Random(0, static_cast<int>(sizeof(kSpecial) / sizeof(*kSpecial)) - 1)];
  if (kind == 1 && infinities) return Random(0, 1) ? INFINITY : -INFINITY;
  if (kind == 2) return static_cast<float>(Random(-40, 40)) / 2;
  return std::uniform_real_distribution<float>(-30.0f, 30.0f)(Rng());
}

inline std::vector<float> Floats(size_t count, bool infinities = false) {
  std::vector<float> values(count);
  for (float& value : values) value = Any(infinities);
  return values;
}

inline bool SameBits(float a, float b) {
  // NaNs come only from infinities, and their payload is the machine's.
  return (std::isnan(a) && std::isnan(b)) || std::memcmp(&a, &b, sizeof(a)) == 0;
}

inline int Pixels() { return kLanes * Random(1, kTilePixels / kLanes); }

struct Rows {
  explicit Rows(int channels, int pixels, bool infinities = false) {
    for (int c = 0; c < channels; ++c) {
      values.emplace_back(pixels);
      const std::vector<float> from = Floats(pixels, infinities);
      std::copy(from.begin(), from.end(), values.back().get());
      pointers.push_back(values.back().get());
    }
  }
  std::vector<Input<float>> values;
  std::vector<const float*> pointers;
};

struct OutputRows {
  OutputRows(int channels, int pixels) {
    for (int c = 0; c < channels; ++c) {
      values.emplace_back(pixels);
      pointers.push_back(values.back().data());
    }
  }
  void Fill(const Rows& from) {
    for (size_t c = 0; c < values.size(); ++c) {
      std::copy_n(from.pointers[c], values[c].size(), values[c].data());
    }
  }
  bool GuardsHold() const {
    return std::all_of(values.begin(), values.end(), [](const auto& row) { return row.GuardsHold(); });
  }
  std::vector<Output<float>> values;
  std::vector<float*> pointers;
};

// resample_test.cc
void TestHalving(const Kernels& set);
void TestEverySecond(const Kernels& set);
void TestRepeats(const Kernels& set);

void TestConvs(const Kernels& set);  // kernels_conv_test.cc

void TestBytes(const Kernels& set);  // bytes_test.cc

void TestByteConvs(const Kernels& set);  // byte_conv_test.cc

}  // namespace bihrnet
