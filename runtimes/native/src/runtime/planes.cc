// The executor's work on planes that is no kernel: the region's borders, other geometries, zero padding.
#include <algorithm>
#include <cstring>

#include "runtime/executor.h"
#include "runtime/image_rows.h"

namespace bihrnet {
namespace {

float PoolWindow(const Pool& pool, const Geometry& source, const float* plane, int y, int x) {
  const int top = y * pool.stride_height - pool.pad_top;
  const int left = x * pool.stride_width - pool.pad_left;
  const int y1 = std::min(top + pool.height, source.height);
  const int x1 = std::min(left + pool.width, source.width);
  const int y0 = std::max(top, 0), x0 = std::max(left, 0);
  float result = pool.average ? 0.0f : plane[y0 * source.pitch + x0];
  for (int sy = y0; sy < y1; ++sy) {
    for (int sx = x0; sx < x1; ++sx) {
      const float value = plane[sy * source.pitch + sx];
      result = pool.average ? result + value : std::max(result, value);
    }
  }
  return pool.average ? result / static_cast<float>((y1 - y0) * (x1 - x0)) : result;
}

}  // namespace

void Executor::LoadRows(const Step& step, int quad, int channels, int pixel, int pixels, float* const* rows) const {
  const Geometry& geometry = GeometryOf(step);
  const uint8_t* data = inputs_[static_cast<size_t>(step.tensor)];
  ForEachRun(geometry, pixel, pixels, [&](int y, int x, int at, int count) {
    const size_t first = (static_cast<size_t>(y) * static_cast<size_t>(geometry.width) + static_cast<size_t>(x)) *
                             static_cast<size_t>(step.channels) +
                         static_cast<size_t>(quad * kQuad);
    float* targets[kQuad];
    for (int c = 0; c < channels; ++c) targets[c] = rows[c] + at;
    // The kernel only reads from here.
    auto* source = const_cast<float*>(reinterpret_cast<const float*>(data)) + first;
    kernels_.rows_from_nhwc({targets, source, step.channels, channels, count});
  });
}

void Executor::StoreRows(const Step& step, int pixel, int pixels) const {
  const Geometry& geometry = GeometryOf(step);
  uint8_t* data = outputs_[static_cast<size_t>(step.tensor)];
  for (const Part& part : step.parts) {
    for (int first = 0; first < part.channels; first += kQuad) {
      const int channels = std::min(kQuad, part.channels - first);
      uint8_t* planes[kQuad];
      for (int c = 0; c < channels; ++c) planes[c] = reinterpret_cast<uint8_t*>(FloatPlane(part.source, first + c));
      ForEachRun(geometry, pixel, pixels, [&](int y, int x, int at, int count) {
        const size_t begin = (static_cast<size_t>(y) * static_cast<size_t>(geometry.width) + static_cast<size_t>(x)) *
                                 static_cast<size_t>(step.channels) +
                             static_cast<size_t>(part.first + first);
        if (step.tensor_is_int8) {
          for (int c = 0; c < channels; ++c) {
            uint8_t* target = data + begin + c;
            for (int i = 0; i < count; ++i) target[static_cast<size_t>(i) * step.channels] = planes[c][pixel + at + i];
          }
        } else {
          float* rows[kQuad];
          for (int c = 0; c < channels; ++c) rows[c] = reinterpret_cast<float*>(planes[c]) + pixel + at;
          kernels_.nhwc_from_rows({rows, reinterpret_cast<float*>(data) + begin, step.channels, channels, count});
        }
      });
    }
  }
}

void Executor::LoadBits(const Step& step, int first, int count) {
  const Geometry& geometry = GeometryOf(step);
  const size_t words = (static_cast<size_t>(step.channels) + 31) / 32;
  const uint8_t* data = inputs_[static_cast<size_t>(step.tensor)];
  for (int quad = first; quad < first + count; ++quad) {
    uint8_t* plane = SignPlane(step.target, quad);
    std::memset(plane, 0, static_cast<size_t>(geometry.pixels));
    ZeroMargins(step.target, quad, true, true);
    const unsigned valid = (1u << std::min(kQuad, step.channels - quad * kQuad)) - 1;
    for (int y = 0; y < geometry.height; ++y) {
      for (int x = 0; x < geometry.width; ++x) {
        const size_t pixel = static_cast<size_t>(y) * static_cast<size_t>(geometry.width) + static_cast<size_t>(x);
        const unsigned byte = data[pixel * words * 4 + static_cast<size_t>(quad / 2)];
        plane[y * geometry.pitch + x] = static_cast<uint8_t>((quad % 2 == 0 ? byte : byte >> 4) & valid);
      }
    }
  }
}

void Executor::StoreBits(const Step& step, int pixel, int pixels) const {
  const Geometry& geometry = GeometryOf(step);
  const size_t bytes = (static_cast<size_t>(step.channels) + 31) / 32 * 4;
  const PlaneRef source = step.parts[0].source;
  const int planes = (step.channels + kQuad - 1) / kQuad;
  uint8_t* data = outputs_[static_cast<size_t>(step.tensor)];
  ForEachRun(geometry, pixel, pixels, [&](int y, int x, int at, int count) {
    uint8_t* target =
        data + (static_cast<size_t>(y) * static_cast<size_t>(geometry.width) + static_cast<size_t>(x)) * bytes;
    std::memset(target, 0, bytes * static_cast<size_t>(count));
    for (int quad = 0; quad < planes; ++quad) {
      const uint8_t* signs = SignPlane(source, quad) + pixel + at;
      for (int i = 0; i < count; ++i) {
        target[static_cast<size_t>(i) * bytes + static_cast<size_t>(quad / 2)] |=
            static_cast<uint8_t>(quad % 2 == 0 ? signs[i] : signs[i] << 4);
      }
    }
  });
}

void Executor::PoolRows(const Step& step, int quad, int channels, int pixel, int pixels, float* const* rows) const {
  const Geometry& geometry = GeometryOf(step);
  const Geometry& source = program_.geometries[static_cast<size_t>(ValueOf(step.source).geometry)];
  const Pool& pool = step.pool;
  const bool halves = Halves(pool, source, geometry);
  // Whole rows are one call.
  const int first = pixel / geometry.pitch;
  const int whole =
      halves && pixel % geometry.pitch == 0 ? std::clamp(geometry.height - first, 0, pixels / geometry.pitch) : 0;
  const int done = whole * geometry.pitch;
  for (int c = 0; c < channels; ++c) {
    const float* plane = FloatPlane(step.source, quad * kQuad + c);
    if (whole > 0) {
      kernels_.halve({plane + 2 * first * source.pitch, rows[c], geometry.width, whole, source.pitch, geometry.pitch});
    }
    ForEachRun(geometry, pixel + done, pixels - done, [&](int y, int x, int at, int count) {
      float* row = rows[c] + done + at;
      if (halves) {
        kernels_.halve({plane + 2 * y * source.pitch + 2 * x, row, count, 1, source.pitch, geometry.pitch});
      } else {
        for (int i = 0; i < count; ++i) row[i] = PoolWindow(pool, source, plane, y, x + i);
      }
    });
  }
}

void Executor::ResizeRow(const Step& step, const Operand& operand, int channel, int pixel, int pixels,
                         float* row) const {
  const Resize& resize = *operand.resize;
  const Geometry& geometry = GeometryOf(step);
  const float* plane = operand.planes.Row(channel);
  if (resize.factor > 0) {
    const int y = pixel / geometry.pitch;
    return kernels_.repeat({plane, operand.pitch, resize.row.data(), resize.factor, row, y, pixel - y * geometry.pitch,
                            pixels, geometry.height, geometry.width, geometry.pitch});
  }
  ForEachRun(geometry, pixel, pixels, [&](int y, int x, int at, int count) {
    const float* from = plane + resize.row[static_cast<size_t>(y)] * operand.pitch;
    const int* column = resize.column.data() + x;
    for (int i = 0; i < count; ++i) row[at + i] = from[column[i]];
  });
}

void Executor::DequantizeRows(const Step& step, int quad, int channels, int pixel, int pixels,
                              float* const* rows) const {
  const uint8_t* signs = SignPlane(step.source, quad) + pixel;
  for (int c = 0; c < channels; ++c) {
    for (int i = 0; i < pixels; ++i) rows[c][i] = (signs[i] >> c) & 1 ? -1.0f : 1.0f;
  }
}

// Pads were counted as +1: a tap outside the image gives its sum of weights back.
void Executor::CorrectedRows(const Step& step, const BoundStep& bound, int quad, int channels, int pixel, int pixels,
                             const uint16_t* acc, float* const* rows) const {
  const Bconv& bconv = step.bconv;
  const int taps = bconv.taps_height * bconv.taps_width;
  for (int c = 0; c < channels; ++c) {
    const auto channel = static_cast<size_t>(quad * kQuad + c);
    const int32_t* sums = &bconv.tap_sums[channel * static_cast<size_t>(taps)];
    ForEachRun(GeometryOf(step), pixel, pixels, [&](int y, int x, int at, int count) {
      for (int i = 0; i < count; ++i) {
        int32_t twice = 2 * acc[c * kTilePixels + at + i];
        for (int ty = 0; ty < bconv.taps_height; ++ty) {
          const int sy = y * bconv.stride_height + bconv.tap_y[static_cast<size_t>(ty)];
          const bool outside = sy < 0 || sy >= bconv.input_height;
          for (int tx = 0; tx < bconv.taps_width; ++tx) {
            const int sx = (x + i) * bconv.stride_width + bconv.tap_x[static_cast<size_t>(tx)];
            if (outside || sx < 0 || sx >= bconv.input_width) twice += sums[ty * bconv.taps_width + tx];
          }
        }
        twice = std::max(std::min(twice, bconv.clamp_max), bconv.clamp_min);
        rows[c][at + i] = static_cast<float>(twice) * bound.multiplier[channel] + bound.bias[channel];
      }
    });
  }
}

void Executor::RegridPlanes(const Step& step, int first, int count) {
  const Regrid& regrid = step.regrid;
  const Geometry& source = program_.geometries[static_cast<size_t>(ValueOf(step.source).geometry)];
  const int planes = step.channels / kQuad;
  // Where the source exists: rows or columns [begin, end) of an axis that starts at pixel `start`.
  const auto inside = [](int start, int stride, int size, int most, int* begin, int* end) {
    *begin = std::clamp((std::max(-start, 0) + stride - 1) / stride, 0, most);
    *end = std::clamp((size - start + stride - 1) / stride, *begin, most);
  };
  for (size_t phase = 0; phase < regrid.phases.size(); ++phase) {
    const int x0 = regrid.first_column * regrid.stride_width + regrid.phases[phase].x;
    const int y0 = regrid.first_row * regrid.stride_height + regrid.phases[phase].y;
    int left, right, top, bottom;
    inside(x0, regrid.stride_width, source.width, regrid.columns, &left, &right);
    inside(y0, regrid.stride_height, source.height, regrid.rows, &top, &bottom);
    const bool whole = left == 0 && right == regrid.columns && top == 0 && bottom == regrid.rows;
    for (int plane = first; plane < first + count; ++plane) {
      const uint8_t* line = SignPlane(step.source, plane) + (y0 + top * regrid.stride_height) * source.pitch + x0 +
                            left * regrid.stride_width;
      uint8_t* to = SignPlane(step.target, static_cast<int>(phase) * planes + plane);
      if (!whole) std::memset(to, 0, static_cast<size_t>((regrid.rows - 1) * regrid.pitch + regrid.columns));
      to += top * regrid.pitch + left;
      const int line_pitch = regrid.stride_height * source.pitch;
      if (regrid.stride_width == 2) {
        kernels_.every_second({line, to, right - left, bottom - top, line_pitch, regrid.pitch});
        continue;
      }
      for (int row = top; row < bottom; ++row, line += line_pitch, to += regrid.pitch) {
        for (int i = 0; i < right - left; ++i) to[i] = line[regrid.stride_width * i];
      }
    }
  }
}

void Executor::PoolSigns(const Step& step, int first, int count) {
  const Geometry& geometry = GeometryOf(step);
  const Geometry& source = program_.geometries[static_cast<size_t>(ValueOf(step.source).geometry)];
  const Pool& pool = step.pool;
  for (int quad = first; quad < first + count; ++quad) {
    const uint8_t* from = SignPlane(step.source, quad);
    uint8_t* to = SignPlane(step.target, quad);
    std::memset(to, 0, static_cast<size_t>(geometry.pixels));
    ZeroMargins(step.target, quad, true, true);
    for (int y = 0; y < geometry.height; ++y) {
      const int y0 = std::max(y * pool.stride_height - pool.pad_top, 0);
      const int y1 = std::min(y * pool.stride_height - pool.pad_top + pool.height, source.height);
      for (int x = 0; x < geometry.width; ++x) {
        const int x0 = std::max(x * pool.stride_width - pool.pad_left, 0);
        const int x1 = std::min(x * pool.stride_width - pool.pad_left + pool.width, source.width);
        unsigned signs = 0x0f;  // the maximum of +1 and -1 is -1 where all are
        for (int sy = y0; sy < y1; ++sy) {
          for (int sx = x0; sx < x1; ++sx) signs &= from[sy * source.pitch + sx];
        }
        to[y * geometry.pitch + x] = static_cast<uint8_t>(signs);
      }
    }
  }
}

}  // namespace bihrnet
