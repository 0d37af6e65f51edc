// What a kernel set offers, and the layouts that all of them share. Every set gives the same bits.
//
// Pixel-planar layout. A float value is one plane a channel: pixel (y, x) lies at index y * pitch + x, where
// pitch >= width leaves pad columns; planes are padded to a multiple of kLanes pixels, so that no loop has a tail.
// A sign value is one byte plane per four channels: bits 0..3 of a byte are channels 4q..4q+3 of that pixel, 1 where
// the value is negative (LCE's convention), bits 4..7 are 0. Pad columns, and a margin before and behind each plane,
// hold 0, which is LCE's padding value +1.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bihrnet {

constexpr int kQuad = 4;          // channels in a nibble, and channels in a kernel call
constexpr int kLanes = 32;        // pixels in a vector of nibbles; every pixel count is a multiple of it
constexpr int kTilePixels = 832;  // most pixels of one kernel call: what four channels of them take stays in L1

// Four output channels by up to kTilePixels pixels of a binary convolution. The receptive field is a list of nibbles,
// taps and planes alike: entry k lies offsets[k] bytes from `signs`. The list is padded to whole triples with
// kNoWeights.
struct BconvTile {
  const uint8_t* signs;     // the input's first plane, at the tile's first pixel
  const int32_t* offsets;   // [3 * triples]
  const uint16_t* weights;  // [2][3 * triples]; pair 0 is channels 0 and 1, pair 1 is channels 2 and 3
  int triples;
  int vectors;  // of kLanes pixels, 1 .. kTilePixels / kLanes
  bool halves;  // how accumulators are laid out: see AccumulatorAt
};

// Where a pixel's accumulator lies: in order; or, in `halves`, of every kLanes pixels the even ones before the odd
// ones, which is how kernels have them, and which bytes are put together from without a shuffle.
constexpr int AccumulatorAt(int pixel, bool halves) {
  return halves ? pixel / kLanes * kLanes + pixel % 2 * (kLanes / 2) + pixel % kLanes / 2 : pixel;
}

// A weight entry is the byte offset of a row of the lookup table in tables.h.
constexpr uint16_t PairWeights(unsigned even_nibble, unsigned odd_nibble) {
  return static_cast<uint16_t>((even_nibble | odd_nibble << 4) * 16);
}
constexpr uint16_t kNoWeights = 256 * 16;

// From accumulators (popcounts a of weight XOR sign) to float rows, in this order, each step rounded on its own:
//   y = float(min(max(2 a, clamp_min), clamp_max)) * multiplier + bias      (a bias of -0 counts as +0)
//   y = y >= 0 ? y : y * alpha          where alpha is given
//   y = y + residual                    where residual is given
//   y = y + second_residual             where second_residual is given
struct Epilogue {
  const uint16_t* acc;                  // [channels][kTilePixels], aligned to 16 bytes
  float* const* rows;                   // [channels] pointers to `pixels` floats
  const float* multiplier;              // [channels]
  const float* bias;                    // [channels]
  const float* alpha;                   // [channels] or null
  const float* const* residual;         // [channels] pointers to `pixels` floats, or null; may equal rows
  const float* const* second_residual;  // the same; null where residual is
  int32_t clamp_min;
  int32_t clamp_max;
  int channels;  // 1 .. kQuad
  int pixels;    // a multiple of kLanes, at most kTilePixels
};

// One operation on rows: f(x, operand), the operand a constant a channel or another row.
enum class Pointwise : uint8_t {
  kCopy,       // operand
  kAdd,        // x + operand
  kSub,        // x - operand
  kRsub,       // operand - x
  kMul,        // x * operand
  kMax,        // x < operand ? operand : x
  kMin,        // operand < x ? operand : x
  kPrelu,      // x >= 0 ? x : x * operand
  kRoundEven,  // to the nearest integer, ties to even; no operand
  kRoundAway,  // to the nearest integer, ties away from zero; no operand
};

struct PointwiseArgs {
  Pointwise op;
  float* const* rows;            // [channels] the results
  const float* const* source;    // [channels] x; may equal rows
  const float* const* operands;  // [channels] rows, or null: then constants
  const float* constants;        // [channels]
  int channels;                  // 1 .. kQuad
  int pixels;                    // a multiple of kLanes, at most kTilePixels
};

constexpr int kMaxTerms = 3;

// rows = ((source + term) + term...) * factor, in this order, each step rounded on its own.
struct Sum {
  float* const* rows;                    // [channels]
  const float* const* source;            // [channels]; may equal rows
  const float* const* terms[kMaxTerms];  // [count][channels]
  int count;                             // 1 .. kMaxTerms
  const float* factors;                  // [channels] or null
  int channels;                          // 1 .. kQuad
  int pixels;                            // a multiple of kLanes, at most kTilePixels
};

// nibbles[p] = mask[p] & sum over c of (rows[c][p] + bias[c] < 0) << c
// A sum of two floats is 0 only where it is exactly that, so it is as good to ask for rows[c][p] < -bias[c].
struct Quantize {
  const float* const* rows;  // [channels]
  const float* bias;         // [channels] or null for 0
  const uint8_t* mask;       // [pixels] 0x0f where the pixel exists, 0 at pad columns
  uint8_t* nibbles;          // [pixels]
  int channels;              // 1 .. kQuad
  int pixels;                // a multiple of kLanes, at most kTilePixels
};

// Between the runtime's NHWC floats and planes, one image row: pixel p's channel c is nhwc[p * nhwc_channels + c].
struct Transpose {
  float* const* rows;  // [channels] planes at the row's first pixel; only read by nhwc_from_rows
  float* nhwc;         // at the row's first pixel and the quad's first channel; only read by rows_from_nhwc
  int nhwc_channels;
  int channels;  // 1 .. kQuad
  int pixels;    // any number: an image row
};

// Half as many pixels, and rows, as there are: the mean of four, summed left to right, upper row first.
struct Halve {
  const float* from;  // [2 * rows] rows of 2 * pixels
  float* to;          // [rows] rows of `pixels`
  int pixels;
  int rows;
  int from_pitch;
  int to_pitch;
};

// From floats to integers, whole pixels: x = x >= 0 ? x : x * alpha where alpha is given, then the nearest integer,
// ties to even, within the bounds, NaN being `low`. PixelWords(channels) are written of a pixel, the last 0 where
// channels are odd.
struct Words {
  const float* nhwc;
  int16_t* words;
  const float* alpha;  // [channels] or null
  float low;           // both are integers of 16 bits
  float high;
  int channels;
  int pixels;      // any number
  int nhwc_pitch;  // floats, and words, from a pixel to the next
  int words_pitch;
};

constexpr int PixelWords(int channels) { return (channels + 1) / 2 * 2; }

constexpr int kConvChannels = 16;  // in a call of the convolution of words

// Up to kConvChannels output channels of a convolution of words, in pixels of one image row:
//   y = float(sum over the window of word * weight) * multiplier + bias, each step rounded on its own
// A window is `runs` runs of pairs of words. No sum of pairs, in whatever order, may leave int32.
struct ConvRow {
  const int16_t* words;     // the first pixel's window
  const int32_t* offsets;   // [runs] words from a window to its run
  const int16_t* weights;   // [runs][pairs][kConvChannels][2]
  const float* multiplier;  // [kConvChannels]
  const float* bias;        // [kConvChannels]
  float* const* rows;       // [channels] pointers to `pixels` floats
  int runs;
  int pairs;
  int step;  // words from a pixel's window to the next one's
  int channels;
  int pixels;  // any number
};

// The same of int8 tensors, whose words have their zero point taken off:
//   x = (bias + sum of word * weight) * mantissa / 2^31, then / 2^shift, each rounded to the nearest integer, ties up
//   x = x + offset, within low and high
// The sum may take 30 bits.
// Bytes go to rows; or, where there are `words`, x goes to an image of words of the next convolution, after
//   x = max(x, (x * slope / 128, rounded half up, + round) >> 8)          where there are slopes
// less `zero_point`.
struct ByteConvRow {
  const int16_t* words;  // these as in ConvRow
  const int32_t* offsets;
  const int16_t* weights;
  int runs;
  int pairs;
  int step;
  int channels;
  int pixels;
  const int32_t* bias;      // [kConvChannels]
  const int32_t* mantissa;  // [kConvChannels] not negative
  const int32_t* shift;     // [kConvChannels] 0 .. 31
  int offset;
  int low;
  int high;
  int8_t* const* rows;   // [channels] pointers to `pixels` bytes
  int16_t* to;           // the first pixel's first of these channels, or null
  const int16_t* slope;  // [kConvChannels] of 2^15, or null
  const int16_t* round;
  int to_pitch;  // words from a pixel to the next
  int16_t zero_point;
};

// kConvChannels output channels of a convolution of floats, in pixels of one image row whose windows lie alike: of a
// window that reaches past the image only what lies inside is given. Every step is rounded on its own, in this order:
//   y = ((bias + x0 * w0) + x1 * w1) + ...      rows, in each its taps, in each their channels
struct FloatConvRow {
  const float* image;    // the first pixel's window
  const float* weights;  // [taps][depth][kConvChannels] at the window's first row
  const float* bias;     // [kConvChannels]
  float* nhwc;           // [pixels][kConvChannels]
  size_t row_step;       // floats from a row of a window to the next one, and of weights
  size_t weight_row;
  size_t tap_step;  // floats from a tap to the next one
  size_t step;      // floats from a pixel's window to the next one's
  int rows;         // any of these three may be 0
  int taps;
  int depth;
  int pixels;  // any number
};

// A range of a plane that repeats every pixel of a smaller plane: pixel (y, x) is from[rows[y] * from_pitch + x /
// factor].
template <typename T>
struct RepeatOf {
  const T* from;  // the smaller plane
  int from_pitch;
  const int* rows;  // [height]
  int factor;
  T* to;  // the range's first pixel; pad columns are left as they are
  int y;  // of the range's first pixel
  int x;  // of it, below pitch
  int pixels;
  int height;
  int width;
  int pitch;
};
using Repeat = RepeatOf<float>;
using ByteRepeat = RepeatOf<int8_t>;  // as many as kLanes bytes are read past a row's last pixel

// Every second byte of every row: to[row * to_pitch + i] = from[row * from_pitch + 2 i].
struct Alternate {
  const uint8_t* from;  // 2 * count bytes of each row are read
  uint8_t* to;
  int count;
  int rows;
  int from_pitch;
  int to_pitch;
};

// int8 tensors are planes of bytes, laid out as those of floats are. From an accumulator to a channel's byte:
//   table[a]                                                              where there is a table
//   else x = (MulHigh(a * gain + base, factor) + more) >> 8               where there is a gain; words wrap, and
//   saturate
//                                                                         where `more` is added
//   else x = nearest integer, ties to even, to float(min(max(2 a, clamp_min), clamp_max)) * multiplier + bias, within
//        int8
//   x = max(x, (MulHigh(256 * x, slope) + round) >> 8)                    where there is a slope
// with MulHigh(a, b) = a * b / 2^15 to the nearest integer, ties up.
struct ByteCurve {
  uint16_t gain = 0;
  int16_t base = 0;
  int16_t factor = 0;
  int16_t more = 0;
  float multiplier = 0.0f;
  float bias = 0.0f;
  int16_t slope = 0;
  int16_t round = 0;
  bool has_slope = false;
  const int8_t* table = nullptr;  // [accumulators]
};

// A function of a byte: y = (MulHigh(256 * x, slope) + round) >> shift, words that saturate, within int8, or max(x, y)
// where `or_x`; where `table` is given, table[x + 128].
struct ByteMap {
  int16_t slope = 0;
  int16_t round = 0;
  int8_t shift = 8;  // 7 where the slope is more than 1
  bool or_x = false;
  const int8_t* table = nullptr;  // [256]
};

struct ByteMapArgs {
  int8_t* const* rows;          // [channels]
  const int8_t* const* source;  // [channels]; may equal rows
  const ByteMap* maps;          // [channels]
  int channels;                 // 1 .. kQuad
  int pixels;                   // a multiple of kLanes, at most kTilePixels
};

// rows = curve(acc) + residual + second_residual, each addition saturated.
struct ByteEpilogue {
  const uint16_t* acc;                   // [channels][kTilePixels] in halves, aligned to 32 bytes
  int8_t* const* rows;                   // [channels] pointers to `pixels` bytes
  const ByteCurve* curves;               // [channels]
  const int8_t* const* residual;         // [channels] pointers to `pixels` bytes, or null; may equal rows
  const int8_t* const* second_residual;  // the same; null where residual is
  int32_t clamp_min;
  int32_t clamp_max;
  int channels;  // 1 .. kQuad
  int pixels;    // a multiple of kLanes, at most kTilePixels
};

// The sum of two bytes. TensorFlow Lite scales both operands and their sum, and rounds three times; where nothing is
// rounded, or one operand is a multiple of the other, there is less to do.
struct ByteAddition {
  enum class Kind : uint8_t {
    kExact,      // TensorFlow Lite's own steps: see ExactSum
    kWhole,      // whole weights and one factor: see WholeSum
    kSaturated,  // a + b, within int8
  };
  Kind kind = Kind::kExact;
  int8_t weights[2] = {};  // 1 .. 127, together at most 128
  int16_t factor = 0;
  int16_t zero_points[3] = {};  // of a, b and the sum
  int second_shift = 0;         // of b, before its mantissa; a is always halved
  int32_t second_mantissa = 0;
  int32_t sum_mantissa = 0;
  int sum_shift = 0;  // to the right
  int8_t low = -128;
  int8_t high = 127;
};

struct ByteSum {
  int8_t* const* rows;     // [channels]
  const int8_t* const* a;  // [channels]; may equal rows
  const int8_t* const* b;  // the same
  const ByteAddition* how;
  int channels;  // 1 .. kQuad
  int pixels;    // a multiple of kLanes, at most kTilePixels
};

// As Halve, of bytes: a mean's ties go away from zero.
struct ByteHalve {
  const int8_t* from;
  int8_t* to;
  int pixels;
  int rows;
  int from_pitch;
  int to_pitch;
};

// nibbles[p] = mask[p] & (always | sum over c of (rows[c][p] < thresholds[c]) << c)
struct ByteSigns {
  const int8_t* const* rows;  // [channels]
  const int8_t* thresholds;   // [channels]
  uint8_t always;             // the channels that are always negative
  const uint8_t* mask;        // [pixels] 0x0f where the pixel exists, 0 at pad columns
  uint8_t* nibbles;           // [pixels]
  int channels;               // 1 .. kQuad
  int pixels;                 // a multiple of kLanes, at most kTilePixels
};

struct Kernels {
  const char* name;                                     // "scalar", "avx2", "neon"
  void (*bconv)(const BconvTile& tile, uint16_t* acc);  // acc[kQuad][kTilePixels]
  void (*epilogue)(const Epilogue& args);
  void (*pointwise)(const PointwiseArgs& args);
  void (*quantize)(const Quantize& args);
  void (*rows_from_nhwc)(const Transpose& args);
  void (*nhwc_from_rows)(const Transpose& args);
  void (*halve)(const Halve& args);
  void (*every_second)(const Alternate& args);
  void (*repeat)(const Repeat& args);
  void (*sum)(const Sum& args);
  void (*words_from_nhwc)(const Words& args);
  void (*conv)(const ConvRow& args);
  void (*float_conv)(const FloatConvRow& args);
  void (*byte_conv)(const ByteConvRow& args);
  void (*byte_epilogue)(const ByteEpilogue& args);
  void (*byte_sum)(const ByteSum& args);
  void (*byte_signs)(const ByteSigns& args);
  void (*byte_map)(const ByteMapArgs& args);
  void (*byte_halve)(const ByteHalve& args);
  void (*byte_repeat)(const ByteRepeat& args);
};

// The sets that were built in; null where the library lacks one or this CPU cannot run it.
const Kernels* ScalarKernels();
const Kernels* Avx2Kernels();
const Kernels* NeonKernels();

// The fastest set for this CPU, or the one called `name` ("scalar", "avx2", "neon"; null and "" choose).
// Returns null where there is no such set here.
const Kernels* SelectKernels(const char* name);

}  // namespace bihrnet
