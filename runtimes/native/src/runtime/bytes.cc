// The executor's work on planes of bytes.
#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/executor.h"
#include "runtime/image_rows.h"

namespace bihrnet {
namespace {

// TensorFlow Lite, integer_ops/pooling.h: a mean's ties go away from zero.
int8_t PoolBytes(const Pool& pool, const Geometry& source, const int8_t* plane, int y, int x) {
  const int top = y * pool.stride_height - pool.pad_top;
  const int left = x * pool.stride_width - pool.pad_left;
  const int y1 = std::min(top + pool.height, source.height);
  const int x1 = std::min(left + pool.width, source.width);
  const int y0 = std::max(top, 0), x0 = std::max(left, 0);
  int sum = 0, largest = -128;
  for (int sy = y0; sy < y1; ++sy) {
    for (int sx = x0; sx < x1; ++sx) {
      const int value = plane[sy * source.pitch + sx];
      sum += value;
      largest = std::max(largest, value);
    }
  }
  const int count = (y1 - y0) * (x1 - x0);
  const int mean = (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
  return static_cast<int8_t>(std::clamp(pool.average ? mean : largest, pool.low, pool.high));
}

}  // namespace

void Executor::RunByteTile(const Step& step, const BoundStep& bound, int quad, int pixel, int pixels, StepTime* time) {
  alignas(64) int8_t scratch[kQuad][kTilePixels];
  int8_t* rows[kQuad] = {scratch[0], scratch[1], scratch[2], scratch[3]};
  const int first = quad * kQuad;
  const int channels = std::min(kQuad, bound.channels - first);
  if (bound.kind == StepKind::kRead) {
    ByteRowsOf(bound.source.planes, first, pixel, rows);
  } else {
    if (bound.target.first != nullptr) ByteRowsOf(bound.target, first, pixel, rows);
    ProduceBytes(step, bound, quad, channels, pixel, pixels, rows, time);
  }
  int8_t* const temporary[kQuad] = {scratch[0], scratch[1], scratch[2], scratch[3]};
  RunByteLinks(step, bound, quad, channels, pixel, pixels, rows, temporary);
}

// What is done to rows that were just made, or read; `temporary` rows may be the same.
void Executor::RunByteLinks(const Step& step, const BoundStep& bound, int quad, int channels, int pixel, int pixels,
                            const int8_t* const* made, int8_t* const* temporary) const {
  const int first = quad * kQuad;
  int8_t* rows[kQuad] = {};
  const int8_t* current[kQuad] = {};
  std::copy_n(made, kQuad, current);
  for (const Link *next = bound.links, *end = next + bound.link_count; next != end; ++next) {
    const Link& link = *next;
    if (link.kind == Link::Kind::kSign) {
      SetSigns(bound, link, quad, channels, pixel, pixels, nullptr, current);
      continue;
    }
    if (link.target.first != nullptr) {
      ByteRowsOf(link.target, first, pixel, rows);
    } else {
      std::copy_n(temporary, kQuad, rows);
    }
    if (link.kind == Link::Kind::kByteSum) {
      RunByteSum(step, link, quad, channels, pixel, pixels, current, rows);
    } else {
      kernels_.byte_map({rows, current, link.maps + first, channels, pixels});
    }
    std::copy_n(rows, kQuad, current);
  }
}

void Executor::RunByteSum(const Step& step, const Link& link, int quad, int channels, int pixel, int pixels,
                          const int8_t* const* source, int8_t* const* rows) const {
  alignas(64) int8_t scratch[kQuad][kTilePixels];
  const int8_t* operands[kQuad];
  ByteOperandOf(step, link.operands[0], quad, channels, pixel, pixels, scratch, operands);
  const int8_t* const* second = operands;
  if (link.carries_second) std::swap(source, second);
  kernels_.byte_sum({rows, source, second, link.addition, channels, pixels});
}

// Where an operand's rows are: in its planes, or, resized, in `scratch`.
void Executor::ByteOperandOf(const Step& step, const Operand& operand, int quad, int channels, int pixel, int pixels,
                             int8_t (*scratch)[kTilePixels], const int8_t** rows) const {
  if (operand.resize == nullptr) return ByteRowsOf(operand.planes, quad * kQuad, pixel, rows);
  for (int c = 0; c < channels; ++c) {
    ByteResizeRow(step, operand, quad * kQuad + c, pixel, pixels, scratch[c]);
    rows[c] = scratch[c];
  }
}

void Executor::ByteResizeRow(const Step& step, const Operand& operand, int channel, int pixel, int pixels,
                             int8_t* row) const {
  const Resize& resize = *operand.resize;
  const Geometry& geometry = GeometryOf(step);
  const int8_t* plane = operand.planes.ByteRow(channel);
  if (resize.factor > 0) {
    const int y = pixel / geometry.pitch;
    return kernels_.byte_repeat({plane, operand.pitch, resize.row.data(), resize.factor, row, y,
                                 pixel - y * geometry.pitch, pixels, geometry.height, geometry.width, geometry.pitch});
  }
  ForEachRun(geometry, pixel, pixels, [&](int y, int x, int at, int count) {
    const int8_t* from = plane + ptrdiff_t{resize.row[static_cast<size_t>(y)]} * operand.pitch;
    for (int i = 0; i < count; ++i) row[at + i] = from[resize.column[static_cast<size_t>(x + i)]];
  });
}

void Executor::PoolByteRow(const Step& step, const BoundStep& bound, int channel, int pixel, int pixels,
                           int8_t* row) const {
  const Geometry& geometry = GeometryOf(step);
  const Geometry& source = program_.geometries[static_cast<size_t>(ValueOf(step.source).geometry)];
  const Pool& pool = step.pool;
  const int8_t* plane = bound.source.planes.ByteRow(channel);
  const bool halves = Halves(pool, source, geometry) && pool.low == -128 && pool.high == 127;
  // Whole rows are one call.
  const int first = pixel / geometry.pitch;
  const int whole =
      halves && pixel % geometry.pitch == 0 ? std::clamp(geometry.height - first, 0, pixels / geometry.pitch) : 0;
  const int done = whole * geometry.pitch;
  if (whole > 0) {
    kernels_.byte_halve(
        {plane + ptrdiff_t{2} * first * source.pitch, row, geometry.width, whole, source.pitch, geometry.pitch});
  }
  ForEachRun(geometry, pixel + done, pixels - done, [&](int y, int x, int at, int count) {
    int8_t* to = row + done + at;
    if (halves) {
      kernels_.byte_halve(
          {plane + ptrdiff_t{2} * y * source.pitch + 2 * x, to, count, 1, source.pitch, geometry.pitch});
    } else {
      for (int i = 0; i < count; ++i) to[i] = PoolBytes(pool, source, plane, y, x + i);
    }
  });
}

void Executor::ProduceBytes(const Step& step, const BoundStep& bound, int quad, int channels, int pixel, int pixels,
                            int8_t* const* rows, StepTime* time) {
  const Geometry& geometry = GeometryOf(step);
  const auto first = static_cast<size_t>(quad * kQuad);
  switch (bound.kind) {
    case StepKind::kLoad: {
      const auto* data = reinterpret_cast<const int8_t*>(inputs_[static_cast<size_t>(step.tensor)]) + first;
      const auto stride = static_cast<size_t>(step.channels);
      return ForEachRun(geometry, pixel, pixels, [&](int y, int x, int at, int count) {
        const size_t begin = static_cast<size_t>(y) * static_cast<size_t>(geometry.width) + static_cast<size_t>(x);
        for (int c = 0; c < channels; ++c) {
          for (int i = 0; i < count; ++i) rows[c][at + i] = data[(begin + static_cast<size_t>(i)) * stride + c];
        }
      });
    }
    case StepKind::kPool:
      for (int c = 0; c < channels; ++c) PoolByteRow(step, bound, quad * kQuad + c, pixel, pixels, rows[c]);
      return;
    case StepKind::kResize:
      for (int c = 0; c < channels; ++c) {
        ByteResizeRow(step, bound.source, quad * kQuad + c, pixel, pixels, rows[c]);
      }
      return;
    case StepKind::kDequantize: {
      const uint8_t* signs = SignPlane(step.source, quad) + pixel;
      for (int c = 0; c < channels; ++c) {
        for (int i = 0; i < pixels; ++i) rows[c][i] = (signs[i] >> c & 1) != 0 ? -1 : 1;
      }
      return;
    }
    default:
      return ByteBconvRows(step, bound, quad, channels, pixel, pixels, rows, time);
  }
}

void Executor::ByteBconvRows(const Step& step, const BoundStep& bound, int quad, int channels, int pixel, int pixels,
                             int8_t* const* rows, StepTime* time) {
  alignas(64) uint16_t acc[kQuad * kTilePixels];
  CountSigns(bound, quad, pixel, pixels, !bound.pads_are_zero, acc, time);
  if (bound.pads_are_zero) {
    alignas(64) float scratch[kQuad][kTilePixels] = {};
    float* const real[kQuad] = {scratch[0], scratch[1], scratch[2], scratch[3]};
    CorrectedRows(step, bound, quad, channels, pixel, pixels, acc, real);
    for (int c = 0; c < channels; ++c) {
      for (int p = 0; p < pixels; ++p) {
        const float y = std::round(real[c][p]);
        rows[c][p] = static_cast<int8_t>(y >= 127.0f ? 127.0f : y >= -128.0f ? y : -128.0f);  // NaN, too
      }
    }
    return;
  }
  alignas(64) int8_t resized[2][kQuad][kTilePixels];
  const int8_t* residuals[2][kQuad];
  ByteEpilogue epilogue = {};
  epilogue.acc = acc;
  epilogue.rows = rows;
  epilogue.curves = bound.curves + quad * kQuad;
  for (int i = 0; i < 2 && bound.residuals[i].planes.first != nullptr; ++i) {
    ByteOperandOf(step, bound.residuals[i], quad, channels, pixel, pixels, resized[i], residuals[i]);
    (i == 0 ? epilogue.residual : epilogue.second_residual) = residuals[i];
  }
  epilogue.clamp_min = bound.clamp_min;
  epilogue.clamp_max = bound.clamp_max;
  epilogue.channels = channels;
  epilogue.pixels = pixels;
  kernels_.byte_epilogue(epilogue);
}

}  // namespace bihrnet
