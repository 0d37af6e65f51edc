#include "runtime/executor.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace bihrnet {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kLargePage = size_t{2} << 20;
constexpr size_t kSlack = 4 * kLanes;  // kernels may read a vector past the last plane

}  // namespace

uint64_t Ticks() {
#if defined(__x86_64__)
  return __rdtsc();
#elif defined(__aarch64__)
  uint64_t ticks;
  asm volatile("mrs %0, cntvct_el0" : "=r"(ticks));
  return ticks;
#else
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
#endif
}

void Executor::Free::operator()(void* memory) const { std::free(memory); }

Executor::Executor(Program program, const Kernels& kernels, ThreadPool& pool, bool profile)
    : program_(std::move(program)),
      kernels_(kernels),
      pool_(pool),
      profile_(profile),
      schedule_(ScheduleItems(program_, pool.threads())),
      next_(static_cast<size_t>(program_.levels)) {
  if (profile_) {
    times_.assign(static_cast<size_t>(pool_.threads()), std::vector<StepTime>(program_.steps.size()));
  }
}

bool Executor::Allocate() {
  // A tile touches a page of every plane: with small pages that is more than a core remembers. Large ones are asked for
  // as far as there is enough to fill them.
  const size_t bytes = (program_.arena_bytes + kSlack + kAlignment - 1) / kAlignment * kAlignment;
  const size_t alignment = bytes >= kLargePage ? kLargePage : kAlignment;
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, bytes) != 0) return false;
  arena_.reset(static_cast<uint8_t*>(memory));
#if defined(__linux__)
  if (alignment == kLargePage) madvise(arena_.get(), bytes / kLargePage * kLargePage, MADV_HUGEPAGE);
#endif
  std::memset(arena_.get(), 0, bytes);
  bound_ = std::make_unique<BoundProgram>(&program_, arena_.get());
  return true;
}

float* Executor::FloatPlane(PlaneRef plane, int channel) const {
  const Value& value = ValueOf(plane);
  return reinterpret_cast<float*>(arena_.get() + value.offset +
                                  static_cast<size_t>(plane.plane + channel) * value.plane_bytes);
}

uint8_t* Executor::SignPlane(PlaneRef plane, int quad) const {
  const Value& value = ValueOf(plane);
  return arena_.get() + value.offset + static_cast<size_t>(plane.plane + quad) * value.plane_bytes + value.margin;
}

// What lies around a sign plane is padding, and the memory had other uses before.
void Executor::ZeroMargins(PlaneRef plane, int quad, bool front, bool back) const {
  const Value& value = ValueOf(plane);
  uint8_t* first = SignPlane(plane, quad);
  if (front) std::memset(first - value.margin, 0, value.margin);
  if (back) {
    const auto pixels = static_cast<size_t>(program_.geometries[static_cast<size_t>(value.geometry)].pixels);
    std::memset(first + pixels, 0, value.plane_bytes - value.margin - pixels);
  }
}

void Executor::Run(const std::vector<const void*>& inputs, const std::vector<void*>& outputs) {
  const uint64_t start = profile_ ? Ticks() : 0;
  for (int image = 0; image < program_.batch; ++image) {
    inputs_.clear();
    outputs_.clear();
    for (const void* input : inputs) inputs_.push_back(static_cast<const uint8_t*>(input));
    for (void* output : outputs) outputs_.push_back(static_cast<uint8_t*>(output));
    for (const Step& step : program_.steps) {
      // One image further in the tensor that the step loads or stores.
      const Geometry& geometry = GeometryOf(step);
      const size_t area = static_cast<size_t>(geometry.height) * static_cast<size_t>(geometry.width);
      const auto channels = static_cast<size_t>(step.channels);
      const auto shift = static_cast<size_t>(image) * area;
      const auto tensor = static_cast<size_t>(step.tensor);
      // Several steps may load one tensor.
      const auto skip = [&](size_t bytes) { inputs_[tensor] = static_cast<const uint8_t*>(inputs[tensor]) + bytes; };
      if (step.kind == StepKind::kLoad) skip(shift * channels * (step.tensor_is_int8 ? 1 : 4));
      if (step.kind == StepKind::kLoadWords && step.tensor >= 0) {
        skip(static_cast<size_t>(image) * step.words.tensor_floats * (step.tensor_is_int8 ? 1 : 4));
      }
      if (step.kind == StepKind::kLoadBits) skip(shift * ((channels + 31) / 32) * 4);
      if (step.kind == StepKind::kStore) outputs_[tensor] += shift * channels * (step.tensor_is_int8 ? 1 : 4);
      if (step.kind == StepKind::kStoreBits) outputs_[tensor] += shift * ((channels + 31) / 32) * 4;
    }
    for (std::atomic<uint64_t>& next : next_) next.store(0, std::memory_order_relaxed);
    pool_.Run([this](int thread) { Work(thread); });
  }
  ++runs_;
  if (profile_) ticks_ += Ticks() - start;
}

// The low half of a level's counter holds how many items were taken from its front, the high half from its back.
void Executor::Work(int thread) {
  const bool front = 2 * thread < pool_.threads();
  const uint64_t one = front ? 1 : uint64_t{1} << 32;
  for (size_t i = 0; i < next_.size(); ++i) {
    const Item* items = schedule_.items.data() + schedule_.levels[i];
    const auto count = static_cast<uint64_t>(schedule_.levels[i + 1] - schedule_.levels[i]);
    for (;;) {
      const uint64_t taken = next_[i].fetch_add(one, std::memory_order_relaxed);
      const uint64_t at_front = taken & 0xffffffff, at_back = taken >> 32;
      if (at_front + at_back >= count) break;
      RunItem(front ? items[at_front] : items[count - 1 - at_back], thread);
    }
    pool_.Barrier();
  }
}

// A step's description was last read a run ago: it is on its way while the step before works.
void Executor::Prefetch(const Item* next) const {
  const auto* bound = reinterpret_cast<const char*>(&(*bound_)[next->step]);
  for (size_t i = 0; i < sizeof(BoundStep); i += 64) __builtin_prefetch(bound + i);
}

void Executor::RunItem(const Item& item, int thread) {
  const Step& step = program_.steps[static_cast<size_t>(item.step)];
  const BoundStep& bound = (*bound_)[item.step];
  Prefetch(&item + 1);
  StepTime* time = profile_ ? &times_[static_cast<size_t>(thread)][static_cast<size_t>(item.step)] : nullptr;
  const uint64_t start = profile_ ? Ticks() : 0;
  switch (bound.kind) {
    case StepKind::kRegrid:
      RegridPlanes(step, item.first_quad, item.quads);
      break;
    case StepKind::kBinaryPool:
      PoolSigns(step, item.first_quad, item.quads);
      break;
    case StepKind::kLoadBits:
      LoadBits(step, item.first_quad, item.quads);
      break;
    case StepKind::kLoadWords:
      LoadWordRows(step, item.first_pixel, item.pixels);
      break;
    case StepKind::kConv:
      bound.bytes ? RunByteConv(step, bound, item) : RunConv(step, bound, item);
      break;
    case StepKind::kStore:
      StoreRows(step, item.first_pixel, item.pixels);
      break;
    case StepKind::kStoreBits:
      StoreBits(step, item.first_pixel, item.pixels);
      break;
    default: {
      const int last_quad = item.first_quad + item.quads;
      const int last_pixel = item.first_pixel + item.pixels;
      const auto tile = [&](int quad, int pixel) {
        RunTile(step, bound, quad, pixel, std::min(kTilePixels, last_pixel - pixel), time);
      };
      if (item.pixels_outside) {
        for (int pixel = item.first_pixel; pixel < last_pixel; pixel += kTilePixels) {
          for (int quad = item.first_quad; quad < last_quad; ++quad) tile(quad, pixel);
        }
      } else {
        for (int quad = item.first_quad; quad < last_quad; ++quad) {
          for (int pixel = item.first_pixel; pixel < last_pixel; pixel += kTilePixels) tile(quad, pixel);
        }
      }
    }
  }
  if (profile_) time->ticks += Ticks() - start;
}

void Executor::RunTile(const Step& step, const BoundStep& bound, int quad, int pixel, int pixels, StepTime* time) {
  if (bound.bytes) return RunByteTile(step, bound, quad, pixel, pixels, time);
  alignas(64) float scratch[kQuad][kTilePixels];
  float* const temporary[kQuad] = {scratch[0], scratch[1], scratch[2], scratch[3]};
  float* rows[kQuad] = {};
  const int channels = std::min(kQuad, bound.channels - quad * kQuad);
  if (bound.kind == StepKind::kRead) {
    RowsOf(bound.source.planes, quad * kQuad, pixel, rows);
  } else {
    if (bound.target.first != nullptr) {
      RowsOf(bound.target, quad * kQuad, pixel, rows);
    } else {
      std::copy_n(temporary, kQuad, rows);
    }
    Produce(step, bound, quad, channels, pixel, pixels, rows, time);
  }
  RunLinks(step, bound, quad, channels, pixel, pixels, rows, temporary);
}

// What is done to rows that were just made, or read; `temporary` rows may be the same.
void Executor::RunLinks(const Step& step, const BoundStep& bound, int quad, int channels, int pixel, int pixels,
                        const float* const* made, float* const* temporary) const {
  float* rows[kQuad] = {};
  const float* current[kQuad] = {};  // what the last link made, in scratch or where it is stored
  std::copy_n(made, kQuad, current);
  for (const Link *next = bound.links, *end = next + bound.link_count; next != end; ++next) {
    const Link& link = *next;
    if (link.kind == Link::Kind::kSign) {
      SetSigns(bound, link, quad, channels, pixel, pixels, current, nullptr);
      continue;
    }
    if (link.target.first != nullptr) {
      RowsOf(link.target, quad * kQuad, pixel, rows);
    } else {
      std::copy_n(temporary, kQuad, rows);
    }
    RunLink(step, link, quad, channels, pixel, pixels, current, rows);
    std::copy_n(rows, kQuad, current);
  }
}

// Of rows of floats, or, where they are given, of bytes.
void Executor::SetSigns(const BoundStep& bound, const Link& link, int quad, int channels, int pixel, int pixels,
                        const float* const* rows, const int8_t* const* bytes) const {
  uint8_t* nibbles = link.target.first + static_cast<size_t>(quad) * link.target.bytes;
  const int first = quad * kQuad;
  if (bytes != nullptr) {
    unsigned always = 0;
    for (int c = 0; c < channels; ++c) always |= unsigned{link.always[first + c]} << c;
    kernels_.byte_signs({bytes, link.thresholds + first, static_cast<uint8_t>(always), bound.mask + pixel,
                         nibbles + pixel, channels, pixels});
  } else {
    const float* bias = link.constants == nullptr ? nullptr : link.constants + first;
    kernels_.quantize({rows, bias, bound.mask + pixel, nibbles + pixel, channels, pixels});
  }
  // What lies around a sign plane is padding, and the memory had other uses before.
  if (pixel == 0) std::memset(nibbles - link.margin, 0, link.margin);
  if (pixel + pixels == bound.pixels) std::memset(nibbles + bound.pixels, 0, link.margin_back);
}

void Executor::RunLink(const Step& step, const Link& link, int quad, int channels, int pixel, int pixels,
                       const float* const* source, float* const* rows) const {
  alignas(64) float scratch[kMaxTerms][kTilePixels];
  const float* operands[kMaxTerms][kQuad];
  // Resized operands are made a channel at a time, so that they are still in the first cache when they are read.
  const int together = link.resizes ? 1 : channels;
  for (int c = 0; c < channels; c += together) {
    const int first = quad * kQuad + c;
    for (int i = 0; i < link.operand_count; ++i) {
      const Operand& operand = link.operands[i];
      if (operand.resize == nullptr) {
        RowsOf(operand.planes, first, pixel, operands[i]);
      } else {
        ResizeRow(step, operand, first, pixel, pixels, scratch[i]);
        operands[i][0] = scratch[i];
      }
    }
    const float* constants = link.constants == nullptr ? nullptr : link.constants + first;
    if (link.kind == Link::Kind::kSum) {
      kernels_.sum({rows + c,
                    source + c,
                    {operands[0], operands[1], operands[2]},
                    link.operand_count,
                    constants,
                    together,
                    pixels});
    } else {
      kernels_.pointwise(
          {link.op, rows + c, source + c, link.operand_count > 0 ? operands[0] : nullptr, constants, together, pixels});
    }
  }
}

void Executor::Produce(const Step& step, const BoundStep& bound, int quad, int channels, int pixel, int pixels,
                       float* const* rows, StepTime* time) {
  switch (bound.kind) {
    case StepKind::kLoad:
      return LoadRows(step, quad, channels, pixel, pixels, rows);
    case StepKind::kPool:
      return PoolRows(step, quad, channels, pixel, pixels, rows);
    case StepKind::kResize:
      for (int c = 0; c < channels; ++c) ResizeRow(step, bound.source, quad * kQuad + c, pixel, pixels, rows[c]);
      return;
    case StepKind::kDequantize:
      return DequantizeRows(step, quad, channels, pixel, pixels, rows);
    default:
      return BconvRows(step, bound, quad, channels, pixel, pixels, rows, time);
  }
}

void Executor::CountSigns(const BoundStep& bound, int quad, int pixel, int pixels, bool halves, uint16_t* acc,
                          StepTime* time) const {
  const uint64_t start = time != nullptr ? Ticks() : 0;
  kernels_.bconv({bound.source.planes.first + pixel, bound.offsets,
                  bound.weights + static_cast<size_t>(quad) * 6 * static_cast<size_t>(bound.triples), bound.triples,
                  pixels / kLanes, halves},
                 acc);
  if (time != nullptr) time->bconv_ticks += Ticks() - start;
}

void Executor::BconvRows(const Step& step, const BoundStep& bound, int quad, int channels, int pixel, int pixels,
                         float* const* rows, StepTime* time) {
  alignas(64) uint16_t acc[kQuad * kTilePixels];
  const int first = quad * kQuad;
  CountSigns(bound, quad, pixel, pixels, false, acc, time);
  if (bound.pads_are_zero) return CorrectedRows(step, bound, quad, channels, pixel, pixels, acc, rows);
  alignas(64) float resized[2][kQuad][kTilePixels];
  const float* residuals[2][kQuad];
  const float* const* given[2] = {};
  for (int i = 0; i < 2 && bound.residuals[i].planes.first != nullptr; ++i) {
    const Operand& operand = bound.residuals[i];
    if (operand.resize == nullptr) {
      RowsOf(operand.planes, first, pixel, residuals[i]);
    } else {
      for (int c = 0; c < channels; ++c) {
        ResizeRow(step, operand, first + c, pixel, pixels, resized[i][c]);
        residuals[i][c] = resized[i][c];
      }
    }
    given[i] = residuals[i];
  }
  Epilogue epilogue;
  epilogue.acc = acc;
  epilogue.rows = rows;
  epilogue.multiplier = bound.multiplier + first;
  epilogue.bias = bound.bias + first;
  epilogue.alpha = bound.alpha == nullptr ? nullptr : bound.alpha + first;
  epilogue.residual = given[0];
  epilogue.second_residual = given[1];
  epilogue.clamp_min = bound.clamp_min;
  epilogue.clamp_max = bound.clamp_max;
  epilogue.channels = channels;
  epilogue.pixels = pixels;
  kernels_.epilogue(epilogue);
}

std::vector<StepTime> Executor::StepTimes() const {
  std::vector<StepTime> sums(program_.steps.size());
  for (const std::vector<StepTime>& thread : times_) {
    for (size_t i = 0; i < sums.size(); ++i) {
      sums[i].ticks += thread[i].ticks;
      sums[i].bconv_ticks += thread[i].bconv_ticks;
    }
  }
  return sums;
}

}  // namespace bihrnet
