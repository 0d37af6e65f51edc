// Convolutions of integers: an image of words with its pads, and windows that are runs of it.
#include <cmath>

#include "compiler/lowering.h"

namespace bihrnet {
namespace {

// The channels come in the order of the file, as many to a call of the kernel as it takes.
void PackConv(const Tensor& filter, const Tensor* bias, const std::vector<float>& scale, bool row_is_run, Conv* conv) {
  const auto channels = static_cast<size_t>(filter.dims[0]);
  const auto height = static_cast<size_t>(filter.dims[1]);
  const auto width = static_cast<size_t>(filter.dims[2]);
  const auto depth = static_cast<size_t>(filter.dims[3]);
  const auto pixel = static_cast<size_t>(PixelWords(filter.dims[3]));
  constexpr size_t kGroup = kConvChannels;
  const size_t padded = (channels + kGroup - 1) / kGroup * kGroup;
  const size_t taps = height * width;
  conv->pairs = static_cast<int>((row_is_run ? width : 1) * pixel / 2);
  conv->weights.assign(padded * taps * pixel, 0);
  conv->multiplier.assign(padded, 0.0f);
  conv->bias.assign(padded, 0.0f);
  for (size_t c = 0; c < channels; ++c) {
    conv->multiplier[c] = scale[c];
    if (bias != nullptr) conv->bias[c] = bias->floats[c];
    int16_t* group = conv->weights.data() + c / kGroup * kGroup * taps * pixel;
    for (size_t tap = 0; tap < taps; ++tap) {
      for (size_t i = 0; i < depth; ++i) {
        const size_t word = tap * pixel + i;
        const float weight = filter.floats[(c * taps + tap) * depth + i] / scale[c];
        group[(word / 2 * kGroup + c % kGroup) * 2 + word % 2] = static_cast<int16_t>(weight);
      }
    }
  }
}

}  // namespace

std::string ConvName(const Node& node, const Tensor& filter) {
  const Window& window = node.window;
  std::string name = "conv " + std::to_string(window.height) + "x" + std::to_string(window.width);
  if (window.dilation_height > 1) name += " dilation " + std::to_string(window.dilation_height);
  if (window.stride_height > 1) name += " stride " + std::to_string(window.stride_height);
  return name + ", " + std::to_string(filter.dims[3]) + ">" + std::to_string(filter.dims[0]);
}

std::string Lowering::FindExactConvs() {
  taken_along_.assign(graph_.nodes.size(), false);
  for (size_t n = 0; n < graph_.nodes.size(); ++n) {
    if (graph_.nodes[n].op != Op::kConv) continue;
    ExactConv exact;
    if (!FindExactConv(graph_, static_cast<int>(n), &exact)) continue;
    for (const int node : exact.before) taken_along_[static_cast<size_t>(node)] = true;
    if (exact.image >= 0) taken_along_[static_cast<size_t>(exact.image)] = true;
    exact_[static_cast<int>(n)] = std::move(exact);
  }
  for (size_t n = 0; n < graph_.nodes.size(); ++n) {
    if (graph_.nodes[n].op != Op::kConv || taken_along_[n] || exact_.count(static_cast<int>(n)) != 0) continue;
    return graph_.nodes[n].name + ": it is not a convolution of integers.";
  }
  return "";
}

// The value of the image of words that a convolution reads, pads included, with `spare` words after each row; -1 where
// it is too large. Of `load`, whose pixel is given, it sets where the image lies in it.
int Lowering::PlaceWords(const Node& node, const Shape& shape, int spare, LoadWords* load) {
  const Window& window = node.window;
  const Shape& to = ShapeOf(node.outputs[0]);
  // What the last window reaches is the last that is stored.
  const int rows = (to.height - 1) * window.stride_height + (window.height - 1) * window.dilation_height + 1;
  load->columns = (to.width - 1) * window.stride_width + (window.width - 1) * window.dilation_width + 1;
  const int64_t row_words = int64_t{load->columns} * load->pixel + spare;
  if (row_words * rows > kMaxElements) {
    error_ = "a convolution of the region reaches too far.";
    return -1;
  }
  Value value;
  value.channels = shape.channels;
  value.geometry = GeometryOf(shape);
  value.planes = rows;
  value.plane_bytes = RoundUpBytes(sizeof(int16_t) * static_cast<size_t>(row_words), 64);
  // Rows a power of two apart would share the sets of a cache.
  if (value.plane_bytes % 1024 == 0) value.plane_bytes += 64;
  out_.program.values.push_back(value);
  load->pad_top =
      PlaceWindow(shape.height, window.height, window.stride_height, window.dilation_height, window.same).pad_before;
  load->pad_left =
      PlaceWindow(shape.width, window.width, window.stride_width, window.dilation_width, window.same).pad_before;
  return static_cast<int>(out_.program.values.size()) - 1;
}

// Where a convolution's windows lie in an image of words, whether or not a row of a window is one run of it.
void Lowering::PlaceWindows(const Node& node, int words, int pixel, Step* step) {
  const Window& window = node.window;
  const Tensor& filter = TensorOf(node.inputs[1]);
  const Shape& to = ShapeOf(node.outputs[0]);
  const auto row_words =
      static_cast<int>(out_.program.values[static_cast<size_t>(words)].plane_bytes / sizeof(int16_t));
  step->macs = int64_t{window.height} * window.width * filter.dims[3] * to.channels * to.height * to.width;
  const bool row_is_run = window.dilation_width == 1;
  for (int y = 0; y < window.height; ++y) {
    for (int x = 0; x < (row_is_run ? 1 : window.width); ++x) {
      step->conv.offsets.push_back(y * window.dilation_height * row_words + x * window.dilation_width * pixel);
    }
  }
  step->conv.row_step = window.stride_height;
  step->conv.column_step = window.stride_width * pixel;
}

// The value of the image that a convolution of integers reads; -1 where it is too large.
int Lowering::LoadWordsFor(const ExactConv& exact, const Node& node) {
  const Shape& shape = ShapeOf(exact.input);
  Step step;
  LoadWords& words = step.words;
  words.pixel = PixelWords(shape.channels);
  const int index = PlaceWords(node, shape, 0, &words);
  if (index < 0) return -1;
  const Node* image = exact.image >= 0 ? &graph_.nodes[static_cast<size_t>(exact.image)] : nullptr;
  const int tensor = image != nullptr ? image->inputs[0] : exact.input;
  const auto input = std::find(graph_.inputs.begin(), graph_.inputs.end(), tensor);
  step.tensor = static_cast<int>(input - graph_.inputs.begin());
  const Shape& from = ShapeOf(tensor);
  words.tensor_floats =
      static_cast<size_t>(from.height) * static_cast<size_t>(from.width) * static_cast<size_t>(from.channels);
  if (exact.slopes >= 0) {
    words.alpha = TensorOf(exact.slopes).floats.Copy();
    if (words.alpha.size() == 1) words.alpha.assign(static_cast<size_t>(shape.channels), words.alpha[0]);
  }
  words.low = exact.low;
  words.high = exact.high;
  step.name = "load " + TensorOf(tensor).name;
  if (image != nullptr) LowerImage(*image, &step);
  step.name += std::string(exact.slopes >= 0 ? " + prelu" : "") + " + round";
  AddOp(StepKind::kLoadWords, index, 0, shape.channels).detail = AddDetail(std::move(step));
  return index;
}

void Lowering::LowerConv(const Node& node) {
  const ExactConv& exact = exact_[node_];
  const Tensor& filter = TensorOf(node.inputs[1]);
  const int output = node.outputs[0];
  const Shape& to = ShapeOf(output);
  const int words = LoadWordsFor(exact, node);
  if (words < 0) return;
  Step step;
  step.name = ConvName(node, filter);
  PlaceWindows(node, words, PixelWords(filter.dims[3]), &step);
  PackConv(filter, node.inputs[2] >= 0 ? &TensorOf(node.inputs[2]) : nullptr, exact.scale,
           node.window.dilation_width == 1, &step.conv);
  const int value = AddValue(false, to.channels, GeometryOf(to));
  RangeOp& op = AddOp(StepKind::kConv, value, 0, to.channels);
  op.inputs = {{words, 0}};
  op.detail = AddDetail(std::move(step));
  PlacedOf(output).segments = {{{value, 0}, to.channels}};
  Activate(node);
}

}  // namespace bihrnet
