// The functions behind the kernel sets, one name an ISA. Units of an ISA that the target lacks compile to nothing.
#pragma once

#include "byte_sum.h"
#include "kernels.h"

namespace bihrnet {

#define BIHRNET_DECLARE_KERNELS(Isa)            \
  void Bconv##Isa(const BconvTile&, uint16_t*); \
  void Epilogue##Isa(const Epilogue&);          \
  void Pointwise##Isa(const PointwiseArgs&);    \
  void Quantize##Isa(const Quantize&);          \
  void RowsFromNhwc##Isa(const Transpose&);     \
  void SumOf##Isa(const Sum&);                  \
  void HalveRows##Isa(const Halve&);            \
  void RepeatRows##Isa(const Repeat&);          \
  void EverySecond##Isa(const Alternate&);      \
  void NhwcFromRows##Isa(const Transpose&);     \
  void WordsFromNhwc##Isa(const Words&);        \
  void Conv##Isa(const ConvRow&);               \
  void FloatConv##Isa(const FloatConvRow&);     \
  void ByteConv##Isa(const ByteConvRow&);       \
  void ByteEpilogue##Isa(const ByteEpilogue&);  \
  void ByteSumOf##Isa(const ByteSum&);          \
  void ByteSigns##Isa(const ByteSigns&);        \
  void ByteMap##Isa(const ByteMapArgs&);        \
  void ByteHalve##Isa(const ByteHalve&);        \
  void ByteRepeat##Isa(const ByteRepeat&)

BIHRNET_DECLARE_KERNELS(Scalar);
BIHRNET_DECLARE_KERNELS(Avx2);
BIHRNET_DECLARE_KERNELS(Neon);

#undef BIHRNET_DECLARE_KERNELS

// The AVX2 set, null where it was compiled without AVX2; whether the CPU has AVX2 is not asked.
const Kernels* BuiltAvx2Kernels();

// Byte sums of popcount fields: a triple adds at most 12 to a field, so a byte holds this many triples.
constexpr int kTriplesPerFlush = 21;

namespace {  // a copy for every unit: each is compiled for its own ISA

// Pixels [first, end) of a halved row.
inline void HalveRow(const float* upper, const float* lower, float* to, int first, int end) {
  for (int i = first; i < end; ++i) {
    to[i] = (upper[2 * i] + upper[2 * i + 1] + lower[2 * i] + lower[2 * i + 1]) * 0.25f;
  }
}

// Calls f(from, x, to, count) for what the range has of every image row.
template <typename T, typename F>
inline void ForEachRow(const RepeatOf<T>& args, F f) {
  int x = args.x;
  int at = -x;  // of the row's first pixel in the range
  for (int y = args.y; y < args.height && at < args.pixels; ++y, at += args.pitch, x = 0) {
    const int end = args.width < args.pixels - at ? args.width : args.pixels - at;
    if (x < end) f(args.from + static_cast<ptrdiff_t>(args.rows[y]) * args.from_pitch, x, args.to + at + x, end - x);
  }
}

template <typename T>
inline void RepeatEach(const RepeatOf<T>& args) {
  ForEachRow(args, [&](const T* from, int x, T* to, int count) {
    for (int i = 0; i < count; ++i) to[i] = from[(x + i) / args.factor];
  });
}

inline int8_t HalfBytes(const int8_t* upper, const int8_t* lower, int i) {
  const int sum = upper[2 * i] + upper[2 * i + 1] + lower[2 * i] + lower[2 * i + 1];
  return static_cast<int8_t>((sum > 0 ? sum + 2 : sum - 2) / 4);
}

// A row of a channel whose curve is a table.
inline void ByteTableRow(const ByteEpilogue& args, int channel) {
  const auto add = [](int x, int y) {
    const int sum = x + y;
    return sum < -128 ? -128 : sum > 127 ? 127 : sum;
  };
  const uint16_t* acc = args.acc + channel * kTilePixels;
  const int8_t* table = args.curves[channel].table;
  int8_t* row = args.rows[channel];
  for (int p = 0; p < args.pixels; ++p) {
    int x = table[acc[AccumulatorAt(p, true)]];
    if (args.residual != nullptr) x = add(x, args.residual[channel][p]);
    if (args.second_residual != nullptr) x = add(x, args.second_residual[channel][p]);
    row[p] = static_cast<int8_t>(x);
  }
}

}  // namespace

}  // namespace bihrnet
