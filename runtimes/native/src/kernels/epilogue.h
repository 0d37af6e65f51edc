// Which instance of a vector kernel's float epilogue a call takes; what is not asked for costs nothing.
#pragma once

#include <cmath>
#include <type_traits>

#include "kernels.h"

namespace bihrnet {

namespace {  // a copy for every unit: each is compiled for its own ISA

template <typename Clamp, typename Prelu, typename F>
void ForResiduals(const Epilogue& args, F f) {
  if (args.second_residual != nullptr) return f(Clamp(), Prelu(), std::integral_constant<int, 2>());
  if (args.residual != nullptr) return f(Clamp(), Prelu(), std::integral_constant<int, 1>());
  f(Clamp(), Prelu(), std::integral_constant<int, 0>());
}

template <typename Clamp, typename F>
void ForPrelu(const Epilogue& args, F f) {
  args.alpha != nullptr ? ForResiduals<Clamp, std::true_type>(args, f) : ForResiduals<Clamp, std::false_type>(args, f);
}

// Calls f(clamp, prelu, residuals) with constants. Where nothing is clamped, doubling may be left to the multiplier.
template <typename F>
void ForEpilogue(const Epilogue& args, F f) {
  bool clamp = args.clamp_min > 0 || args.clamp_max < 2 * 65535;
  for (int c = 0; c < args.channels; ++c) clamp |= std::isinf(2.0f * args.multiplier[c]);
  clamp ? ForPrelu<std::true_type>(args, f) : ForPrelu<std::false_type>(args, f);
}

}  // namespace

}  // namespace bihrnet
