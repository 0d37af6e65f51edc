#include "runtime/schedule.h"

#include <algorithm>

namespace bihrnet {
namespace {

// What an item costs at least, in rough cycles, where there is enough to share out: taking it costs nothing then.
constexpr int64_t kLeastCost = 6000;
constexpr int64_t kItemsPerThread = 12;  // of a level
// Up to here the signs that a step reads stay near a core while all of its weights pass by. Then it goes channel by
// channel: whole planes of floats are read and written, which the processor sees coming.
constexpr size_t kSmallInput = 64 * 1024;

constexpr int kLoadWords = 1 << 15;  // of an item of their load, at about one a cycle
constexpr int kMacsAWord = 16;       // of a convolution on the way: as many take about a cycle

int QuadsOf(int channels) { return (channels + kQuad - 1) / kQuad; }

class Scheduler {
 public:
  Scheduler(const Program& program, int threads, Schedule* schedule)
      : program_(program), threads_(threads), items_(schedule->items), levels_(schedule->levels) {}

  void Run();

 private:
  const Geometry& GeometryOf(const Step& step) const { return program_.geometries[static_cast<size_t>(step.geometry)]; }
  int64_t VectorCost(const Step& step) const;
  int64_t CostOf(const Step& step) const;
  bool ReadsLittle(const Step& step) const;
  void Split(int index, int64_t cost);
  void SplitQuads(Item item, int chunk);
  void SplitPixels(Item item, int tiles, int chunk_quads);
  void SplitRows(Item item);

  const Program& program_;
  int threads_;
  std::vector<Item>& items_;
  std::vector<int>& levels_;
};

// Of four channels of kLanes pixels.
int64_t Scheduler::VectorCost(const Step& step) const {
  return step.kind == StepKind::kBconv ? 90 + 9 * int64_t{step.bconv.triples} : 150;
}

int64_t Scheduler::CostOf(const Step& step) const {
  return VectorCost(step) * QuadsOf(step.channels) * (GeometryOf(step).pixels / kLanes);
}

bool Scheduler::ReadsLittle(const Step& step) const {
  const Value& source = program_.values[static_cast<size_t>(step.source.value)];
  return source.plane_bytes * static_cast<size_t>(source.planes) <= kSmallInput;
}

void Scheduler::SplitQuads(Item item, int chunk) {
  const int end = item.first_quad + item.quads;
  for (int quad = item.first_quad; quad < end; quad += chunk) {
    item.first_quad = quad;
    item.quads = std::min(chunk, end - quad);
    items_.push_back(item);
  }
}

// Into parts of about the same size: pairs of vectors, which the kernels take together.
void Scheduler::SplitPixels(Item item, int tiles, int chunk_quads) {
  const int pixels = item.pixels;
  const int pairs = (pixels / kLanes + 1) / 2;
  for (int tile = 0, pair = 0; tile < tiles; ++tile) {
    const int next = static_cast<int>(int64_t{pairs} * (tile + 1) / tiles);
    item.first_pixel = 2 * kLanes * pair;
    item.pixels = std::min(2 * kLanes * next, pixels) - item.first_pixel;
    if (item.pixels > 0) SplitQuads(item, chunk_quads);
    pair = next;
  }
}

// Of an image of words, whose rows are planes.
void Scheduler::SplitRows(Item item) {
  const Step& step = program_.steps[static_cast<size_t>(item.step)];
  const Value& image = program_.values[static_cast<size_t>(step.target.value)];
  const ImageConv& conv = step.words.conv;
  const int64_t macs = step.bytes ? int64_t{step.conv.pairs} * 2 * static_cast<int64_t>(step.conv.offsets.size())
                                  : int64_t{conv.rows} * conv.taps * conv.depth;
  const int64_t word_cost = 1 + macs / kMacsAWord;
  const int64_t row_cost = static_cast<int64_t>(image.plane_bytes / sizeof(int16_t)) * word_cost;
  const int chunk = static_cast<int>(std::max<int64_t>(1, kLoadWords / row_cost));
  for (int row = 0; row < image.planes; row += chunk) {
    item.first_pixel = row;
    item.pixels = std::min(chunk, image.planes - row);
    items_.push_back(item);
  }
}

void Scheduler::Split(int index, int64_t cost) {
  const Step& step = program_.steps[static_cast<size_t>(index)];
  const int quads = QuadsOf(step.channels);
  const int pixels = GeometryOf(step).pixels;
  const Item item{index, 0, quads, 0, pixels, true};
  const int tiles = (pixels + kTilePixels - 1) / kTilePixels;
  switch (step.kind) {
    case StepKind::kRegrid:
    case StepKind::kBinaryPool:
    case StepKind::kLoadBits:
      return SplitQuads(item, threads_ == 1 ? quads : 2);
    case StepKind::kStore:
    case StepKind::kStoreBits:
      return SplitPixels(item, threads_ == 1 ? 1 : tiles, quads);
    case StepKind::kConv:
      return SplitPixels(item, (pixels + kConvPixels - 1) / kConvPixels, kConvChannels / kQuad);
    case StepKind::kLoadWords:
      return SplitRows(item);
    default:
      break;
  }
  const auto parts = [&](int64_t whole, int most) {
    return static_cast<int>(std::clamp<int64_t>((whole + cost - 1) / cost, 1, most));
  };
  const auto share = [&](int count) { return (quads + count - 1) / count; };
  // Alone, whoever only passes over floats does so plane by plane, which the processor sees coming.
  const bool passes = step.kind == StepKind::kRead || step.kind == StepKind::kPool || step.kind == StepKind::kResize;
  const bool few = pixels <= 8 * kTilePixels;
  if ((passes && (few || threads_ == 1)) || (step.kind == StepKind::kBconv && few && ReadsLittle(step))) {
    Item by_quads = item;
    by_quads.pixels_outside = false;
    return SplitQuads(by_quads, share(parts(CostOf(step), quads)));
  }
  if (threads_ == 1) return items_.push_back(item);
  const int even = std::min((tiles + threads_ - 1) / threads_ * threads_, pixels / kLanes);
  SplitPixels(item, even, share(parts(CostOf(step) / even, quads)));
}

void Scheduler::Run() {
  const std::vector<Step>& steps = program_.steps;
  levels_.push_back(0);
  for (size_t begin = 0, end = 0; begin < steps.size(); begin = end) {
    int64_t level_cost = 0;
    for (; end < steps.size() && steps[end].level == steps[begin].level; ++end) level_cost += CostOf(steps[end]);
    std::vector<int> order;
    for (size_t i = begin; i < end; ++i) order.push_back(static_cast<int>(i));
    // Large steps first: small ones then fill the gaps before the level's end.
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
      return CostOf(steps[static_cast<size_t>(a)]) > CostOf(steps[static_cast<size_t>(b)]);
    });
    const int64_t cost = std::max(kLeastCost, level_cost / (kItemsPerThread * threads_));
    std::vector<Item> front, back;
    for (const int step : order) {
      const size_t first = items_.size();
      Split(step, cost);
      // The odd one goes where there are fewer.
      const size_t half = (items_.size() - first + (front.size() <= back.size() ? 1 : 0)) / 2;
      front.insert(front.end(), items_.begin() + first, items_.begin() + first + half);
      back.insert(back.end(), items_.rbegin(), items_.rend() - first - half);
      items_.resize(first);
    }
    items_.insert(items_.end(), front.begin(), front.end());
    items_.insert(items_.end(), back.rbegin(), back.rend());
    levels_.push_back(static_cast<int>(items_.size()));
  }
  items_.push_back(items_.empty() ? Item{} : items_.back());
}

}  // namespace

Schedule ScheduleItems(const Program& program, int threads) {
  Schedule schedule;
  Scheduler(program, threads, &schedule).Run();
  return schedule;
}

}  // namespace bihrnet
