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
  int y = pixel / geometry.pitch;
  int row = y * geometry.pitch;
  for (int p = pixel; p < end; ++y, row += geometry.pitch, p = row) {
    const int row_end = row + geometry.width;
    if (p < row_end) f(y, p - row, p - pixel, std::min(row_end, end) - p);
  }
}

// Whether every pixel is the mean of four.
inline bool Halves(const Pool& pool, const Geometry& from, const Geometry& to) {
  return pool.average && pool.height == 2 && pool.width == 2 && pool.stride_height == 2 && pool.stride_width == 2 &&
         pool.pad_top == 0 && pool.pad_left == 0 && from.height == 2 * to.height && from.width == 2 * to.width;
}

}  // namespace bihrnet
