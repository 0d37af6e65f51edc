// The image rows in a range of a plane's pixels.
#pragma once

#include <algorithm>

#include "compiler/program.h"

namespace bihrnet {

// Calls f(y, x, at, count) for every run of pixels of one image row within [pixel, pixel + pixels) of a plane; `at` is
// the run's place in that range. Pad columns are left out.
template <typename F>
void ForEachRun(const Geometry& geometry, int pixel, int pixels, F f) {
  const int end = std::min(pixel + pixels, geometry.height * geometry.pitch);
  for (int p = pixel; p < end;) {
    const int y = p / geometry.pitch;
    const int x = p - y * geometry.pitch;
    const int row_end = y * geometry.pitch + geometry.width;
    if (p < row_end) f(y, x, p - pixel, std::min(row_end, end) - p);
    p = (y + 1) * geometry.pitch;
  }
}

}  // namespace bihrnet
