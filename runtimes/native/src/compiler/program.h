// What the compiler makes of a region: values in planes, and steps that each pass over memory once.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/kernels.h"

namespace bihrnet {

// An image size and how its planes are laid out. Pixel (y, x) lies at y * pitch + x.
struct Geometry {
  int height = 0;
  int width = 0;
  int pitch = 0;
  int pixels = 0;        // height * pitch, rounded up to whole vectors
  int margin_front = 0;  // zero bytes before a sign plane: the pads above the image and left of its first pixel
  int margin_back = 0;
  std::vector<uint8_t> mask;  // [pixels] 0x0f where there is a pixel
};

// A tensor in planes: one a channel for floats and bytes, one every four channels for signs, one an image row for
// words.
struct Value {
  bool sign = false;
  bool bytes = false;  // int8 in place of floats
  int channels = 0;
  int geometry = 0;
  int planes = 0;
  size_t plane_bytes = 0;  // from one plane to the next; for signs with the margins
  size_t margin = 0;       // bytes from a sign plane's start to its first pixel
  size_t offset = 0;       // in the arena, set by the planner; unused where `stored` is false
  bool stored = false;     // false for a value that lives only inside a step
  int first_level = -1;
  int last_level = -1;
};

struct PlaneRef {
  int value = -1;
  int plane = 0;  // a channel of a float value, a quad of a sign value
};

// Where a convolution's receptive field lies, and its weights in the order of the kernels.
struct Bconv {
  int taps_height = 1;
  int taps_width = 1;
  std::vector<int32_t> offsets;   // [3 * triples], bytes from the first plane's first pixel
  std::vector<uint16_t> weights;  // [quads][2][3 * triples]
  int triples = 0;
  std::vector<float> multiplier;  // [channels]
  std::vector<float> bias;
  std::vector<float> alpha;       // of a fused PRELU; empty without
  std::vector<ByteCurve> curves;  // [channels] of bytes; `table` is set once the program stays where it is
  std::vector<int64_t> table_at;  // [channels] where the channel's table begins; -1 without
  std::vector<int8_t> tables;
  bool maps = false;                   // a map is part of the curves
  PlaneRef residuals[2];               // of fused additions; value -1 without
  int residual_resizes[2] = {-1, -1};  // as ChainOp::resize
  int32_t clamp_min = 0;
  int32_t clamp_max = 0;
  // Zero padding only: what a tap outside the image has to give back, [channels][taps]; empty otherwise.
  std::vector<int32_t> tap_sums;
  std::vector<int> tap_y;  // [taps_height] the tap's row at output row 0, in input pixels
  std::vector<int> tap_x;
  int stride_height = 1;
  int stride_width = 1;
  int input_height = 0;
  int input_width = 0;
};

// A convolution of an image of words, whose pads are part of the image: its planes are rows, top pads first.
struct Conv {
  std::vector<int32_t> offsets;   // [runs] words from a window's first to where each of its runs begins
  std::vector<int16_t> weights;   // [channels / kConvChannels, rounded up][runs][pairs][kConvChannels][2]
  std::vector<float> multiplier;  // [channels, rounded up to kConvChannels]
  std::vector<float> bias;
  int pairs = 0;
  int row_step = 0;  // rows, and words, from a pixel's window to that of the next row or column
  int column_step = 0;
  // Of bytes, as ByteConvRow has them, in place of `multiplier` and `bias`.
  std::vector<int32_t> sums;  // [channels, rounded up] what sums begin with
  std::vector<int32_t> mantissas;
  std::vector<int32_t> shifts;
  int offset = 0;
  int low = -128;
  int high = 127;
};

// A convolution of floats whose rows become words as soon as they are there. Where a window reaches past the image,
// only its taps inside count.
struct ImageConv {
  static constexpr int kRunPixels = 96;  // most of a run: what 16 channels of them take stays in L1
  struct Run {  // pixels of an output row whose windows have the same columns of taps inside the image
    int x = 0;
    int pixels = 0;
    int first_tap = 0;
    int taps = 0;
  };
  std::vector<Run> runs;
  std::vector<float> weights;  // [channels / kConvChannels, rounded up][rows][taps][depth][kConvChannels]
  std::vector<float> bias;     // [channels, rounded up to kConvChannels]
  int rows = 0;                // of the window
  int taps = 0;
  int depth = 0;
  int height = 0;  // of the image
  int width = 0;
  int pad_top = 0;
  int pad_left = 0;
  int stride_height = 1;
  int stride_width = 1;
  int dilation_height = 1;
  int dilation_width = 1;
};

// The taps of a window at `origin` that lie inside an image of this size: their first, and the one behind their last.
inline std::pair<int, int> TapsInside(int origin, int taps, int dilation, int size) {
  const int end = std::clamp((size - origin + dilation - 1) / dilation, 0, taps);
  return {std::clamp((dilation - 1 - origin) / dilation, 0, end), end};
}

// What makes an image of words of a tensor.
struct LoadWords {
  ImageConv conv;            // that makes the tensor's pixels; without runs where they are there
  size_t tensor_floats = 0;  // of an image of the region's input
  std::vector<float> alpha;  // [channels] of a PRELU before the rounding; empty without
  float low = 0.0f;
  float high = 0.0f;
  int pad_top = 0;  // rows, and pixels, that lie before the image
  int pad_left = 0;
  int columns = 0;  // of the image of words, pads included
  int pixel = 0;    // words from a pixel to the next
  // Of int8 tensors, which Step::conv may make, an image of words before this one being the step's source.
  int32_t zero_point = 0;
  std::vector<int16_t> slope;  // [channels, rounded up to kConvChannels] as ByteConvRow has them; empty without
  std::vector<int16_t> round;
};

// A stride or a VALID window is undone by copying signs to planes that have the output's pitch, one set a phase.
struct Regrid {
  struct Phase {
    int y = 0;
    int x = 0;
  };
  std::vector<Phase> phases;
  int rows = 0;
  int columns = 0;
  int first_row = 0;  // in phase coordinates
  int first_column = 0;
  int pitch = 0;
  int stride_height = 1;
  int stride_width = 1;
};

struct Pool {
  int height = 1;
  int width = 1;
  int stride_height = 1;
  int stride_width = 1;
  int pad_top = 0;
  int pad_left = 0;
  bool average = true;
  int32_t low = -128;  // of bytes
  int32_t high = 127;
};

struct Resize {
  std::vector<int> row;     // [output height] source row
  std::vector<int> column;  // [output width] source column
  int factor = 0;           // where column[x] is x / factor for a whole factor; else 0
};

// One part of a region's output: channels of the tensor that lie in planes of one value.
struct Part {
  PlaneRef source;
  int first = 0;
  int channels = 0;
};

enum class StepKind : uint8_t {
  kLoad,        // NHWC floats or int8 -> planes
  kLoadBits,    // NHWC bitpacked words -> sign planes
  kLoadWords,   // NHWC floats or int8, planes of bytes, or a convolution of any of these -> an image of words
  kBconv,       // sign planes -> rows
  kConv,        // an image of words -> rows
  kDequantize,  // sign planes -> rows of +1 and -1
  kPool,        // planes of another geometry -> rows
  kResize,      // planes of another geometry -> rows
  kRead,        // planes -> rows
  kRegrid,      // sign planes -> sign planes
  kBinaryPool,  // sign planes -> sign planes
  kStore,       // planes -> NHWC floats or int8
  kStoreBits,   // sign planes -> NHWC bitpacked words
};

// What happens to four rows after they were produced, in order.
struct ChainOp {
  enum class Kind : uint8_t { kPointwise, kStore, kSign };
  Kind kind = Kind::kPointwise;
  Pointwise op = Pointwise::kCopy;
  PlaneRef plane;                // the operand, the target of a store (channel), or of signs (quad)
  int resize = -1;               // of Program::resizes, where the operand is the plane resized
  std::vector<float> constants;  // [channels] the operand where there is no plane; the bias of kSign, may be empty
  // Of bytes: a function of them, or an addition of Program::additions; kSign has thresholds.
  std::vector<int8_t> map;         // [channels][256], from -128 on
  std::vector<ByteMap> byte_maps;  // [channels] the same for the kernels; `table` as in Bconv
  int addition = -1;
  bool carries_second = false;     // the rows are the addition's second operand
  std::vector<int8_t> thresholds;  // [channels]
  std::vector<uint8_t> always;     // [channels] 1 where every byte is negative
};

struct Step {
  StepKind kind = StepKind::kRead;
  std::string name;
  int channels = 0;  // of the rows, or of the result
  int geometry = 0;  // of the rows, or of the result
  PlaneRef source;   // first plane read; unused by kLoad
  PlaneRef target;   // of kLoadBits, kLoadWords, kRegrid, kBinaryPool
  int tensor = -1;   // of a load or a store: index into the region's inputs or outputs
  bool tensor_is_int8 = false;
  bool bytes = false;       // the rows are bytes
  std::vector<Part> parts;  // of kStore
  std::vector<ChainOp> chain;
  PlaneRef direct;  // the chain's only store where that is its result: rows are these planes; else value -1
  int level = 0;    // steps of one level do not depend on each other
  int64_t macs = 0;
  // One of these, by kind.
  Bconv bconv;
  Conv conv;
  LoadWords words;
  Regrid regrid;
  Pool pool;
  Resize resize;
};

struct Program {
  std::vector<Geometry> geometries;
  std::vector<Value> values;
  std::vector<Step> steps;      // ordered by level
  std::vector<Resize> resizes;  // of operands that are resized as they are read
  std::vector<ByteAddition> additions;
  size_t arena_bytes = 0;
  size_t weight_bytes = 0;
  int batch = 1;
  std::vector<std::vector<int>> output_dims;  // of the region's outputs
  int levels = 0;
};

}  // namespace bihrnet
