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
// What an item should cost, in rough cycles: small enough to share out, large enough that taking it costs nothing.
constexpr int64_t kItemCost = 30000;
// Up to here the signs that a step reads stay in a core's first cache while all of its weights pass by.
constexpr size_t kSmallInput = 24 * 1024;

int QuadsOf(int channels) { return (channels + kQuad - 1) / kQuad; }

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
      levels_(static_cast<size_t>(program_.levels)),
      next_(static_cast<size_t>(program_.levels)) {
  SplitIntoItems();
  if (profile_) {
    times_.assign(static_cast<size_t>(pool_.threads()), std::vector<StepTime>(program_.steps.size()));
  }
}

bool Executor::Allocate() {
  // A tile touches a page of every plane: with small pages that is more than a core remembers. Large ones are asked for
  // where there is enough to fill them.
  const size_t alignment = program_.arena_bytes >= kLargePage ? kLargePage : kAlignment;
  const size_t bytes = (program_.arena_bytes + kSlack + alignment - 1) / alignment * alignment;
  arena_.reset(static_cast<uint8_t*>(std::aligned_alloc(alignment, bytes)));
  if (arena_ == nullptr) return false;
#if defined(__linux__)
  if (alignment == kLargePage) madvise(arena_.get(), bytes, MADV_HUGEPAGE);
#endif
  std::memset(arena_.get(), 0, bytes);
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

void Executor::SplitIntoItems() {
  for (size_t i = 0; i < program_.steps.size(); ++i) {
    SplitStep(static_cast<int>(i), &levels_[static_cast<size_t>(program_.steps[i].level)]);
  }
}

void Executor::SplitStep(int index, Level* level) const {
  const Step& step = program_.steps[static_cast<size_t>(index)];
  const int quads = QuadsOf(step.channels);
  const int pixels = GeometryOf(step).pixels;
  Item item{index, 0, quads, 0, pixels, false};
  switch (step.kind) {
    case StepKind::kRegrid:
    case StepKind::kBinaryPool:
    case StepKind::kLoadBits:
      for (int quad = 0; quad < quads; quad += 4) {
        item.first_quad = quad;
        item.quads = std::min(4, quads - quad);
        level->items.push_back(item);
      }
      return;
    case StepKind::kStore:
    case StepKind::kStoreBits:
      for (int pixel = 0; pixel < pixels; pixel += 4 * kTilePixels) {
        item.first_pixel = pixel;
        item.pixels = std::min(4 * kTilePixels, pixels - pixel);
        level->items.push_back(item);
      }
      return;
    case StepKind::kConv:
      return SplitConv(item, level);
    case StepKind::kLoadWords:
      return SplitWords(item, level);
    default:
      break;
  }
  const int64_t vector_cost = 60 + 9 * int64_t{step.bconv.triples};  // four channels of kLanes pixels
  const bool small = step.kind == StepKind::kBconv && pixels <= 4 * kTilePixels &&
                     ValueOf(step.source).plane_bytes * static_cast<size_t>(ValueOf(step.source).planes) <= kSmallInput;
  item.pixels_outside = !small;
  if (small) {
    const int64_t quad_cost = vector_cost * pixels / kLanes;
    const int chunk = static_cast<int>(std::clamp<int64_t>(kItemCost / quad_cost, 1, quads));
    for (int quad = 0; quad < quads; quad += chunk) {
      item.first_quad = quad;
      item.quads = std::min(chunk, quads - quad);
      level->items.push_back(item);
    }
  } else {
    const int64_t tile_cost = vector_cost * quads * (kTilePixels / kLanes);
    const int chunk = kTilePixels * static_cast<int>(std::clamp<int64_t>(kItemCost / tile_cost, 1, 64));
    for (int pixel = 0; pixel < pixels; pixel += chunk) {
      item.first_pixel = pixel;
      item.pixels = std::min(chunk, pixels - pixel);
      level->items.push_back(item);
    }
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
      if (step.kind == StepKind::kLoadWords) skip(shift * channels * 4);
      if (step.kind == StepKind::kLoadBits) skip(shift * ((channels + 31) / 32) * 4);
      if (step.kind == StepKind::kStore) outputs_[tensor] += shift * channels * (step.tensor_is_int8 ? 1 : 4);
      if (step.kind == StepKind::kStoreBits) outputs_[tensor] += shift * ((channels + 31) / 32) * 4;
    }
    for (std::atomic<int>& next : next_) next.store(0, std::memory_order_relaxed);
    pool_.Run([this](int thread) { Work(thread); });
  }
  ++runs_;
  if (profile_) ticks_ += Ticks() - start;
}

void Executor::Work(int thread) {
  for (size_t i = 0; i < levels_.size(); ++i) {
    const std::vector<Item>& items = levels_[i].items;
    const int count = static_cast<int>(items.size());
    for (int taken = next_[i].fetch_add(1, std::memory_order_relaxed); taken < count;
         taken = next_[i].fetch_add(1, std::memory_order_relaxed)) {
      RunItem(items[static_cast<size_t>(taken)], thread);
    }
    pool_.Barrier();
  }
}

void Executor::RunItem(const Item& item, int thread) {
  const Step& step = program_.steps[static_cast<size_t>(item.step)];
  StepTime* time = profile_ ? &times_[static_cast<size_t>(thread)][static_cast<size_t>(item.step)] : nullptr;
  const uint64_t start = profile_ ? Ticks() : 0;
  switch (step.kind) {
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
      RunConv(step, item);
      break;
    case StepKind::kStore:
      StoreRows(step, item.first_pixel, item.pixels);
      break;
    case StepKind::kStoreBits:
      StoreBits(step, item.first_pixel, item.pixels);
      break;
    default: {
      const int tiles = (item.pixels + kTilePixels - 1) / kTilePixels;
      for (int i = 0; i < tiles * item.quads; ++i) {
        const int tile = item.pixels_outside ? i / item.quads : i % tiles;
        const int quad = item.first_quad + (item.pixels_outside ? i % item.quads : i / tiles);
        const int pixel = item.first_pixel + tile * kTilePixels;
        RunTile(step, quad, pixel, std::min(kTilePixels, item.first_pixel + item.pixels - pixel), time);
      }
    }
  }
  if (profile_) time->ticks += Ticks() - start;
}

void Executor::RunTile(const Step& step, int quad, int pixel, int pixels, StepTime* time) {
  alignas(64) float scratch[kQuad][kTilePixels];
  float* rows[kQuad];
  const int channels = std::min(kQuad, step.channels - quad * kQuad);
  const bool only_reads = step.kind == StepKind::kRead && step.chain.front().kind != ChainOp::Kind::kPointwise;
  const PlaneRef target = only_reads ? step.source : step.direct;
  for (int c = 0; c < channels; ++c) {
    rows[c] = target.value >= 0 ? FloatPlane(target, quad * kQuad + c) + pixel : scratch[c];
  }
  if (!only_reads) Produce(step, quad, channels, pixel, pixels, rows, time);
  RunChain(step, quad, channels, pixel, pixels, rows);
}

void Executor::Produce(const Step& step, int quad, int channels, int pixel, int pixels, float* const* rows,
                       StepTime* time) {
  switch (step.kind) {
    case StepKind::kLoad:
      return LoadRows(step, quad, channels, pixel, pixels, rows);
    case StepKind::kPool:
      return PoolRows(step, quad, channels, pixel, pixels, rows);
    case StepKind::kResize:
      return ResizeRows(step, quad, channels, pixel, pixels, rows);
    case StepKind::kDequantize:
      return DequantizeRows(step, quad, channels, pixel, pixels, rows);
    case StepKind::kRead: {
      const float* sources[kQuad];
      for (int c = 0; c < channels; ++c) sources[c] = FloatPlane(step.source, quad * kQuad + c) + pixel;
      kernels_.pointwise({Pointwise::kCopy, rows, sources, nullptr, channels, pixels});
      return;
    }
    default:
      break;
  }
  alignas(64) uint16_t acc[kQuad * kTilePixels];
  const Bconv& bconv = step.bconv;
  BconvTile tile;
  tile.signs = SignPlane(step.source, 0) + pixel;
  tile.offsets = bconv.offsets.data();
  tile.weights = bconv.weights.data() + static_cast<size_t>(quad) * 6 * static_cast<size_t>(bconv.triples);
  tile.triples = bconv.triples;
  tile.vectors = pixels / kLanes;
  const float* residuals[2][kQuad];
  const auto add = [&](int i) -> const float* const* {
    if (bconv.residuals[i].value < 0) return nullptr;
    for (int c = 0; c < channels; ++c) residuals[i][c] = FloatPlane(bconv.residuals[i], quad * kQuad + c) + pixel;
    return residuals[i];
  };
  Epilogue epilogue;
  epilogue.acc = acc;
  epilogue.rows = rows;
  epilogue.multiplier = &bconv.multiplier[static_cast<size_t>(quad * kQuad)];
  epilogue.bias = &bconv.bias[static_cast<size_t>(quad * kQuad)];
  epilogue.alpha = bconv.alpha.empty() ? nullptr : &bconv.alpha[static_cast<size_t>(quad * kQuad)];
  epilogue.residual = add(0);
  epilogue.second_residual = add(1);
  const uint64_t start = time != nullptr ? Ticks() : 0;
  kernels_.bconv(tile, acc);
  if (time != nullptr) time->bconv_ticks += Ticks() - start;
  if (!bconv.tap_sums.empty()) return CorrectedRows(step, quad, channels, pixel, pixels, acc, rows);
  epilogue.clamp_min = bconv.clamp_min;
  epilogue.clamp_max = bconv.clamp_max;
  epilogue.channels = channels;
  epilogue.pixels = pixels;
  kernels_.epilogue(epilogue);
}

void Executor::RunChain(const Step& step, int quad, int channels, int pixel, int pixels, float* const* rows) {
  for (const ChainOp& link : step.chain) {
    const float* constants = link.constants.empty() ? nullptr : &link.constants[static_cast<size_t>(quad * kQuad)];
    switch (link.kind) {
      case ChainOp::Kind::kPointwise: {
        const float* operands[kQuad];
        const bool planes = link.plane.value >= 0;
        for (int c = 0; planes && c < channels; ++c) operands[c] = FloatPlane(link.plane, quad * kQuad + c) + pixel;
        kernels_.pointwise({link.op, rows, planes ? operands : nullptr, constants, channels, pixels});
        break;
      }
      case ChainOp::Kind::kStore: {
        if (step.direct.value >= 0) break;
        float* targets[kQuad];
        for (int c = 0; c < channels; ++c) targets[c] = FloatPlane(link.plane, quad * kQuad + c) + pixel;
        kernels_.pointwise({Pointwise::kCopy, targets, rows, nullptr, channels, pixels});
        break;
      }
      case ChainOp::Kind::kSign: {
        const Geometry& geometry = GeometryOf(step);
        kernels_.quantize(
            {rows, constants, geometry.mask.data() + pixel, SignPlane(link.plane, quad) + pixel, channels, pixels});
        ZeroMargins(link.plane, quad, pixel == 0, pixel + pixels == geometry.pixels);
        break;
      }
    }
  }
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
