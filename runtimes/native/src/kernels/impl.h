// The functions behind the kernel sets, one name an ISA. Units of an ISA that the target lacks compile to nothing.
#pragma once

#include "kernels.h"

namespace bihrnet {

#define BIHRNET_DECLARE_KERNELS(Isa)                    \
  void Bconv##Isa(const BconvTile&, uint16_t*);         \
  void Epilogue##Isa(const Epilogue&);                  \
  void Pointwise##Isa(const PointwiseArgs&);            \
  void Quantize##Isa(const Quantize&);                  \
  void RowsFromNhwc##Isa(const Transpose&);             \
  void SumOf##Isa(const Sum&);                          \
  void HalveRow##Isa(const Halve&);                     \
  void RepeatRow##Isa(const Repeat&);                   \
  void EverySecond##Isa(const uint8_t*, uint8_t*, int); \
  void NhwcFromRows##Isa(const Transpose&)

BIHRNET_DECLARE_KERNELS(Scalar);
BIHRNET_DECLARE_KERNELS(Avx2);
BIHRNET_DECLARE_KERNELS(Neon);

#undef BIHRNET_DECLARE_KERNELS

// The AVX2 set, null where it was compiled without AVX2; whether the CPU has AVX2 is not asked.
const Kernels* BuiltAvx2Kernels();

// Byte sums of popcount fields: a triple adds at most 12 to a field, so a byte holds this many triples.
constexpr int kTriplesPerFlush = 21;

}  // namespace bihrnet
