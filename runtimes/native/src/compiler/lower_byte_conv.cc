// Convolutions of int8 tensors: images of words, as those of integers have, made from the region's input, from planes
// of bytes, or row by row by the convolution before.
#include <algorithm>

#include "compiler/byte_curve.h"
#include "compiler/byte_range.h"
#include "compiler/lowering.h"

namespace bihrnet {
namespace {

// Pixels lie side by side where a row of the window is one run, else in whole pairs of words.
int WordsAPixel(const Window& window, int channels) {
  return window.dilation_width == 1 ? channels : PixelWords(channels);
}

void PackByteConv(const Node& node, const Tensor& filter, const Tensor* bias, Conv* conv) {
  const auto channels = static_cast<size_t>(filter.dims[0]);
  const auto height = static_cast<size_t>(filter.dims[1]);
  const auto width = static_cast<size_t>(filter.dims[2]);
  const auto depth = static_cast<size_t>(filter.dims[3]);
  const bool row_is_run = node.window.dilation_width == 1;
  const size_t runs = row_is_run ? height : height * width;
  const size_t run_words = (row_is_run ? width * depth : depth) + 1;
  constexpr size_t kGroup = kConvChannels;
  const size_t padded = (channels + kGroup - 1) / kGroup * kGroup;
  const size_t pairs = run_words / 2;
  conv->pairs = static_cast<int>(pairs);
  conv->weights.assign(padded * runs * pairs * 2, 0);
  conv->sums.assign(padded, 0);
  conv->mantissas = node.mantissas;
  conv->shifts = node.shifts;
  conv->mantissas.resize(padded);
  conv->shifts.resize(padded);
  for (size_t c = 0; c < channels; ++c) {
    if (bias != nullptr) conv->sums[c] = bias->ints[c];
    int16_t* group = conv->weights.data() + c / kGroup * kGroup * runs * pairs * 2;
    const int8_t* from = filter.bytes.data() + c * height * width * depth;
    const size_t run_weights = height * width * depth / runs;
    for (size_t run = 0; run < runs; ++run) {
      for (size_t i = 0; i < run_weights; ++i) {
        group[((run * pairs + i / 2) * kGroup + c % kGroup) * 2 + i % 2] = *from++;
      }
    }
  }
}

}  // namespace

// A convolution whose result nobody but the next one reads, a PRELU between them or not, hands over words.
void Lowering::FindByteChains() {
  const auto alone = [&](int tensor) {
    return consumers_[static_cast<size_t>(tensor)].size() == 1 && !IsOutput(tensor);
  };
  for (size_t n = 0; n < graph_.nodes.size(); ++n) {
    if (graph_.nodes[n].op != Op::kByteConv) continue;
    const int node = static_cast<int>(n);
    const int input = graph_.nodes[n].inputs[0];
    int prelu = WriterBefore(graph_, node, input);
    if (prelu < 0 || !alone(input)) continue;
    ByteChain chain;
    if (graph_.nodes[static_cast<size_t>(prelu)].op == Op::kPrelu) {
      const int between = graph_.nodes[static_cast<size_t>(prelu)].inputs[0];
      chain.conv = WriterBefore(graph_, prelu, between);
      chain.prelu = prelu;
      if (chain.conv < 0 || !alone(between)) continue;
    } else {
      chain.conv = prelu;
    }
    if (graph_.nodes[static_cast<size_t>(chain.conv)].op != Op::kByteConv) continue;
    if (chain.prelu >= 0) {
      const Node& slopes = graph_.nodes[static_cast<size_t>(chain.prelu)];
      chain.maps = ByteMapsOf(MapOf(slopes));
      const auto fits = [](const ByteMap& map) { return map.table == nullptr && map.or_x; };
      if (!std::all_of(chain.maps.begin(), chain.maps.end(), fits)) continue;
      taken_along_[static_cast<size_t>(chain.prelu)] = true;
    }
    taken_along_[static_cast<size_t>(chain.conv)] = true;
    byte_chains_[node] = std::move(chain);
  }
}

// The convolution's windows over its image of words, which is made first; -1 where that is too large.
int Lowering::PlaceByteConv(int index, Step* step) {
  const Node& node = graph_.nodes[static_cast<size_t>(index)];
  const Tensor& filter = TensorOf(node.inputs[1]);
  const int words = WordsForBytes(index);
  if (words < 0) return -1;
  step->name = "int8 " + ConvName(node, filter);
  PlaceWindows(node, words, WordsAPixel(node.window, filter.dims[3]), step);
  Conv& conv = step->conv;
  conv.offset = TensorOf(node.outputs[0]).zero_point;
  std::tie(conv.low, conv.high) = ByteRange(TensorOf(node.outputs[0]), node.activation);
  PackByteConv(node, filter, node.inputs[2] >= 0 ? &TensorOf(node.inputs[2]) : nullptr, &conv);
  return words;
}

int Lowering::WordsForBytes(int index) {
  const Node& node = graph_.nodes[static_cast<size_t>(index)];
  const int tensor = node.inputs[0];
  const Shape& shape = ShapeOf(tensor);
  Step step;
  step.bytes = true;
  LoadWords& load = step.words;
  load.pixel = WordsAPixel(node.window, shape.channels);
  load.zero_point = TensorOf(tensor).zero_point;
  PlaneRef source;
  const auto chain = byte_chains_.find(index);
  const auto input = std::find(graph_.inputs.begin(), graph_.inputs.end(), tensor);
  if (chain != byte_chains_.end()) {
    const int words = PlaceByteConv(chain->second.conv, &step);
    if (words < 0) return -1;
    source = {words, 0};
    for (const ByteMap& map : chain->second.maps) {
      load.slope.push_back(map.slope);
      load.round.push_back(map.round);
    }
    load.slope.resize(load.slope.empty() ? 0 : step.conv.sums.size());
    load.round.resize(load.slope.size());
    if (!chain->second.maps.empty()) step.name += " + prelu";
  } else if (input != graph_.inputs.end()) {
    step.tensor = static_cast<int>(input - graph_.inputs.begin());
    step.tensor_is_int8 = true;
    load.tensor_floats =
        static_cast<size_t>(shape.height) * static_cast<size_t>(shape.width) * static_cast<size_t>(shape.channels);
    step.name = "load " + TensorOf(tensor).name;
  } else {
    source = Contiguous(tensor, 0)[0].from;
    step.name = "words";
  }
  const int words = PlaceWords(node, shape, kConvChannels, &load);  // the last pair may lack its second word
  if (words < 0) return -1;
  RangeOp& op = AddOp(StepKind::kLoadWords, words, 0, shape.channels);
  if (source.value >= 0) op.inputs = {source};
  op.detail = AddDetail(std::move(step));
  return words;
}

void Lowering::LowerByteConv(const Node& node) {
  const int output = node.outputs[0];
  const Shape& to = ShapeOf(output);
  Step step;
  const int words = PlaceByteConv(node_, &step);
  if (words < 0) return;
  const int value = AddValueOf(output);
  RangeOp& op = AddOp(StepKind::kConv, value, 0, to.channels);
  op.inputs = {{words, 0}};
  op.detail = AddDetail(std::move(step));
  PlacedOf(output).segments = {{{value, 0}, to.channels}};
}

}  // namespace bihrnet
