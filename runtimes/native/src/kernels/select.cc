#include <cstring>
#include <initializer_list>

#include "impl.h"

namespace bihrnet {

const Kernels* ScalarKernels() {
  static constexpr Kernels kSet = {
      "scalar",           BconvScalar,     EpilogueScalar,    PointwiseScalar,    QuantizeScalar,  RowsFromNhwcScalar,
      NhwcFromRowsScalar, HalveRowsScalar, EverySecondScalar, RepeatRowsScalar,   SumOfScalar,     WordsFromNhwcScalar,
      ConvScalar,         FloatConvScalar, ByteConvScalar,    ByteEpilogueScalar, ByteSumOfScalar, ByteSignsScalar,
      ByteMapScalar,      ByteHalveScalar, ByteRepeatScalar};
  return &kSet;
}

const Kernels* Avx2Kernels() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") ? BuiltAvx2Kernels() : nullptr;
#else
  return nullptr;
#endif
}

const Kernels* NeonKernels() {
#if defined(__aarch64__)
  static constexpr Kernels kSet = {"neon",           BconvNeon,         EpilogueNeon,  PointwiseNeon,   QuantizeNeon,
                                   RowsFromNhwcNeon, NhwcFromRowsNeon,  HalveRowsNeon, EverySecondNeon, RepeatRowsNeon,
                                   SumOfNeon,        WordsFromNhwcNeon, ConvNeon,      FloatConvNeon,   ByteConvNeon,
                                   ByteEpilogueNeon, ByteSumOfNeon,     ByteSignsNeon, ByteMapNeon,     ByteHalveNeon,
                                   ByteRepeatNeon};
  return &kSet;
#else
  return nullptr;
#endif
}

const Kernels* SelectKernels(const char* name) {
  const bool any = name == nullptr || *name == '\0';
  for (const Kernels* set : {Avx2Kernels(), NeonKernels(), ScalarKernels()}) {
    if (set != nullptr && (any || std::strcmp(name, set->name) == 0)) return set;
  }
  return nullptr;
}

}  // namespace bihrnet
