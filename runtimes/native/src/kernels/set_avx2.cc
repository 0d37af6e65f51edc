// The AVX2 set as this library was built; a CPU check comes before its use, in select.cc.
#include "impl.h"

namespace bihrnet {

const Kernels* BuiltAvx2Kernels() {
#if defined(__AVX2__)
  static constexpr Kernels kSet = {"avx2",           BconvAvx2,         EpilogueAvx2,  PointwiseAvx2,   QuantizeAvx2,
                                   RowsFromNhwcAvx2, NhwcFromRowsAvx2,  HalveRowsAvx2, EverySecondAvx2, RepeatRowsAvx2,
                                   SumOfAvx2,        WordsFromNhwcAvx2, ConvAvx2,      FloatConvAvx2,   ByteConvAvx2,
                                   ByteEpilogueAvx2, ByteSumOfAvx2,     ByteSignsAvx2, ByteMapAvx2,     ByteHalveAvx2,
                                   ByteRepeatAvx2};
  return &kSet;
#else
  return nullptr;
#endif
}

}  // namespace bihrnet
